import { generateKeyPairSync } from 'node:crypto'
import type { JWK } from 'jose'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { BACKCHANNEL_LOGOUT_EVENT } from '../../src/protocol/logout-token.ts'
import { createRelyingParty, type RelyingParty, type RpLogEvent, type RpSessionStore } from '../../src/rp.ts'
import { memoryStore } from '../../src/rp-memory.ts'
import { world } from '../../src/runtime/runtime.ts'
import { opened, START, someSession, statesOf } from '../../src/testing/rp-store-bench.ts'
import { type FakeOp, startFakeOp } from './fake-op.ts'
import { postForm, textOf } from './plain-request.ts'

/* Logout Tokens whose headers want to say by which key they are verified, and OPs with odd keys beside the good one. */

let op: FakeOp
let rp: RelyingParty | undefined
let sessions: RpSessionStore
let now = START * 1000
const log: RpLogEvent[] = []
const short = generateKeyPairSync('rsa', { modulusLength: 1024 })
const tooShort = short.publicKey.export({ format: 'jwk' }) as JWK

beforeAll(async () => {
  op = await startFakeOp()
})
afterAll(() => op.close())
afterEach(async () => {
  op.answers.delete('/jwks')
  await rp?.close()
})

/** A relying party that knows no key yet, and an RP session of the sid `s`; the OP publishes these keys. */
async function start(keys: readonly unknown[] = op.keys.published): Promise<void> {
  op.answers.set('/jwks', { status: 200, body: { keys } })
  op.asked.clear()
  now = START * 1000
  const store = memoryStore()
  const identity = { issuer: op.issuer, clientId: 'notes' }
  const runtime = { ...world, now: () => now }
  const appUrl = 'https://notes.example'
  rp = createRelyingParty({ ...identity, clientSecret: 's', appUrl, store, runtime, log: (event) => log.push(event) })
  sessions = store.forClient(identity, runtime)
  await opened(sessions, someSession({ handle: 'laptop', sid: 's' }))
}

let count = 0

function claims(): Record<string, unknown> {
  const events = { [BACKCHANNEL_LOGOUT_EVENT]: {} }
  return { iss: op.issuer, aud: 'notes', iat: START, exp: START + 120, jti: `j${++count}`, sid: 's', events }
}

const base64url = (text: string) => Buffer.from(text).toString('base64url')

/** Signs with the OP's own key what no library would put together. */
function signed(header: string, payload = JSON.stringify(claims())): Promise<string> {
  return signedParts(base64url(header), base64url(payload))
}

async function signedParts(...parts: string[]): Promise<string> {
  const content = parts.join('.')
  const signature = await crypto.subtle.sign('RSASSA-PKCS1-v1_5', op.keys.private.RS256, Buffer.from(content))
  return `${content}.${Buffer.from(signature).toString('base64url')}`
}

async function sendAndRead(token: string) {
  log.length = 0
  const answer = await postForm(rp as RelyingParty, '/auth/backchannel-logout', { logout_token: token })
  const { error, error_description: description } = answer.status === 200 ? {} : JSON.parse(textOf(answer))
  const check = log.find((event) => event.event === 'logout_token_refused')?.check
  return { status: answer.status, error, description, check, state: (await statesOf(sessions, 'laptop'))[0] }
}

async function send(token: string) {
  const { description: _, ...answer } = await sendAndRead(token)
  return answer
}

const accepted = { status: 200, error: undefined, check: undefined, state: 'ended' }
const refused = (check: string) => ({ status: 400, error: 'invalid_request', check, state: 'alive' })

/** The RS256 key that the OP signs with. */
const good = () => op.keys.published[0] as JWK

describe('a Logout Token whose header', () => {
  const kid = () => JSON.stringify(op.keys.kid)

  it.each([
    ['says alg twice, the last time none', 'alg', () => `{"alg":"RS256","kid":${kid()},"alg":"none"}`],
    ['has its alg behind __proto__', 'alg', () => `{"__proto__":{"alg":"RS256"},"kid":${kid()}}`],
    ['has alg a list', 'alg', () => `{"alg":["RS256"],"kid":${kid()}}`],
    ['has typ a list', 'typ', () => `{"alg":"RS256","kid":${kid()},"typ":["logout+jwt"]}`],
    ['has typ twice', 'typ', () => `{"alg":"RS256","kid":${kid()},"typ":"logout+jwt","typ":"at+jwt"}`],
    ['has a crit of nothing', 'crit', () => `{"alg":"RS256","kid":${kid()},"crit":[]}`],
    ['wants b64 to be understood', 'crit', () => `{"alg":"RS256","kid":${kid()},"b64":false,"crit":["b64"]}`],
  ])('%s is refused [A15] [A20]', async (_what, check, header) => {
    await start()
    expect(await send(await signed(header()))).toEqual(refused(check))
    expect([...op.asked.keys()]).toEqual([]) // no key is needed to see it
  })

  it.each([
    ['7', () => 7],
    ['null', () => null],
    ['a list', () => [op.keys.kid]],
    ['a path', () => '../../../dev/null'],
    ['__proto__', () => '__proto__'],
  ])('has kid %s fits no key [A17]', async (_what, odd) => {
    await start()
    expect(await send(await signed(JSON.stringify({ alg: 'RS256', kid: odd() })))).toEqual(refused('key'))
  })

  it.each([
    ['b64 that need not be understood', { b64: false }],
    ['a certificate of its own', { x5c: ['AAAA'], 'x5t#S256': 'AAAA' }],
    ['zip and enc, which are of encrypted ones', { zip: 'DEF', enc: 'A128GCM' }],
  ])('has %s is judged by the OP’s key alone [A19]', async (_what, more) => {
    await start()
    expect(await send(await signed(JSON.stringify({ alg: 'RS256', kid: op.keys.kid, ...more })))).toEqual(accepted)
  })
})

describe('a Logout Token that the OP really signed', () => {
  const header = () => JSON.stringify({ alg: 'RS256', kid: op.keys.kid })
  const payload = () => JSON.stringify(claims())
  const padded = (text: string) => `${base64url(text)}=`
  const notUtf8 = () => Buffer.from(payload().replace('"s"', '"\u00ff"'), 'latin1').toString('base64url')

  it.each([
    ['padded in its header', () => [padded(header()), base64url(payload())]],
    ['padded in its payload', () => [base64url(header()), padded(payload())]],
    ['broken into lines', () => [base64url(header()), `${base64url(payload())}\n`]],
    ['in the other base64', () => [base64url(header()), `${base64url(payload())}+/`]],
    ['of four parts', () => [base64url(header()), base64url(payload()), 'AAAA']],
    ['of two parts', () => [base64url(header())]],
    ['not in UTF-8', () => [base64url(header()), notUtf8()]],
  ])('but %s is none, and the OP is asked nothing for it [A12]', async (_what, parts) => {
    await start()
    expect(await send(await signedParts(...parts()))).toEqual(refused('format'))
    expect([...op.asked.keys()]).toEqual([])
  })

  it.each([
    ['exp', '"exp":1e999', `"exp":${START + 120}`],
    ['iat', '"iat":-1e999', `"iat":${START}`],
    ['toe', '"toe":-1,"sid":"s"', '"sid":"s"'],
    ['nbf', '"nbf":-1e999,"sid":"s"', '"sid":"s"'],
  ])('but whose %s is no time is refused [A27] [A28]', async (check, odd, usual) => {
    await start()
    const changed = payload().replace(usual, odd)
    expect(changed).toContain(odd)
    expect(await send(await signed(header(), changed))).toEqual(refused(check))
  })
})

describe('a Logout Token that says a thing twice', () => {
  it.each([
    ['sid', '"sid":"s"', '"sid":"other","sid":"s"', accepted],
    ['sid', '"sid":"s"', '"sid":"s","sid":7', refused('sid')],
    ['nonce', '"sid":"s"', '"nonce":"n","sid":"s","nonce":null', refused('nonce')],
    ['aud', '"aud":"notes"', '"aud":"notes","aud":"mail"', refused('aud')],
  ])('means the last one of %s [RFC 7519 §4]', async (_claim, once, twice, expected) => {
    await start()
    const payload = JSON.stringify(claims()).replace(once, twice)
    expect(payload).toContain(twice)
    expect(await send(await signed(JSON.stringify({ alg: 'RS256', kid: op.keys.kid }), payload))).toEqual(expected)
  })
})

describe('among the OP’s keys', () => {
  it.each([
    ['an encryption key', () => ({ ...good(), use: 'enc' })],
    ['one that may only encrypt', () => ({ ...good(), key_ops: ['encrypt'] })],
    ['one for another algorithm', () => ({ ...good(), alg: 'RS512' })],
    ['a secret', () => ({ kty: 'oct', k: 'AAAA', kid: op.keys.kid, alg: 'RS256' })],
    ['one of another kind', () => ({ ...op.keys.published[1] })],
    ['none at all', () => undefined],
  ])('%s verifies no Logout Token, though the header names it [A15]', async (_what, odd) => {
    await start([odd()].filter((jwk) => jwk !== undefined))
    expect(await send(await op.mint(claims()))).toEqual(refused('key'))
  })

  it.each([
    ['too short', () => ({ ...tooShort, kid: op.keys.kid })],
    ['no key at all', () => ({ kty: 'RSA', kid: op.keys.kid })],
    ['private', () => ({ ...(short.privateKey.export({ format: 'jwk' }) as JWK), kid: op.keys.kid })],
  ])('one that is %s is said to be, makes its Logout Tokens come again, and puts off no others', async (_what, odd) => {
    const putOff = { status: 400, error: 'temporarily_unavailable', check: undefined, state: 'alive' }
    const other = { ...good(), kid: 'other' }
    await start([odd(), other])
    const { description, ...answer } = await sendAndRead(await op.mint(claims()))
    expect(answer).toEqual(putOff)
    expect(description).toBe("The OP's key that fits the header cannot be used")
    expect(log).toEqual([{ event: 'logout_not_recorded', message: expect.stringContaining('cannot be used') }])
    op.answers.set('/jwks', { status: 200, body: { keys: [odd(), other, { ...good(), kid: 'new' }] } })
    now += 30_000
    expect(await send(await op.mint(claims()))).toEqual(putOff)
    expect(await send(await op.mint(claims(), { kid: 'new' }))).toEqual(accepted) // the keys are asked for at once
  })

  it.each([
    ['too short', () => tooShort],
    ['no key at all', () => ({ kty: 'RSA' })],
    ['another one', () => ({ ...good(), e: 'AQ' })],
  ])('one that has the good one’s kid and is %s is in nobody’s way, wherever it stands', async (_what, odd) => {
    const twin = { ...odd(), kid: op.keys.kid }
    for (const keys of [
      [twin, good()],
      [good(), twin],
      [...Array.from({ length: 300 }, () => ({ ...twin })), good()],
    ]) {
      await start(keys)
      expect(await send(await op.mint(claims()))).toEqual(accepted)
      await start(keys)
      expect(await send(await op.mint(claims(), { kid: undefined }))).toEqual(accepted)
    }
  })

  it('one that fits verifies no signature that is no base64url [A16]', async () => {
    await start()
    const [header, payload] = (await op.mint(claims())).split('.')
    expect(await send(`${header}.${payload}.!!!`)).toEqual(refused('format'))
  })

  it('several that fit verify no signature that is of none of them, nor one that is no base64url [A16]', async () => {
    await start([good(), { ...good() }])
    const [header, payload] = (await op.mint(claims())).split('.')
    for (const signature of ['AAAA', '!!!', '']) {
      const { check, ...answer } = await send(`${header}.${payload}.${signature}`)
      expect(answer).toEqual({ status: 400, error: 'invalid_request', state: 'alive' })
      expect(['signature', 'format']).toContain(check)
    }
  })

  it('a Logout Token is verified by one that is published no more while it is being verified, or refused, and nothing else', async () => {
    await start()
    const tokens = await Promise.all(Array.from({ length: 10 }, () => op.mint(claims())))
    await op.rotate()
    op.answers.delete('/jwks')
    const fresh = await Promise.all(Array.from({ length: 10 }, () => op.mint(claims())))
    const answers = await Promise.all([...tokens, ...fresh].map((token) => send(token)))
    expect(answers.slice(0, 10).every(({ status }) => status === 400)).toBe(true)
    expect(answers.slice(10).every(({ status }) => status === 200)).toBe(true)
    expect(op.asked.get('/jwks')).toBe(1)
  })
})
