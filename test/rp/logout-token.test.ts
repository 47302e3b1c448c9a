import { exportSPKI, importJWK, SignJWT, UnsecuredJWT } from 'jose'
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { BACKCHANNEL_LOGOUT_EVENT } from '../../src/protocol/logout-token.ts'
import {
  createRelyingParty,
  type RelyingParty,
  type RpLogEvent,
  type RpSessionStore,
  type RpStore,
} from '../../src/rp.ts'
import { memoryStore } from '../../src/rp-memory.ts'
import { world } from '../../src/runtime/runtime.ts'
import { opened, START, someSession, statesOf } from '../../src/testing/rp-store-bench.ts'
import { type FakeOp, startFakeOp } from './fake-op.ts'
import { ask, postForm, textOf } from './plain-request.ts'

// The numbers are the rows of the table of bad and hostile inputs that design section 5 names as the test list.

let op: FakeOp
let rp: RelyingParty
let sessions: RpSessionStore
let now = START * 1000
const log: RpLogEvent[] = []
const runtime = { ...world, now: () => now }
const others: RelyingParty[] = []
/** What came of each logout that reached the store, which alone claims a jti and sets a watermark. */
const recorded: string[] = []

beforeAll(async () => {
  op = await startFakeOp()
})

afterAll(() => op.close())

function relyingParty(issuer: string, store = memoryStore(), clientId = 'notes'): RelyingParty {
  const appUrl = 'https://notes.example'
  const one = createRelyingParty({
    issuer,
    clientId,
    clientSecret: 's',
    appUrl,
    store,
    log: (e) => log.push(e),
    runtime,
  })
  others.push(one)
  return one
}

function overheard(store: RpStore): RpStore {
  return {
    ...store,
    forClient(...of) {
      const inner = store.forClient(...of)
      const endBy: RpSessionStore['endBy'] = async (...logout) => {
        const result = await inner.endBy(...logout)
        recorded.push(result.outcome)
        return result
      }
      return { ...inner, endBy }
    },
  }
}

beforeEach(async () => {
  for (const one of others.splice(0)) await one.close()
  now = START * 1000
  log.length = 0
  recorded.length = 0
  const store = memoryStore()
  rp = relyingParty(op.issuer, overheard(store))
  sessions = store.forClient({ issuer: op.issuer, clientId: 'notes' }, runtime)
  await opened(sessions, laptop, phone, graces)
})

const laptop = someSession({ handle: 'laptop', sid: 'laptop', sub: 'ada' })
const phone = someSession({ handle: 'phone', sid: 'phone', sub: 'ada' })
const graces = someSession({ handle: 'graces', sid: 'graces', sub: 'grace' })

let count = 0

/** The claims of a good Logout Token for ada's laptop; `undefined` takes a claim away. */
function claims(parts: Record<string, unknown> = {}): Record<string, unknown> {
  const good = {
    iss: op.issuer,
    aud: 'notes',
    iat: START,
    exp: START + 120,
    jti: `jti-${++count}`,
    sub: 'ada',
    sid: 'laptop',
    events: { [BACKCHANNEL_LOGOUT_EVENT]: {} },
  }
  return Object.fromEntries(Object.entries({ ...good, ...parts }).filter(([, value]) => value !== undefined))
}

const receive = (token: string, at = rp) => postForm(at, '/auth/backchannel-logout', { logout_token: token })

/** Sends a token and says what came of it: the status, the check that refused it, what the store recorded, and whose RP sessions live on. */
async function outcomeOf(token: string) {
  const answer = await receive(token)
  expect(answer.headers['cache-control']).toBe('no-store')
  const refused = log.find((event) => event.event === 'logout_token_refused')
  if (answer.status === 400) expect(JSON.parse(textOf(answer))).toMatchObject({ error: 'invalid_request' })
  return { status: answer.status, check: refused?.check, recorded: [...recorded], alive: await alive() }
}

async function alive(): Promise<string> {
  const names = ['laptop', 'phone', 'graces']
  const states = await statesOf(sessions, ...names)
  return names.filter((_, index) => states[index] === 'alive').join(' ')
}

const accepted = { status: 200, check: undefined, recorded: ['ended'], alive: 'phone graces' }
const refused = (check: string) => ({ status: 400, check, recorded: [] as string[], alive: 'laptop phone graces' })

describe('a Logout Token is accepted', () => {
  it('with sid and sub and typ logout+jwt, and answered with exactly 200 [BC §2.8] [A1]', async () => {
    const answer = await receive(await op.mint(claims()))
    expect(answer).toMatchObject({
      status: 200,
      body: '',
      headers: { 'logout-sessions-ended': '1', 'cache-control': 'no-store' },
    })
    expect(await alive()).toBe('phone graces')
  })

  it.each([
    ['without typ, since deployed OPs send none [BC §4.1] [A21]', {}, { typ: undefined }],
    ['with typ JWT [BC §4.1] [A21]', {}, { typ: 'JWT' }],
    ['with typ application/logout+jwt [A23]', {}, { typ: 'application/logout+jwt' }],
    ['with typ in upper case [A23]', {}, { typ: 'LOGOUT+JWT' }],
    ['with aud an array of this client only [A26]', { aud: ['notes'] }, {}],
    ['with azp this client [A26]', { azp: 'notes' }, {}],
    ['with exp just past, within the clocks’ difference [A28]', { iat: START - 150, exp: START - 30 }, {}],
    ['with members in the event [A33]', { events: { [BACKCHANNEL_LOGOUT_EVENT]: { a: 1 } } }, {}],
    [
      'with a second event, as Keycloak sends [A33]',
      { events: { [BACKCHANNEL_LOGOUT_EVENT]: {}, revoke_offline_access: true } },
      {},
    ],
    ['with claims nobody knows [BCL-2.4-e] [E28]', { ignored_claim: 'x' }, {}],
    [
      'with jku, x5u and jwk in the header, which are not looked at [A19]',
      {},
      { jku: 'http://127.0.0.1:1/', x5u: 'http://127.0.0.1:1/', jwk: {} },
    ],
    ['with nbf past', { nbf: START - 5 }, {}],
    ['with toe [RFC 8417]', { toe: START - 3 }, {}],
    ['with an iat some seconds ahead of our clock', { iat: START + 30, exp: START + 150 }, {}],
  ])('%s', async (_name, parts, header) => {
    expect(await outcomeOf(await op.mint(claims(parts), header))).toEqual(accepted)
  })

  it('among parameters nobody knows [BC §2.5] [A9]', async () => {
    const token = await op.mint(claims())
    const answer = await postForm(rp, '/auth/backchannel-logout', { before: '1', logout_token: token, after: '2' })
    expect(answer.status).toBe(200)
  })

  it.each([
    'application/x-www-form-urlencoded; charset=UTF-8',
    'application/x-www-form-urlencoded;charset=utf-8;x=1',
    'Application/X-WWW-Form-Urlencoded',
  ])('from a form of the type %s [A10]', async (type) => {
    const body = new URLSearchParams({ logout_token: await op.mint(claims()) }).toString()
    const answer = await ask(rp, 'POST', '/auth/backchannel-logout', { 'content-type': type }, body)
    expect(answer.status).toBe(200)
  })

  it('without kid, when one of several keys of the algorithm verifies it', async () => {
    const old = op.keys
    await op.rotate()
    const both = { keys: [...old.published, ...op.keys.published] }
    op.answers.set('/jwks', { status: 200, body: both })
    try {
      expect(await outcomeOf(await op.mint(claims(), { kid: undefined }))).toEqual(accepted)
    } finally {
      op.answers.delete('/jwks')
    }
  })

  it('by the algorithm the client registered, also when that is not RS256 [BC §2.6 (3)]', async () => {
    const store = memoryStore()
    const appUrl = 'https://notes.example'
    const common = { issuer: op.issuer, clientId: 'notes', clientSecret: 's', appUrl, runtime, log: () => {} }
    const es = createRelyingParty({ ...common, store, idTokenSignedResponseAlg: 'ES256' })
    others.push(es)
    expect((await receive(await op.mint(claims(), {}, 'ES256'), es)).status).toBe(200)
    expect((await receive(await op.mint(claims(), {}, 'RS256'), es)).status).toBe(400)
  })
})

describe('a Logout Token is refused, and ends nobody,', () => {
  it.each([
    ['with typ at+jwt [BC §4.1] [A22]', 'typ', {}, { typ: 'at+jwt' }],
    ['with typ dpop+jwt [BC §4.1] [A22]', 'typ', {}, { typ: 'dpop+jwt' }],
    ['with typ secevent+jwt [BC §4.1] [A22]', 'typ', {}, { typ: 'secevent+jwt' }],
    ['with typ a number [BC §4.1] [A22]', 'typ', {}, { typ: 1 }],
    ['with another iss [BC §2.6 (4)] [A24]', 'iss', { iss: 'https://evil.example' }, {}],
    ['without iss [BC §2.6 (4)] [A24]', 'iss', { iss: undefined }, {}],
    ['with another aud [BC §2.6 (4)] [A26]', 'aud', { aud: 'mail' }, {}],
    ['without aud [BC §2.6 (4)] [A26]', 'aud', { aud: undefined }, {}],
    ['with an aud that names nobody [BC §2.6 (4)] [A26]', 'aud', { aud: [] }, {}],
    ['with an aud that is an object [A26]', 'aud', { aud: { notes: true } }, {}],
    ['with an aud in an aud [A26]', 'aud', { aud: [['notes']] }, {}],
    ['with an aud that others are in too [Core §3.1.3.7 (3)] [A26]', 'aud', { aud: ['notes', 'mail'] }, {}],
    ['with an azp that is not us [Core §3.1.3.7 (5)] [A26]', 'azp', { aud: ['notes'], azp: 'mail' }, {}],
    ['without iat [BC §2.4] [A27]', 'iat', { iat: undefined }, {}],
    ['with iat a string [A27]', 'iat', { iat: String(START) }, {}],
    ['with iat a day ago and a long exp [A27]', 'iat', { iat: START - 86_400, exp: START + 86_400 }, {}],
    ['with iat in the future [A27]', 'iat', { iat: START + 600, exp: START + 720 }, {}],
    ['without exp [BC §2.4] [A28]', 'exp', { exp: undefined }, {}],
    ['with exp past [BC §2.6 (4)] [A28]', 'exp', { iat: START - 300, exp: START - 61 }, {}],
    ['with exp past by all that clocks may differ [A28]', 'exp', { iat: START - 300, exp: START - 60 }, {}],
    ['with exp a string [A28]', 'exp', { exp: String(START + 120) }, {}],
    ['with nbf in the future [A29]', 'nbf', { nbf: START + 600 }, {}],
    ['with nbf a string [A29]', 'nbf', { nbf: 'soon' }, {}],
    ['without jti [BC §2.4] [A30]', 'jti', { jti: undefined }, {}],
    ['with jti a number [A30]', 'jti', { jti: 7 }, {}],
    ['with jti empty [A30]', 'jti', { jti: '' }, {}],
    ['with a jti of 2 kB [A30]', 'jti', { jti: 'j'.repeat(2048) }, {}],
    ['without events [BC §2.6 (6)] [A31]', 'events', { events: undefined }, {}],
    ['with events an array [BC §2.6 (6)] [A31]', 'events', { events: [BACKCHANNEL_LOGOUT_EVENT] }, {}],
    ['with events a string [BC §2.6 (6)] [A31]', 'events', { events: BACKCHANNEL_LOGOUT_EVENT }, {}],
    ['with events null [BC §2.6 (6)] [A31]', 'events', { events: null }, {}],
    [
      'with another event only [BC §2.6 (6)] [A31]',
      'events',
      { events: { 'http://schemas.openid.net/event/foobar': {} } },
      {},
    ],
    [
      'with the https spelling of the event [BC §2.6 (6)] [A31]',
      'events',
      { events: { [BACKCHANNEL_LOGOUT_EVENT.replace('http', 'https')]: {} } },
      {},
    ],
    ['with the event true [BC §2.6 (6)] [A32]', 'events', { events: { [BACKCHANNEL_LOGOUT_EVENT]: true } }, {}],
    ['with the event a string [BC §2.6 (6)] [A32]', 'events', { events: { [BACKCHANNEL_LOGOUT_EVENT]: 'x' } }, {}],
    ['with the event null [BC §2.6 (6)] [A32]', 'events', { events: { [BACKCHANNEL_LOGOUT_EVENT]: null } }, {}],
    ['with the event an array [BC §2.6 (6)] [A32]', 'events', { events: { [BACKCHANNEL_LOGOUT_EVENT]: [] } }, {}],
    ['with constructor as event [A34]', 'events', { events: { constructor: {} } }, {}],
    ['with a nonce [BC §2.6 (7)] [A35]', 'nonce', { nonce: 'n' }, {}],
    ['with an empty nonce [BC §2.6 (7)] [A35]', 'nonce', { nonce: '' }, {}],
    ['with nonce null [BC §2.6 (7)] [A35]', 'nonce', { nonce: null }, {}],
    ['with nonce 0 [BC §2.6 (7)] [A35]', 'nonce', { nonce: 0 }, {}],
    ['with neither sid nor sub [BC §2.6 (5)] [A36]', 'sub_or_sid', { sid: undefined, sub: undefined }, {}],
    ['with both empty [BC §2.6 (5)] [A36]', 'sub', { sid: '', sub: '' }, {}],
    ['with sid empty beside a good sub [A36]', 'sid', { sid: '' }, {}],
    ['with sid an object [A37]', 'sid', { sid: { $ne: null } }, {}],
    ['with sid a number [A37]', 'sid', { sid: 1 }, {}],
    ['with sid an array [A37]', 'sid', { sid: ['laptop'] }, {}],
    ['with sub an array [A37]', 'sub', { sub: ['ada'] }, {}],
    ['with sub null [A37]', 'sub', { sub: null }, {}],
    ['with toe in the future', 'toe', { toe: START + 600 }, {}],
    ['with toe a string', 'toe', { toe: 'now' }, {}],
    ['as an ID Token [A40]', 'events', { events: undefined, nonce: 'n', auth_time: START }, { typ: 'JWT' }],
    ['as an access token [A40]', 'typ', { events: undefined, scope: 'openid' }, { typ: 'at+jwt' }],
    ['as a JARM response [A40]', 'events', { events: undefined, code: 'c', state: 's' }, { typ: undefined }],
    ['as a request object [A40]', 'typ', { events: undefined, scope: 'openid' }, { typ: 'oauth-authz-req+jwt' }],
    ['as an old request object [A40]', 'events', { events: undefined, redirect_uri: 'x' }, { typ: undefined }],
    ['with a kid the OP does not publish [A17]', 'key', {}, { kid: 'unknown' }],
    ['by another algorithm, with a key the OP really publishes [BC §2.6 (3)] [A15]', 'alg', {}, {}, 'ES256'],
  ] as const)('%s', async (_name, check, parts, header, alg: 'RS256' | 'ES256' = 'RS256') => {
    expect(await outcomeOf(await op.mint(claims(parts), header, alg))).toEqual(refused(check))
  })

  it('with the right sid of another sub, whose jti and whose logout are then not remembered [BC §2.6 (11)] [A44]', async () => {
    const jti = 'of the wrong sub'
    expect(await outcomeOf(await op.mint(claims({ jti, sub: 'grace' })))).toEqual({
      ...refused('sub'),
      recorded: ['sub_mismatch'],
    })
    for (const { sub, firstIat } of [laptop, graces]) {
      expect(await sessions.loggedOutAt({ sid: 'laptop', sub, firstIat }, { sidReused: false })).toBeUndefined()
    }
    expect((await receive(await op.mint(claims({ jti })))).status).toBe(200)
  })

  it('with an iss that has one slash more [BC §2.6 (4)] [A24]', async () => {
    expect(await outcomeOf(await op.mint(claims({ iss: `${op.issuer}/` })))).toEqual(refused('iss'))
  })

  it.each([
    ['garbage', 'format', 'garbage'],
    ['two dots', 'format', '..'],
    ['two parts', 'format', 'a.b'],
    ['a header that is not JSON', 'format', `${Buffer.from('nope').toString('base64url')}.e30.x`],
    ['a header that is an array', 'format', `${Buffer.from('[]').toString('base64url')}.e30.x`],
    ['five parts: encryption was not negotiated [BC §2.6 (1)]', 'encryption', 'a.b.c.d.e'],
    ['more than 16 kB', 'size', `${'a'.repeat(20_000)}.b.c`],
  ])('that is %s [A12]', async (_name, check, token) => {
    expect(await outcomeOf(token)).toEqual(refused(check))
  })

  it('whose payload is not a JSON object [A12]', async () => {
    const header = Buffer.from(JSON.stringify({ alg: 'RS256' })).toString('base64url')
    for (const payload of ['nope', '[]', '"text"', 'null']) {
      log.length = 0
      const token = `${header}.${Buffer.from(payload).toString('base64url')}.sig`
      expect(await outcomeOf(token)).toEqual(refused('format'))
    }
  })

  it('without a signature [BC §2.6 (3)] [A13]', async () => {
    const token = new UnsecuredJWT(claims()).encode()
    expect(await outcomeOf(token)).toEqual(refused('alg'))
    const [, , signature] = (await op.mint(claims())).split('.')
    log.length = 0
    expect(await outcomeOf(`${token}${signature}`)).toEqual(refused('alg'))
  })

  it('by HS256 with the OP’s public key as the secret [BC §2.6 (3)] [A14]', async () => {
    const jwk = op.keys.published.find(({ alg }) => alg === 'RS256')
    const publicKey = await importJWK({ ...jwk, ext: true }, 'RS256')
    if (publicKey instanceof Uint8Array) throw new Error('not a public key')
    const secret = new TextEncoder().encode(await exportSPKI(publicKey))
    const token = await new SignJWT(claims()).setProtectedHeader({ alg: 'HS256' }).sign(secret)
    expect(await outcomeOf(token)).toEqual(refused('alg'))
  })

  it('whose payload was swapped under an old signature [BC §2.6 (3)] [A16]', async () => {
    const [header, , signature] = (await op.mint(claims({ sid: 'other' }))).split('.')
    const payload = Buffer.from(JSON.stringify(claims())).toString('base64url')
    expect(await outcomeOf(`${header}.${payload}.${signature}`)).toEqual(refused('signature'))
  })

  it('signed by a key of the attacker’s that the header brings along [BC §2.6 (3)] [A19]', async () => {
    const stranger = await startFakeOp()
    const [jwk] = stranger.keys.published
    const token = await stranger.mint(claims(), { jwk, kid: op.keys.kid, jku: `${stranger.issuer}/jwks` })
    expect(await outcomeOf(token)).toEqual(refused('signature'))
    expect(stranger.asked.get('/jwks')).toBeUndefined()
    await stranger.close()
  })

  it('with a crit that nobody understands [A20]', async () => {
    const [, payload, signature] = (await op.mint(claims())).split('.')
    const header = { alg: 'RS256', kid: op.keys.kid, crit: ['x'], x: 1 }
    const token = `${Buffer.from(JSON.stringify(header)).toString('base64url')}.${payload}.${signature}`
    expect(await outcomeOf(token)).toEqual(refused('crit'))
  })

  it('with __proto__ as event [A34]', async () => {
    const [header, , signature] = (await op.mint(claims())).split('.')
    const json = JSON.stringify(claims({ events: 'E' })).replace('"E"', '{"__proto__":{}}')
    const token = `${header}.${Buffer.from(json).toString('base64url')}.${signature}`
    expect(await outcomeOf(token)).toEqual(refused('events'))
    expect(({} as Record<string, unknown>)[BACKCHANNEL_LOGOUT_EVENT]).toBeUndefined()
  })

  it('when it is sent a second time [BC §2.6 (8)] [A2]', async () => {
    const token = await op.mint(claims())
    expect((await receive(token)).status).toBe(200)
    expect(await outcomeOf(token)).toEqual({
      status: 400,
      check: 'replay',
      recorded: ['ended', 'replay'],
      alive: 'phone graces',
    })
  })

  it.each([
    ['it expires', 120, 179],
    ['it is too old, though it would expire much later', 86_400, 600],
  ])('when it is sent again just before %s [BC §2.6 (8)] [A2]', async (_when, lifetime, later) => {
    const token = await op.mint(claims({ exp: START + lifetime }))
    expect((await receive(token)).status).toBe(200)
    now += later * 1000
    expect(await outcomeOf(token)).toMatchObject({ status: 400, check: 'replay' })
  })

  it('when it is sent again to a store whose clock is ahead of ours [BC §2.6 (8)] [A2] [T20]', async () => {
    const store = memoryStore()
    const ahead = { now: () => now + 50_000 }
    const at = relyingParty(op.issuer, { ...store, forClient: (identity) => store.forClient(identity, ahead) })
    const token = await op.mint(claims())
    expect((await receive(token, at)).status).toBe(200)
    now += 179_000
    expect((await receive(token, at)).status).toBe(400)
  })

  it('says which rule was broken, and never repeats the token or its claims', async () => {
    const token = await op.mint(claims({ nonce: 'a-nonce-of-mine' }))
    const answer = await receive(token)
    const said = JSON.stringify([textOf(answer), log])
    for (const secret of [token, 'a-nonce-of-mine', 'ada', 'laptop']) expect(said).not.toContain(secret)
  })
})

describe('a request to the back-channel endpoint is refused', () => {
  it.each(['GET', 'PUT', 'DELETE', 'HEAD'])('as %s, with no-store and Allow [BC §2.5] [A6]', async (method) => {
    const answer = await ask(rp, method, '/auth/backchannel-logout')
    expect(answer).toMatchObject({ status: 405, headers: { allow: 'POST', 'cache-control': 'no-store' } })
  })

  const form = { 'content-type': 'application/x-www-form-urlencoded' }

  it.each([
    ['without a body [A7]', 415, {}, ''],
    ['with an empty form [A7]', 400, form, ''],
    ['with JSON [A7]', 415, { 'content-type': 'application/json' }, '{"logout_token":"a.b.c"}'],
    ['with multipart [A7]', 415, { 'content-type': 'multipart/form-data; boundary=x' }, '--x--'],
    ['with an empty logout_token', 400, form, 'logout_token='],
    ['with a body over 64 kB [A11]', 413, form, `logout_token=${'a'.repeat(70_000)}`],
    ['with a jti of 100 kB [A30]', 413, form, `logout_token=${'a'.repeat(140_000)}`],
  ])('%s', async (_name, status, headers, body) => {
    const answer = await ask(rp, 'POST', '/auth/backchannel-logout', headers, body)
    expect(answer.status).toBe(status)
    expect(answer.headers['cache-control']).toBe('no-store')
    expect(JSON.parse(textOf(answer))).toMatchObject({ error: 'invalid_request' })
  })
})

it.each([
  ['twice', (token: string) => `logout_token=${token}&logout_token=${token}`],
  ['after another', (token: string) => `logout_token=a.b.c&logout_token=${token}`],
  ['before another', (token: string) => `logout_token=${token}&x=1&logout_token=`],
  ['twice, once percent-encoded', (token: string) => `logout_token=${token}&logout%5Ftoken=${token}`],
])('a good Logout Token that comes %s in one form ends nobody [E17] [A8]', async (_how, body) => {
  const headers = { 'content-type': 'application/x-www-form-urlencoded' }
  const token = await op.mint(claims())
  const answer = await ask(rp, 'POST', '/auth/backchannel-logout', headers, body(token))
  expect(answer.status).toBe(400)
  expect(JSON.parse(textOf(answer))).toMatchObject({ error: 'invalid_request' })
  expect([recorded, await alive()]).toEqual([[], 'laptop phone graces'])
  expect((await receive(token)).status).toBe(200) // its jti was not claimed
})

describe('a Logout Token ends', () => {
  it('only the RP session of its sid, though it names the sub too [BC §2.7] [A42]', async () => {
    expect(await outcomeOf(await op.mint(claims()))).toEqual(accepted)
  })

  it('all RP sessions of the End-User when it has no sid [BCL-2.4-c] [E27] [A43]', async () => {
    const answer = await receive(await op.mint(claims({ sid: undefined })))
    expect(answer.headers['logout-sessions-ended']).toBe('2')
    expect(await alive()).toBe('graces')
  })

  it.each([
    ['iat', { iat: START - 100 }],
    ['toe, however fresh its iat is', { toe: START - 100 }],
  ])('by sub, only what began before its %s [T3]', async (_claim, when) => {
    await opened(sessions, someSession({ handle: 'older', sub: 'ada', firstIat: START - 101 }))
    await receive(await op.mint(claims({ sid: undefined, ...when })))
    expect(await statesOf(sessions, 'older', 'laptop', 'phone')).toEqual(['ended', 'alive', 'alive'])
  })

  it('what it names not later than now, though the clock of the OP is ahead [T3]', async () => {
    const ahead = { iat: START + 50, exp: START + 150 }
    await receive(await op.mint(claims({ ...ahead, lockstep_logout_details: { ended_at_ms: START * 1000 + 50_900 } })))
    const found = await sessions.get('laptop')
    expect(found?.state === 'ended' && found.end).toEqual({ cause: 'logout_token', at: START, at_ms: START * 1000 })
  })

  it('nobody when its sid is unknown, whatever its sub [A44]', async () => {
    const answer = await receive(await op.mint(claims({ sid: 'unknown' })))
    expect(answer).toMatchObject({ status: 200, headers: { 'logout-sessions-ended': '0' } })
    expect(await alive()).toBe('laptop phone graces')
  })

  it('nobody when nobody is signed in any more, and that is a success [BC §2.7] [A38]', async () => {
    await receive(await op.mint(claims()))
    const again = await receive(await op.mint(claims()))
    expect(again).toMatchObject({ status: 200, headers: { 'logout-sessions-ended': '0' } })
  })

  it('not the End-User whose sub equals its sid [T20] [A47]', async () => {
    await opened(sessions, someSession({ handle: 'x', sid: 'grace', sub: 'x' }))
    await receive(await op.mint(claims({ sid: 'grace', sub: undefined })))
    expect(await statesOf(sessions, 'x', 'graces')).toEqual(['ended', 'alive'])
  })

  it('RP sessions whose sid is __proto__, and nothing else [A34]', async () => {
    await opened(sessions, someSession({ handle: 'odd', sid: '__proto__', sub: 'constructor' }))
    const answer = await receive(await op.mint(claims({ sid: '__proto__', sub: 'constructor' })))
    expect(answer.headers['logout-sessions-ended']).toBe('1')
    expect(await alive()).toBe('laptop phone graces')
  })

  it('all of a sub that is __proto__ or constructor, and nobody else [A34]', async () => {
    for (const sub of ['__proto__', 'constructor']) {
      await opened(sessions, someSession({ sub }), someSession({ sub }))
      const answer = await receive(await op.mint(claims({ sid: undefined, sub })))
      expect(answer.headers['logout-sessions-ended']).toBe('2')
    }
    expect(await alive()).toBe('laptop phone graces')
  })

  it('only what its own issuer opened, also when two OPs share keys and sids [T20] [A25]', async () => {
    const twin = await startFakeOp()
    twin.shareKeysOf(op)
    const store = memoryStore()
    const [first, second] = [relyingParty(op.issuer, store), relyingParty(twin.issuer, store)]
    const [ours, theirs] = [op.issuer, twin.issuer].map((issuer) =>
      store.forClient({ issuer, clientId: 'notes' }, runtime),
    )
    if (!ours || !theirs) throw new Error('two stores')
    await opened(ours, laptop)
    await opened(theirs, laptop)
    const token = await op.mint(claims())
    expect((await receive(token, second)).status).toBe(400)
    expect((await receive(token, first)).status).toBe(200)
    expect(await statesOf(ours, 'laptop')).toEqual(['ended'])
    expect(await statesOf(theirs, 'laptop')).toEqual(['alive'])
    await twin.close()
  })

  it('what has its sid now, and leaves a later login with the same sid alone [A46]', async () => {
    await receive(await op.mint(claims()))
    now += 1000
    const requestedAt = await sessions.now()
    const again = someSession({ handle: 'again', sid: 'laptop', firstIat: START + 1, requestedAt })
    expect((await sessions.create(again)).outcome).toBe('created')
    expect(await statesOf(sessions, 'laptop', 'again')).toEqual(['ended', 'alive'])
  })

  it('also a login whose callback has not finished [T3] [A48]', async () => {
    const requestedAt = await sessions.now()
    now += 5
    await receive(await op.mint(claims({ sid: 'arriving' })))
    expect((await sessions.create(someSession({ sid: 'arriving', requestedAt }))).outcome).toBe('outdated')
  })

  it('so that an in-flight request cannot bring it back [A49]', async () => {
    const found = await sessions.get('laptop')
    await receive(await op.mint(claims()))
    expect(found?.state).toBe('alive')
    expect(await sessions.updateIfExists('laptop', { idleExpiresAt: START + 9_999 })).toBe(false)
    expect(await statesOf(sessions, 'laptop')).toEqual(['ended'])
  })

  it('once, when 50 copies of it arrive together [A5]', async () => {
    const token = await op.mint(claims())
    const answers = await Promise.all(Array.from({ length: 50 }, () => receive(token)))
    expect(
      answers.filter(({ status }) => status === 200).map(({ headers }) => headers['logout-sessions-ended']),
    ).toEqual(['1'])
    expect(answers.filter(({ status }) => status === 400)).toHaveLength(49)
  })

  it('and what it says of who and when is kept, cut and cleaned [T24]', async () => {
    const details = { ended_at_ms: START * 1000 - 250, ended_by: `Ma\u0007il\u202e ${'x'.repeat(300)}` }
    await receive(await op.mint(claims({ toe: START - 1, lockstep_logout_details: details })))
    const found = await sessions.get('laptop')
    if (found?.state !== 'ended') throw new Error('not ended')
    expect(found.end).toMatchObject({ cause: 'logout_token', at: START - 1, at_ms: START * 1000 - 250 })
    expect(found.end.by).toHaveLength(200)
    expect(found.end.by).toMatch(/^Ma il {2}x+$/)
  })

  it.each([
    [{ ended_at_ms: 'now', ended_by: 7 }],
    [{ ended_at_ms: 1, ended_by: ' ' }],
    ['text'],
    [null],
    [{ ended_at_ms: Number.MAX_VALUE }],
  ])('and details that make no sense (%j) are left out', async (lockstep_logout_details) => {
    await receive(await op.mint(claims({ lockstep_logout_details })))
    const found = await sessions.get('laptop')
    expect(found?.state === 'ended' && found.end).toEqual({ cause: 'logout_token', at: START })
  })
})

it('a jti is remembered no longer than a token with it could be sent again, however late it says it expires [T20]', async () => {
  expect((await receive(await op.mint(claims({ jti: 'again', exp: START + 86_400 })))).status).toBe(200)
  now += 661_000
  const again = claims({ jti: 'again', iat: START + 661, exp: START + 700 })
  expect((await receive(await op.mint(again))).status).toBe(200)
})

describe('when something of ours or the OP’s fails', () => {
  it('a failing store claims nothing, the OP is asked to come again, and its retry works [T7] [A3, A4]', async () => {
    const store = memoryStore()
    const inner = store.forClient({ issuer: op.issuer, clientId: 'notes' }, runtime)
    await opened(inner, laptop)
    let broken = true
    const endBy: RpSessionStore['endBy'] = async (target, notice) => {
      if (broken) throw new Error('connection to 10.1.2.3 lost, password=hunter2')
      return inner.endBy(target, notice)
    }
    const flaky = relyingParty(op.issuer, { ...store, forClient: () => ({ ...inner, endBy }) })
    const token = await op.mint(claims())
    const first = await receive(token, flaky)
    expect(first).toMatchObject({ status: 400, headers: { 'retry-after': '5', 'cache-control': 'no-store' } })
    expect(JSON.parse(textOf(first))).toEqual({
      error: 'temporarily_unavailable',
      error_description: 'nothing was recorded',
    })
    broken = false
    expect((await receive(token, flaky)).status).toBe(200)
    expect(await statesOf(inner, 'laptop')).toEqual(['ended'])
  })

  it('an OP whose keys cannot be had makes the logout come again, not fail', async () => {
    for (const answer of ['hang up', { status: 500, body: {} }, { status: 200, body: 'no keys' }] as const) {
      op.answers.set('/jwks', answer)
      const token = await op.mint(claims())
      const fresh = relyingParty(op.issuer)
      const first = await receive(token, fresh)
      expect(first.status).toBe(400)
      expect(JSON.parse(textOf(first))).toEqual({
        error: 'temporarily_unavailable',
        error_description: "The OP's keys could not be fetched",
      })
      op.answers.delete('/jwks')
      now += Number(first.headers['retry-after']) * 1000
      expect((await receive(token, fresh)).status).toBe(200)
    }
  })

  it('an OP that cannot be discovered makes it come again too', async () => {
    op.answers.set('/.well-known/openid-configuration', 'hang up')
    const token = await op.mint(claims())
    const first = await receive(token)
    expect(JSON.parse(textOf(first))).toMatchObject({ error: 'temporarily_unavailable' })
    op.answers.delete('/.well-known/openid-configuration')
    now += Number(first.headers['retry-after']) * 1000
    expect((await receive(token)).status).toBe(200)
  })

  it('a failing hook changes no answer', async () => {
    const store = memoryStore()
    await opened(store.forClient({ issuer: op.issuer, clientId: 'notes' }, runtime), laptop)
    const common = { issuer: op.issuer, clientId: 'notes', clientSecret: 's', appUrl: 'https://notes.example' }
    const onSessionEnded = () => {
      throw new Error('hook')
    }
    const hooked = createRelyingParty({ ...common, store, runtime, onSessionEnded, log: (event) => log.push(event) })
    others.push(hooked)
    expect((await receive(await op.mint(claims()), hooked)).status).toBe(200)
    await vi.waitFor(() =>
      expect(log).toContainEqual({ event: 'hook_failed', hook: 'onSessionEnded', message: 'hook' }),
    )
  })
})

describe('the OP’s keys', () => {
  it('are fetched once for a flood of unknown kids, and not at all for tokens that need no key [A17]', async () => {
    const fresh = await startFakeOp()
    const at = relyingParty(fresh.issuer)
    const bad = await fresh.mint({ ...claims(), iss: fresh.issuer, nonce: 'x' })
    for (let i = 0; i < 20; i++) await receive(bad, at)
    expect(fresh.asked.get('/jwks')).toBeUndefined()
    const [, payload, signature] = (await fresh.mint({ ...claims(), iss: fresh.issuer })).split('.')
    for (let i = 0; i < 1_000; i++) {
      const header = Buffer.from(JSON.stringify({ alg: 'RS256', kid: `guess-${i}` })).toString('base64url')
      expect((await receive(`${header}.${payload}.${signature}`, at)).status).toBe(400)
    }
    expect(fresh.asked.get('/jwks')).toBe(1)
    await fresh.close()
  })

  it('are fetched again for the first token after a rotation, once the cool-down is over [A18]', async () => {
    const fresh = await startFakeOp()
    const at = relyingParty(fresh.issuer)
    const good = () => fresh.mint({ ...claims(), iss: fresh.issuer })
    expect((await receive(await good(), at)).status).toBe(200)
    await fresh.rotate()
    const token = await good()
    expect((await receive(token, at)).status).toBe(400)
    now += 29_000
    expect((await receive(token, at)).status).toBe(400)
    now += 1_000
    expect((await receive(token, at)).status).toBe(200)
    expect(fresh.asked.get('/jwks')).toBe(2)
    await fresh.close()
  })

  it('are fetched again after a rotation also where our clock was set back meanwhile [A18]', async () => {
    const fresh = await startFakeOp()
    const at = relyingParty(fresh.issuer)
    const good = (iat: number) => fresh.mint({ ...claims({ iat, exp: iat + 120 }), iss: fresh.issuer })
    expect((await receive(await good(START), at)).status).toBe(200)
    await fresh.rotate()
    now -= 3_600_000
    expect((await receive(await good(START - 3_600), at)).status).toBe(200)
    await fresh.close()
  })
})

it('what a logout by sub ended stays dead when the same End-User signs in again [A45]', async () => {
  now += 5000
  await receive(await op.mint(claims({ sid: undefined })))
  now += 5000
  const fresh = someSession({ handle: 'fresh', firstIat: START + 5, requestedAt: await sessions.now() })
  expect((await sessions.create(fresh)).outcome).toBe('created')
  expect(await statesOf(sessions, 'laptop', 'phone', 'fresh')).toEqual(['ended', 'ended', 'alive'])
  expect((await sessions.create(someSession())).outcome).toBe('outdated')
})
