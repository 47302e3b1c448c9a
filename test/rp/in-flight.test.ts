import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { BACKCHANNEL_LOGOUT_EVENT } from '../../src/protocol/logout-token.ts'
import { namesOf } from '../../src/rp/session-id.ts'
import { createRelyingParty, type RelyingParty, type RpSessionStore } from '../../src/rp.ts'
import { memoryStore } from '../../src/rp-memory.ts'
import { opened, START, someSession, statesOf } from '../../src/testing/rp-store-bench.ts'
import { type FakeOp, startFakeOp } from './fake-op.ts'
import { ask, plainRequest, postForm } from './plain-request.ts'
import { createVirtualTime, type VirtualTime } from './virtual-time.ts'

/* Logout Tokens that arrive in the middle of something, and two relying parties that could be taken for each other. */

let op: FakeOp
let time: VirtualTime
let store: ReturnType<typeof memoryStore>
let notes: RpSessionStore
const apps: RelyingParty<unknown>[] = []
const id = 'x'.repeat(43)

beforeEach(async () => {
  op = await startFakeOp()
  time = createVirtualTime(START * 1000)
  store = memoryStore()
  notes = store.forClient({ issuer: op.issuer, clientId: 'notes' }, time)
})

afterEach(async () => {
  for (const app of apps.splice(0)) await app.close()
  await op.close()
})

function start(clientId = 'notes', more: { prefix?: string; mapSession?: () => Promise<unknown> } = {}) {
  const app = createRelyingParty<unknown>({
    issuer: op.issuer,
    clientId,
    clientSecret: 'client secret',
    appUrl: 'https://app.example',
    cookieSuffix: clientId,
    store,
    runtime: time,
    log: () => {},
    ...more,
  })
  apps.push(app)
  return app
}

let count = 0

function logoutToken(claims: Record<string, unknown>): Promise<string> {
  const iat = Math.floor(time.now() / 1000)
  const events = { [BACKCHANNEL_LOGOUT_EVENT]: {} }
  return op.mint({ iss: op.issuer, aud: 'notes', iat, exp: iat + 120, jti: `jti ${++count}`, events, ...claims })
}

/** Delivers a Logout Token and says how many RP sessions it ended, or that it was refused. */
async function deliver(app: RelyingParty<unknown>, claims: Record<string, unknown>): Promise<string> {
  const answer = await postForm(app, `${app.base}/backchannel-logout`, { logout_token: await logoutToken(claims) })
  return answer.headers['logout-sessions-ended'] ?? String(answer.status)
}

describe('a Logout Token that arrives in the middle', () => {
  it('of a request that counts as use: nobody is signed in, and no cookie comes back [A49]', async () => {
    const app = start()
    const [handle = ''] = await opened(notes, someSession({ ...namesOf(id), sid: 's' }))
    const { updateIfExists } = notes
    let ended = ''
    notes.updateIfExists = async (...update) => {
      ended = await deliver(app, { sid: 's' })
      return updateIfExists(...update)
    }
    await time.pass(1_800)
    const request = plainRequest('GET', '/', { cookie: `__Host-lockstep-notes=${id}`, 'sec-fetch-dest': 'document' })
    const { current, cookies } = await app.current(request)
    expect(ended).toBe('1')
    expect(current).toMatchObject({ state: 'ended', end: { cause: 'logout_token' } })
    expect(cookies).toEqual([expect.stringMatching(/^__Host-lockstep-notes-ended=/)]) // the session cookie is set aside
    expect(await statesOf(notes, handle)).toEqual(['ended'])
  })

  it.each([
    ['by sid', { sid: 's' }],
    ['by sub', { sub: 'ada' }],
  ])('of a callback, %s: no RP session is opened, and the OP is asked once more [T3] [A48]', async (_how, named) => {
    let ended = ''
    const mapSession = async () => {
      await time.pass(1)
      ended = await deliver(app, named)
    }
    const app = start('notes', { mapSession })
    const begun = await ask(app, 'GET', '/auth/login')
    const sent = new URL(begun.headers.location ?? '').searchParams
    const iat = Math.floor(Date.now() / 1000) // the library that checks it has its own clock
    const claims = { iss: op.issuer, aud: 'notes', sub: 'ada', sid: 's', iat, exp: iat + 60, nonce: sent.get('nonce') }
    const id_token = await op.mint(claims, { typ: 'JWT' })
    op.answers.set('/token', { status: 200, body: { access_token: 'a', token_type: 'Bearer', id_token } })
    const query = new URLSearchParams({ code: 'c', state: sent.get('state') ?? '', iss: op.issuer })
    const cookie = begun.cookies.map((line) => line.split(';')[0]).join('; ')
    const answer = await ask(app, 'GET', `/auth/callback?${query}`, { cookie })
    expect(ended).toBe('0')
    expect(answer.headers.location).toMatch(new RegExp(`^${op.issuer}/authorize\\?`))
    expect(answer.cookies.some((line) => /^__Host-lockstep-notes=[^;]/.test(line))).toBe(false)
    expect(await notes.listBySub('ada')).toEqual([])
  })
})

describe('two clients of one OP in one app, with one store, one sid and one End-User,', () => {
  const [one, two] = [
    { ...namesOf('1'.repeat(43)), sid: 's', sub: 'ada' },
    { ...namesOf('2'.repeat(43)), sid: 's', sub: 'ada' },
  ]
  const cookie = `__Host-lockstep-notes=${'1'.repeat(43)}; __Host-lockstep-staff=${'2'.repeat(43)}`

  async function both() {
    const staff = store.forClient({ issuer: op.issuer, clientId: 'staff' }, time)
    await opened(notes, someSession(one))
    await opened(staff, someSession(two))
    const states = async () => [...(await statesOf(notes, one.handle)), ...(await statesOf(staff, two.handle))]
    return { first: start('notes'), second: start('staff', { prefix: '/staff' }), states }
  }

  it.each([
    ['sid', { sid: 's' }],
    ['sid and sub', { sid: 's', sub: 'ada' }],
    ['sub', { sub: 'ada' }],
  ])('hear each its own Logout Tokens and no other’s, by %s [T20]', async (_what, named) => {
    const { first, second, states } = await both()
    expect(await deliver(first, { aud: 'staff', ...named })).toBe('400')
    expect(await deliver(second, { aud: 'notes', ...named })).toBe('400')
    expect(await states()).toEqual(['alive', 'alive'])
    expect(await deliver(second, { aud: 'staff', ...named })).toBe('1')
    expect(await states()).toEqual(['alive', 'ended'])
  })

  it('are framed each for itself [T20] [T4]', async () => {
    const { second, states } = await both()
    const query = new URLSearchParams({ iss: op.issuer, sid: 's' })
    await ask(second, 'GET', `/staff/frontchannel-logout?${query}`, { 'sec-fetch-dest': 'iframe' })
    expect(await states()).toEqual(['alive', 'ended'])
  })

  it('are left each for itself: the other stays signed in, and its login asks for nothing more [T20]', async () => {
    const { first, second, states } = await both()
    const left = await postForm(
      second,
      '/staff/logout',
      { from: 'this-app' },
      { cookie, 'sec-fetch-site': 'same-origin' },
    )
    expect(await states()).toEqual(['alive', 'ended'])
    const leaving = left.cookies.find((line) => line.includes('-left='))?.split(';')[0] ?? ''
    const login = async (app: RelyingParty<unknown>) => {
      const { headers } = await ask(app, 'GET', `${app.base}/login`, { cookie: leaving })
      return new URL(headers.location ?? '').searchParams.get('prompt')
    }
    expect([await login(first), await login(second)]).toEqual([null, 'login'])
  })
})
