import { CompactEncrypt, type CryptoKey, generateKeyPair } from 'jose'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { BACKCHANNEL_LOGOUT_EVENT } from '../../src/protocol/logout-token.ts'
import { signedIdToken } from '../../src/rp/decrypt-token.ts'
import {
  createRelyingParty,
  type RelyingParty,
  type RelyingPartyOptions,
  type RpLogEvent,
  type RpSessionStore,
} from '../../src/rp.ts'
import { memoryStore } from '../../src/rp-memory.ts'
import { world } from '../../src/runtime/runtime.ts'
import { opened, START, someSession, statesOf } from '../../src/testing/rp-store-bench.ts'
import { type FakeOp, startFakeOp } from './fake-op.ts'
import { ask, postForm } from './plain-request.ts'

let op: FakeOp
let rp: RelyingParty | undefined
let sessions: RpSessionStore
let log: RpLogEvent[] = []
let rsa: { publicKey: CryptoKey; privateKey: CryptoKey }
let now = START * 1000

beforeAll(async () => {
  op = await startFakeOp()
  rsa = await generateKeyPair('RSA-OAEP-256')
})
afterAll(() => op.close())
beforeEach(() => {
  now = START * 1000
})
afterEach(async () => {
  await rp?.close()
  rp = undefined
})

/** A relying party with these options, and an RP session of ada's laptop that began ten seconds ago. */
async function start(options: Partial<RelyingPartyOptions<undefined>>): Promise<RelyingParty> {
  const store = memoryStore()
  const runtime = { ...world, now: () => now }
  log = []
  rp = createRelyingParty({
    issuer: op.issuer,
    clientId: 'notes',
    clientSecret: 's',
    appUrl: 'https://notes.example',
    store,
    log: (event) => log.push(event),
    runtime,
    ...options,
  })
  sessions = store.forClient({ issuer: op.issuer, clientId: 'notes' }, runtime)
  await opened(sessions, someSession({ handle: 'laptop', sid: 's', firstIat: START - 10 }))
  return rp
}

let count = 0

function claims(parts: Record<string, unknown> = {}): Record<string, unknown> {
  const events = { [BACKCHANNEL_LOGOUT_EVENT]: {} }
  const good = { iss: op.issuer, aud: 'notes', iat: START, exp: START + 120, jti: `j${++count}`, sid: 's', events }
  return Object.fromEntries(Object.entries({ ...good, ...parts }).filter(([, value]) => value !== undefined))
}

async function send(token: string) {
  const { status } = await postForm(rp as RelyingParty, '/auth/backchannel-logout', { logout_token: token })
  const refused = log.find((event) => event.event === 'logout_token_refused')
  return { status, check: refused?.check, state: (await statesOf(sessions, 'laptop'))[0] }
}

const accepted = { status: 200, check: undefined, state: 'ended' }
const refused = (check: string) => ({ status: 400, check, state: 'alive' })

describe('allow.logoutTokenWithoutExp', () => {
  it('is off: a Logout Token without exp is refused [BC §2.4]', async () => {
    await start({})
    expect(await send(await op.mint(claims({ exp: undefined })))).toEqual(refused('exp'))
  })

  it('takes one without exp for ten minutes, once, and still holds those with exp to it', async () => {
    await start({ allow: { logoutTokenWithoutExp: true } })
    expect(await send(await op.mint(claims({ iat: START - 601, exp: undefined })))).toEqual(refused('iat'))
    log = []
    await start({ allow: { logoutTokenWithoutExp: true } })
    expect(await send(await op.mint(claims({ iat: START - 60, exp: START - 61 })))).toEqual(refused('exp'))
    const token = await op.mint(claims({ exp: undefined }))
    log.length = 0
    expect(await send(token)).toEqual(accepted)
    now += 599_000 // the jti is remembered as long as the token would pass
    expect(await send(token)).toMatchObject({ status: 400, check: 'replay' })
  })

  it('does not take an exp that is there and no number', async () => {
    await start({ allow: { logoutTokenWithoutExp: true } })
    expect(await send(await op.mint(claims({ exp: null })))).toEqual(refused('exp'))
  })
})

describe('allow.logoutTokenWithoutTyp', () => {
  it.each(['JWT', undefined])('is on: typ %s is accepted [BC §4.1] [A21]', async (typ) => {
    await start({})
    expect(await send(await op.mint(claims(), { typ }))).toEqual(accepted)
  })

  it.each(['JWT', undefined])('switched off refuses typ %s, and accepts logout+jwt [BC §2.4] [A21]', async (typ) => {
    await start({ allow: { logoutTokenWithoutTyp: false } })
    expect(await send(await op.mint(claims(), { typ }))).toEqual(refused('typ'))
    log.length = 0
    expect(await send(await op.mint(claims(), { typ: 'logout+jwt' }))).toEqual(accepted)
  })
})

describe('allow.sidReused', () => {
  it('is off: a logout by sid ends every RP session that has it [T3]', async () => {
    await start({})
    expect(await send(await op.mint(claims({ toe: START - 20 })))).toEqual(accepted)
  })

  it('lets a late logout by sid leave a newer login alone [T3]', async () => {
    await start({ allow: { sidReused: true } })
    expect(await send(await op.mint(claims({ toe: START - 20 })))).toMatchObject({ status: 200, state: 'alive' })
    expect(await send(await op.mint(claims({ toe: START - 10 })))).toEqual(accepted)
  })
})

describe('an encrypted Logout Token', () => {
  const keys = () => [{ key: rsa.privateKey, alg: 'RSA-OAEP-256', kid: 'enc' }]

  const encrypt = (token: string, to = rsa.publicKey, header: Record<string, string | undefined> = {}) =>
    new CompactEncrypt(new TextEncoder().encode(token))
      .setProtectedHeader({ alg: 'RSA-OAEP-256', enc: 'A128CBC-HS256', cty: 'JWT', kid: 'enc', ...header })
      .encrypt(to)

  it('is decrypted and then validated as any other [BC §2.6 (1)]', async () => {
    await start({ decryptionKeys: keys() })
    expect(await send(await encrypt(await op.mint(claims({ nonce: 'n' }))))).toEqual(refused('nonce'))
    log.length = 0
    expect(await send(await encrypt(await op.mint(claims())))).toEqual(accepted)
  })

  it.each([
    ['without kid, to a key that has one', true, undefined],
    ['with a kid, to a key that has none', false, 'enc'],
    ['without kid, to a key that has none', false, undefined],
  ])('may come %s [BC §2.6 (1)]', async (_how, keyHas, kid) => {
    const [key] = keys()
    if (key === undefined) throw new Error('no key')
    await start({ decryptionKeys: [keyHas ? key : { key: key.key, alg: key.alg }] })
    expect(await send(await encrypt(await op.mint(claims()), rsa.publicKey, { kid }))).toEqual(accepted)
  })

  it('within another is refused [BC §2.6 (1)]', async () => {
    await start({ decryptionKeys: keys() })
    expect(await send(await encrypt(await encrypt(await op.mint(claims()))))).toEqual(refused('format'))
  })

  it('that is compressed is refused before it is unfolded, good or a bomb [BC §2.6 (1)]', async () => {
    for (const content of [await op.mint(claims()), 'a'.repeat(10_000_000)]) {
      await start({ decryptionKeys: keys() })
      expect(await send(await encrypt(content, rsa.publicKey, { zip: 'DEF' }))).toEqual(refused('encryption'))
      expect(log).toEqual([expect.objectContaining({ message: '"zip" is not accepted' })])
      await rp?.close()
    }
  })

  it('is wanted where it was negotiated: a bare one is refused [BC §2.6 (1)]', async () => {
    await start({ decryptionKeys: keys() })
    expect(await send(await op.mint(claims()))).toEqual(refused('encryption'))
  })

  it('to another key, with another alg, or with garbage inside is refused [BC §2.6 (1)]', async () => {
    const other = await generateKeyPair('RSA-OAEP-256')
    await start({ decryptionKeys: keys() })
    expect(await send(await encrypt(await op.mint(claims()), other.publicKey))).toEqual(refused('encryption'))
    log.length = 0
    const token = await op.mint(claims())
    expect(await send(await encrypt(token, rsa.publicKey, { kid: 'unknown' }))).toEqual(refused('encryption'))
    log.length = 0
    expect(await send(await encrypt('not a JWT'))).toEqual(refused('format'))
    log.length = 0
    expect(await send('a.b.c.d.e')).toEqual(refused('format'))
    log.length = 0
    // A shared secret as key would let whoever knows the public half forge.
    const direct = await new CompactEncrypt(new TextEncoder().encode(token))
      .setProtectedHeader({ alg: 'dir', enc: 'A256GCM' })
      .encrypt(new Uint8Array(32))
    expect(await send(direct)).toEqual(refused('encryption'))
  })

  it.each([
    ['ID Tokens are decrypted with the same keys', true],
    ['a bare ID Token signs nobody in where encryption was negotiated', false],
  ])('has company: %s [Core §3.1.3.7 (1)]', async (_what, isEncrypted) => {
    now = Date.now()
    const one = await start({ decryptionKeys: keys() })
    const begun = await ask(one, 'GET', '/auth/login')
    const sent = new URL(begun.headers.location ?? '').searchParams
    const iat = Math.floor(now / 1000)
    const good = { iss: op.issuer, aud: 'notes', sub: 'grace', iat, exp: iat + 60, nonce: sent.get('nonce') }
    const signed = await op.mint(good, { typ: 'JWT' })
    const idToken = isEncrypted ? await encrypt(signed) : signed
    op.answers.set('/token', { status: 200, body: { access_token: 'a', token_type: 'Bearer', id_token: idToken } })
    const query = new URLSearchParams({ code: 'c', state: sent.get('state') ?? '', iss: op.issuer })
    const cookie = begun.cookies.map((line) => line.split(';')[0]).join('; ')
    const page = await ask(one, 'GET', `/auth/callback?${query}`, { cookie })
    expect(page.status).toBe(isEncrypted ? 303 : 502)
    expect(await sessions.listBySub('grace')).toHaveLength(isEncrypted ? 1 : 0)
  })

  it('and an ID Token in one envelope each: what is wrong with that of a login is said of a login', async () => {
    const keyOf = (key: CryptoKey) => [{ key, alg: 'RSA-OAEP-256' }]
    const idToken = await encrypt('signed')
    await expect(signedIdToken(idToken, keyOf(rsa.privateKey))).resolves.toBe('signed')
    const { privateKey: other } = await generateKeyPair('RSA-OAEP-256')
    for (const [token, key] of [
      [idToken, other],
      ['a.b.c.d.e', rsa.privateKey],
      ['a.b.c', rsa.privateKey],
    ] as const) {
      await expect(signedIdToken(token, keyOf(key))).rejects.toMatchObject({ code: 'op_answer_invalid' })
    }
  })

  it('needs private keys of the right kind at construction', async () => {
    await expect(start({ decryptionKeys: [{ key: rsa.publicKey, alg: 'RSA-OAEP-256' }] })).rejects.toThrow(
      /decryptionKeys/,
    )
    const allow: object = { withoutSignature: true }
    await expect(start({ allow })).rejects.toThrow('allow.withoutSignature is not an option')
  })
})
