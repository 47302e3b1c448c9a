import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { BACKCHANNEL_LOGOUT_EVENT } from '../../src/protocol/logout-token.ts'
import { namesOf } from '../../src/rp/session-id.ts'
import { createLogoutReceiver, createRelyingParty, type RpSessionStore, type RpStore } from '../../src/rp.ts'
import { memoryStore } from '../../src/rp-memory.ts'
import { opened, START, someSession } from '../../src/testing/rp-store-bench.ts'
import { type FakeOp, startFakeOp } from './fake-op.ts'
import { plainRequest, postForm } from './plain-request.ts'
import { createVirtualTime, type VirtualTime } from './virtual-time.ts'

/* What requests cost, counted at the store: each call is one round trip (the stores' own tests hold that). */

let op: FakeOp
let time: VirtualTime
let calls: string[]
let store: RpStore
let sessions: RpSessionStore

beforeEach(async () => {
  op = await startFakeOp()
  time = createVirtualTime(START * 1000)
  calls = []
  const memory = memoryStore()
  sessions = memory.forClient({ issuer: op.issuer, clientId: 'notes' }, time)
  store = {
    ...memory,
    forClient: () =>
      new Proxy(sessions, {
        get(target, name: keyof RpSessionStore) {
          const method = target[name] as (...args: unknown[]) => unknown
          return (...args: unknown[]) => {
            if (!name.endsWith('Owed') && name !== 'nextOwedAt') calls.push(name)
            return method(...args)
          }
        },
      }),
  }
})

afterEach(() => op.close())

const id = 'x'.repeat(43)

function options() {
  return { issuer: op.issuer, clientId: 'notes', appUrl: 'https://notes.example', store, runtime: time, log: () => {} }
}

async function logoutToken(claims: Record<string, unknown>): Promise<string> {
  const now = Math.floor(time.now() / 1000)
  const events = { [BACKCHANNEL_LOGOUT_EVENT]: {} }
  return op.mint({ iss: op.issuer, aud: 'notes', iat: now, exp: now + 120, jti: 'one', events, ...claims })
}

describe('a relying party', () => {
  it('asks the store once for an ordinary request, and writes in a twentieth of the idle lifetime at most', async () => {
    const rp = createRelyingParty({ ...options(), clientSecret: 's', cookieSuffix: 'notes' })
    const life = { idleExpiresAt: START + 86_400, expiresAt: START + 604_800 }
    await opened(sessions, someSession({ ...namesOf(id), ...life }))
    const request = plainRequest('GET', '/', { cookie: `__Host-lockstep-notes=${id}` })
    for (let i = 0; i < 50; i++) expect((await rp.current(request)).current.state).toBe('alive')
    expect(calls).toEqual(Array.from({ length: 50 }, () => 'get'))
    calls.length = 0
    await time.pass(86_400 / 20)
    for (let i = 0; i < 50; i++) await rp.current(request)
    expect(calls.filter((name) => name !== 'get')).toEqual(['updateIfExists'])
    calls.length = 0
    await rp.current(plainRequest('GET', '/')) // nobody's
    expect(calls).toEqual([])
    await rp.close()
  })

  it.each([1, 100])('asks the store once for a logout that ends %i RP sessions [BC §2.7]', async (many) => {
    const rp = createRelyingParty({ ...options(), clientSecret: 's' })
    await opened(sessions, ...Array.from({ length: many }, () => someSession({ sid: 's' })))
    const answer = await postForm(rp, '/auth/backchannel-logout', { logout_token: await logoutToken({ sid: 's' }) })
    expect(answer.headers['logout-sessions-ended']).toBe(String(many))
    expect(calls).toEqual(['endBy'])
    await rp.close()
  })

  it('asks the store for nothing when a Logout Token is refused [T20]', async () => {
    const rp = createRelyingParty({ ...options(), clientSecret: 's' })
    const logout_token = await logoutToken({ sid: 's', aud: 'mail' })
    expect((await postForm(rp, '/auth/backchannel-logout', { logout_token })).status).toBe(400)
    expect(calls).toEqual([])
    await rp.close()
  })
})

describe('a logout receiver', () => {
  it('puts one question for a request, and one for a logout', async () => {
    const logouts = createLogoutReceiver(options())
    await logouts.isLoggedOut({ sub: 'ada', sid: 's', iat: START })
    await postForm(logouts, '/auth/backchannel-logout', { logout_token: await logoutToken({ sid: 's' }) })
    expect(calls).toEqual(['loggedOutAt', 'endBy'])
    await logouts.close()
  })
})
