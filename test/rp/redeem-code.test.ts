import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { BACKCHANNEL_LOGOUT_EVENT } from '../../src/protocol/logout-token.ts'
import {
  createRelyingParty,
  type LoginClaims,
  type RelyingParty,
  type RpLogEvent,
  type RpSessionStore,
  type RpStore,
} from '../../src/rp.ts'
import { memoryStore } from '../../src/rp-memory.ts'
import { someNotice } from '../../src/testing/rp-store-bench.ts'
import { type FakeOp, startFakeOp } from './fake-op.ts'
import { ask, textOf } from './plain-request.ts'

let op: FakeOp
let rp: RelyingParty
let sessions: RpSessionStore
let store: RpStore
let cookie = ''
const log: RpLogEvent[] = []

beforeEach(async () => {
  op = await startFakeOp()
  store = memoryStore()
  sessions = store.forClient({ issuer: op.issuer, clientId: 'notes' }, Date)
  log.length = 0
  cookie = ''
  rp = createRelyingParty({
    issuer: op.issuer,
    clientId: 'notes',
    clientSecret: 'the client secret',
    appUrl: 'https://notes.example',
    store,
    log: (event) => log.push(event),
  })
})

afterEach(async () => {
  await rp.close()
  await op.close()
})

/** Asks as the browser would, keeping its cookies. */
async function browse(url: string, headers: Readonly<Record<string, string>> = {}) {
  const answer = await ask(rp, 'GET', url, { cookie, ...headers })
  for (const line of answer.cookies) {
    const [pair = ''] = line.split(';')
    const name = pair.split('=')[0]
    const kept = cookie.split('; ').filter((one) => one !== '' && !one.startsWith(`${name}=`))
    cookie = (line.includes('Max-Age=0') ? kept : [...kept, pair]).join('; ')
  }
  return answer
}

/** Begins a login or a silent check; the OP answers with these claims in its ID Token. */
async function begin(path: string) {
  const { location = 'https://ended.example' } = (await browse(path)).headers
  const sent = new URL(location).searchParams
  return {
    async answer(
      claims: Record<string, unknown>,
      more: Record<string, unknown> = {},
      alg?: 'ES256',
      site = 'cross-site',
      session_state = 'hash.salt',
    ) {
      const now = Math.floor(Date.now() / 1000)
      const nonce = sent.get('nonce')
      const good = { iss: op.issuer, aud: 'notes', sub: 'ada', sid: 's', iat: now, exp: now + 60, nonce }
      const idToken = await op.mint({ ...good, ...claims }, { typ: 'JWT' }, alg)
      op.answers.set('/token', {
        status: 200,
        body: { access_token: 'a', token_type: 'Bearer', id_token: idToken, ...more },
      })
      const query = new URLSearchParams({
        code: 'c',
        state: sent.get('state') ?? '',
        iss: op.issuer,
        session_state,
      })
      return browse(`/auth/callback?${query}`, { 'sec-fetch-site': site })
    },
  }
}

/** Goes through one. */
async function respondWith(
  path: string,
  claims: Record<string, unknown>,
  more?: Record<string, unknown>,
  alg?: 'ES256',
  site?: string,
) {
  return (await begin(path)).answer(claims, more, alg, site)
}

/** A logout that happens now. */
function nowNotice() {
  const now = Math.floor(Date.now() / 1000)
  return someNotice({ watermark: now, jtiExpiresAt: now + 60, watermarkExpiresAt: now + 60 })
}

describe('an ID Token', () => {
  it('must prove a login as fresh as max_age asked for [Core §3.1.3.7 (13)]', async () => {
    const now = Math.floor(Date.now() / 1000)
    expect((await respondWith('/auth/login?max_age=60', {})).status).toBe(502)
    expect((await respondWith('/auth/login?max_age=60', { auth_time: now - 600 })).status).toBe(502)
    expect(await sessions.listBySub('ada')).toEqual([])
    expect((await respondWith('/auth/login?max_age=60', { auth_time: now - 5 })).status).toBe(303)
  })

  it('must prove one as fresh as the app always asks for, and no link asks for less [Core §3.1.3.7 (13)]', async () => {
    await rp.close()
    const app = { issuer: op.issuer, clientId: 'notes', clientSecret: 'the client secret', store }
    rp = createRelyingParty({
      ...app,
      appUrl: 'https://notes.example',
      authorizationParams: { max_age: '300' },
      log: (event) => log.push(event),
    })
    const now = Math.floor(Date.now() / 1000)
    for (const path of ['/auth/login', '/auth/login?max_age=7200']) {
      expect((await respondWith(path, { auth_time: now - 3_600 })).status).toBe(502)
      expect((await respondWith(path, { auth_time: now - 200 })).status).toBe(303)
    }
    expect((await respondWith('/auth/login?max_age=60', { auth_time: now - 200 })).status).toBe(502)
    expect(new URL((await browse('/auth/login')).headers.location ?? '').searchParams.get('max_age')).toBe('300')
  })

  it('that is good opens an RP session with its sub, sid and session_state [Core §3.1.3.7]', async () => {
    const answer = await respondWith('/auth/login?return_to=/x', {})
    expect(answer).toMatchObject({ status: 303, headers: { location: 'https://notes.example/x' } })
    const [session] = await sessions.listBySub('ada')
    expect(session).toMatchObject({ sub: 'ada', sid: 's', firstIat: expect.any(Number) })
    expect(JSON.parse(textOf(await browse('/auth/session')))).toMatchObject({
      session_state: 'hash.salt',
      silent_check: 'unknown',
      check_session_iframe: `${op.issuer}/iframe`,
    })
  })

  const now = Math.floor(Date.now() / 1000)
  it.each([
    ['with another nonce', { nonce: 'other' }],
    ['without nonce', { nonce: undefined }],
    ['of another issuer', { iss: 'https://evil.example' }],
    ['for another client', { aud: 'mail' }],
    ['that expired', { iat: now - 9000, exp: now - 8000 }],
    ['without sub', { sub: undefined }],
    ['that is a Logout Token [A41]', { nonce: undefined, jti: 'j', events: { [BACKCHANNEL_LOGOUT_EVENT]: {} } }],
  ])('%s signs nobody in [Core §3.1.3.7]', async (_name, claims) => {
    const answer = await respondWith('/auth/login', claims)
    expect(answer.status).toBe(502)
    expect(await sessions.listBySub('ada')).toEqual([])
    expect(log).toContainEqual(expect.objectContaining({ event: 'login_failed', code: 'op_answer_invalid' }))
    expect(JSON.stringify(log) + textOf(answer)).not.toMatch(/eyJ|the client secret/)
  })

  it.each([
    now + 5,
    now - 5,
    0,
    -1,
    1.5,
    (now + 5) * 1000,
    String(now + 5),
    null,
    [now],
    {},
  ])('with session_expiry %j gives an RP session the lifetime of every other: the claim is not read [A64]', async (session_expiry) => {
    expect((await respondWith('/auth/login', { session_expiry })).status).toBe(303)
    const [session] = await sessions.listBySub('ada')
    expect((session?.expiresAt ?? 0) - (session?.createdAt ?? 0)).toBe(604_800)
    expect((await browse('/auth/session')).status).toBe(200)
  })

  it('by an algorithm the client is not registered with signs nobody in [Core §3.1.3.7 (7)]', async () => {
    expect((await respondWith('/auth/login', {}, {}, 'ES256')).status).toBe(502)
  })

  it('that is missing signs nobody in', async () => {
    expect((await respondWith('/auth/login', {}, { id_token: undefined })).status).toBe(502)
  })

  it('with a sid that is no string, and a session_state with spaces, does without them', async () => {
    const sent = new URL((await browse('/auth/login')).headers.location ?? '').searchParams
    const times = { iat: now, exp: now + 600 }
    const claims = { iss: op.issuer, aud: 'notes', sub: 'ada', sid: 7, nonce: sent.get('nonce'), ...times }
    const body = { access_token: 'a', token_type: 'Bearer', id_token: await op.mint(claims, { typ: 'JWT' }) }
    op.answers.set('/token', { status: 200, body })
    const query = new URLSearchParams({ code: 'c', state: sent.get('state') ?? '', session_state: 'a b' })
    await browse(`/auth/callback?${query}`)
    const [session] = await sessions.listBySub('ada')
    expect(session).not.toHaveProperty('sid')
    expect(session).not.toHaveProperty('sessionState')
  })
})

describe('UserInfo', () => {
  async function signIn(userInfo: Record<string, unknown>): Promise<{ status: number; kept: LoginClaims | undefined }> {
    let kept: LoginClaims | undefined
    const mapSession = (claims: LoginClaims) => {
      kept = claims
    }
    const path = '/.well-known/openid-configuration'
    const metadata = (await (await fetch(op.issuer + path)).json()) as Record<string, unknown>
    op.answers.set(path, { status: 200, body: { ...metadata, userinfo_endpoint: `${op.issuer}/userinfo` } })
    op.answers.set('/userinfo', { status: 200, body: userInfo })
    await rp.close()
    const app = { clientId: 'notes', clientSecret: 'the client secret', appUrl: 'https://notes.example' }
    rp = createRelyingParty({ issuer: op.issuer, ...app, store, mapSession, log: (event) => log.push(event) })
    return { status: (await respondWith('/auth/login', {})).status, kept }
  }

  it('adds to the claims of the ID Token, which win [Core §5.3.2]', async () => {
    const { status, kept } = await signIn({ sub: 'ada', name: 'Ada', iss: 'https://evil.example', sid: 'other' })
    expect(status).toBe(303)
    expect(kept).toMatchObject({ sub: 'ada', name: 'Ada', iss: op.issuer, sid: 's' })
    expect(await sessions.listBySub('ada')).toEqual([expect.objectContaining({ sid: 's' })])
  })

  it.each(['grace', undefined])('of %s signs nobody in [Core §5.3.2]', async (sub) => {
    expect(await signIn({ sub, name: 'Grace' })).toEqual({ status: 502, kept: undefined })
    expect([...(await sessions.listBySub('ada')), ...(await sessions.listBySub('grace'))]).toEqual([])
  })
})

describe('a Token Endpoint', () => {
  it.each([
    ['hangs up', 503, 'hang up' as const],
    ['is broken', 502, { status: 500, body: 'oops' }],
  ])('that %s gives a page that says so and can be tried again', async (_name, status, answer) => {
    const sent = new URL((await browse('/auth/login?return_to=/x')).headers.location ?? '').searchParams
    op.answers.set('/token', answer)
    const page = await browse(`/auth/callback?code=c&state=${sent.get('state')}`)
    expect(page.status).toBe(status)
    expect(textOf(page)).toContain('/auth/login?return_to=%2Fx')
  })
})

it('a Token Endpoint that does not know this client says so in the log, and no secret with it', async () => {
  const sent = new URL((await browse('/auth/login')).headers.location ?? '').searchParams
  const body = { error: 'invalid_client', error_description: 'wrong secret: the client secret' }
  op.answers.set('/token', { status: 401, body })
  const page = await browse(`/auth/callback?code=c&state=${sent.get('state')}`)
  expect(page.status).toBe(502)
  expect(textOf(page)).toContain('op_refused')
  const message = "The OP's Token Endpoint refused what this app asked for: invalid_client"
  expect(log).toEqual([{ event: 'login_failed', code: 'op_refused', message }])
})

it.each([
  ['without a code', ''],
  ['with two codes', 'code=a&code=b'],
  ['with two states', 'code=a&state=b'],
  ['of another issuer', 'code=a&iss=https://evil.example'],
  ['of another issuer, though it is an error', 'error=access_denied&iss=https://evil.example'],
])('a response %s is refused before the OP is asked anything [RFC 9207 §2.4] [E45]', async (_name, query) => {
  const sent = new URL((await browse('/auth/login?return_to=/x')).headers.location ?? '').searchParams
  const page = await browse(`/auth/callback?state=${sent.get('state')}&${query}`)
  expect(page.status).toBe(400)
  expect(textOf(page)).toContain('login_response_invalid')
  expect(textOf(page)).toContain('/auth/login?return_to=%2Fx')
  expect(log).toEqual([expect.objectContaining({ event: 'login_failed', code: 'login_response_invalid' })])
  expect(op.asked.has('/token')).toBe(false)
})

it('a response without iss is refused when the OP says that it always sends it [RFC 9207 §2.4] [E45]', async () => {
  const path = '/.well-known/openid-configuration'
  const metadata = (await (await fetch(op.issuer + path)).json()) as Record<string, unknown>
  const body = { ...metadata, authorization_response_iss_parameter_supported: true }
  op.answers.set(path, { status: 200, body })
  const sent = new URL((await browse('/auth/login')).headers.location ?? '').searchParams
  expect((await browse(`/auth/callback?code=c&state=${sent.get('state')}`)).status).toBe(400)
})

it('a code that the OP refuses is asked for once more, and then no more [T3]', async () => {
  const begun = await browse('/auth/login?return_to=/x')
  op.answers.set('/token', { status: 400, body: { error: 'invalid_grant' } })
  const stateOf = (location = '') => new URL(location).searchParams.get('state')
  const again = await browse(`/auth/callback?code=c&state=${stateOf(begun.headers.location)}`)
  expect(again.headers.location).toContain(`${op.issuer}/authorize?`)
  const page = await browse(`/auth/callback?code=c&state=${stateOf(again.headers.location)}`)
  expect(page.status).toBe(409)
  expect(textOf(page)).toContain('You were signed out while you were signing in')
  expect(textOf(page)).toContain('/auth/login?return_to=%2Fx')
})

describe('a silent check', () => {
  it('that finds another End-User ends the RP session and opens none [SM §3.1] [A62]', async () => {
    await respondWith('/auth/login', {})
    const before = cookie
    const answer = await respondWith('/auth/silent-check', { sub: 'grace' })
    expect(textOf(answer)).toContain('"result":"switched"')
    expect(cookie).toBe(before)
    expect(JSON.parse(textOf(await browse('/auth/session')))).toMatchObject({
      state: 'ended',
      ended: { cause: 'user_switched' },
    })
    expect(await sessions.listBySub('grace')).toEqual([])
  })

  it('that finds the same End-User takes over the new session_state and nothing else [SM §3.1]', async () => {
    await respondWith('/auth/login', {})
    const [before] = await sessions.listBySub('ada')
    await sessions.updateIfExists(before?.handle ?? '', { sessionState: 'older.salt unknown' })
    const answer = await respondWith('/auth/silent-check', { auth_time: 1 })
    expect(textOf(answer)).toContain('{"lockstep":"silent-check","result":"same","session_state":"hash.salt"}')
    expect(await sessions.listBySub('ada')).toEqual([{ ...before, sessionState: 'hash.salt works' }])
  })

  it('hands on a session_state that would close its script as text, and runs nothing else [A60] [T24]', async () => {
    await respondWith('/auth/login', {})
    const hostile = '</script><script>alert(1)</script>'
    const { answer } = await begin('/auth/silent-check')
    const page = textOf(await answer({}, {}, undefined, 'cross-site', hostile))
    expect(page.match(/<\/?script>/g)).toEqual(['<script>', '</script>'])
    expect(page).toContain('\\u003c/script>\\u003cscript>alert(1)')
  })

  it('that finds another session of the same End-User at the OP goes by its sid too, the one that a logout will name [T7]', async () => {
    await respondWith('/auth/login', { sid: 'one' })
    const answer = await respondWith('/auth/silent-check', { sid: 'another' })
    expect(textOf(answer)).toContain('"result":"same"')
    const ended = await sessions.endBy({ sid: 'another', sub: 'ada' }, nowNotice())
    expect(ended).toMatchObject({ outcome: 'ended', sessions: [{ sub: 'ada', sid: 'one' }] })
  })

  it('that is answered after one that was asked later loses neither sid [T7]', async () => {
    for (const sid of ['asked first', 'asked second']) {
      await respondWith('/auth/login', { sid: `of the login, ${sid}` })
      const first = await begin('/auth/silent-check')
      await new Promise((resolve) => setTimeout(resolve, 2)) // the clock is of milliseconds
      const second = await begin('/auth/silent-check')
      expect(textOf(await second.answer({ sid: 'asked second' }))).toContain('"result":"same"')
      expect(textOf(await first.answer({ sid: 'asked first' }))).toContain('"result":"same"')
      const ended = await sessions.endBy({ sid, sub: 'ada' }, nowNotice())
      expect(ended.outcome === 'ended' && ended.sessions).toHaveLength(1)
    }
  })

  it('is known to work once it has worked, and to be refused when its first answer is login_required [SM-5.1-a]', async () => {
    const trust = async () => JSON.parse(textOf(await browse('/auth/session'))).silent_check
    await respondWith('/auth/login', {})
    expect(await trust()).toBe('unknown')
    await refuseSilently()
    expect(await trust()).toBe('refused')
    await respondWith('/auth/silent-check', {})
    expect(await trust()).toBe('works')
    await refuseSilently()
    expect(JSON.parse(textOf(await browse('/auth/session')))).toMatchObject({ ended: { cause: 'silent_check' } })
  })

  it('ends a login only after it has worked in it, in whatever order the OP answers [SM-5.1-a]', async () => {
    const answers = {
      same: () => respondWith('/auth/silent-check', {}),
      login_required: () => refuseSilently(),
      consent_required: () => refuseSilently('consent_required'),
      'another issuer': () => respondWith('/auth/silent-check', { iss: 'https://evil.example' }),
      'a new login': () => respondWith('/auth/login', {}),
    }
    const names = Object.keys(answers) as (keyof typeof answers)[]
    await fc.assert(
      fc.asyncProperty(fc.array(fc.constantFrom(...names), { maxLength: 8 }), async (story) => {
        cookie = ''
        await respondWith('/auth/login', {})
        let [hasWorked, isAlive] = [false, true]
        for (const step of story) {
          if (step === 'a new login') [hasWorked, isAlive] = [false, true]
          if (step === 'same' && isAlive) hasWorked = true
          if (step === 'login_required' && hasWorked) isAlive = false
          await answers[step]()
          const { state } = JSON.parse(textOf(await browse('/auth/session')))
          expect(state, story.join(', ')).toBe(isAlive ? 'alive' : 'ended')
        }
      }),
      { numRuns: 40 },
    )
  }, 60_000)

  it('is known to work after a login that never left the site of the app: no browser keeps its cookies back', async () => {
    for (const [site, trust] of [
      ['same-site', 'works'],
      ['same-origin', 'works'],
      ['cross-site', 'unknown'],
      ['none', 'unknown'],
    ] as const) {
      cookie = ''
      await respondWith('/auth/login', {}, {}, undefined, site)
      expect(JSON.parse(textOf(await browse('/auth/session')))).toMatchObject({ silent_check: trust })
    }
  })

  async function refuseSilently(error = 'login_required') {
    const { location = 'https://ended.example' } = (await browse('/auth/silent-check')).headers
    const state = new URL(location).searchParams.get('state')
    await browse(`/auth/callback?error=${error}&state=${state}&iss=${op.issuer}`)
  }

  it('that ends after the RP session did says ended, and brings nothing back', async () => {
    await respondWith('/auth/login', {})
    const sent = new URL((await browse('/auth/silent-check')).headers.location ?? '').searchParams
    const [session] = await sessions.listBySub('ada')
    await sessions.delete(session?.handle ?? '', { cause: 'admin', at: 1 })
    const answer = await browse(`/auth/callback?code=c&state=${sent.get('state')}`)
    expect(textOf(answer)).toContain('"result":"ended"')
    expect(await sessions.listBySub('ada')).toEqual([])
  })
})
