import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { BACKCHANNEL_LOGOUT_EVENT } from '../../src/protocol/logout-token.ts'
import { namesOf } from '../../src/rp/session-id.ts'
import {
  createRelyingParty,
  type EndDownstream,
  type OpAllowances,
  type RelyingParty,
  type RpLogEvent,
  type RpSessionStore,
  type RpStore,
  type UpstreamLogout,
} from '../../src/rp.ts'
import { sqliteStore } from '../../src/rp-sqlite.ts'
import { opened, START, someNotice, someSession, withoutSid } from '../../src/testing/rp-store-bench.ts'
import { type FakeOp, startFakeOp } from './fake-op.ts'
import { ask, postForm } from './plain-request.ts'
import { createVirtualTime, type VirtualTime } from './virtual-time.ts'

/* The app is an OP itself; its hook stands for that side. */

const id = 'x'.repeat(43)
let op: FakeOp
let time: VirtualTime
let folder: string
let store: RpStore
let sessions: RpSessionStore
let rp: RelyingParty
const log: RpLogEvent[] = []
const told: UpstreamLogout[] = []

beforeEach(async () => {
  op = await startFakeOp()
  time = createVirtualTime(START * 1000)
  folder = mkdtempSync(join(tmpdir(), 'lockstep-cascade-'))
  log.length = told.length = 0
})

afterEach(async () => {
  await stop()
  await op.close()
  rmSync(folder, { recursive: true, force: true })
})

function start(endDownstream: EndDownstream = (logout) => void told.push(logout), allow: OpAllowances = {}): void {
  store = sqliteStore(join(folder, 'rp.db'))
  sessions = store.forClient({ issuer: op.issuer, clientId: 'broker' }, time)
  rp = startNode(endDownstream, allow)
}

function startNode(endDownstream: EndDownstream, allow: OpAllowances = {}): RelyingParty {
  return createRelyingParty({
    issuer: op.issuer,
    clientId: 'broker',
    clientSecret: 'client secret',
    appUrl: 'https://broker.example',
    cookieSuffix: 'broker',
    store,
    runtime: time,
    log: (event) => log.push(event),
    allow,
    endDownstream,
  })
}

async function stop(): Promise<void> {
  await rp.close()
  await store.close()
}

let count = 0

async function logOut(claims: Record<string, unknown>): Promise<number> {
  const logout_token = await op.mint({
    iss: op.issuer,
    aud: 'broker',
    iat: START,
    exp: START + 120,
    jti: `jti ${++count}`,
    events: { [BACKCHANNEL_LOGOUT_EVENT]: {} },
    ...claims,
  })
  return (await postForm(rp, '/auth/backchannel-logout', { logout_token })).status
}

describe('a logout upstream', () => {
  it('by an OP whose clock is ahead ends no login downstream that is younger than now [T3]', async () => {
    start()
    expect(await logOut({ sub: 'ada', iat: START + 50, exp: START + 170, toe: START + 50 })).toBe(200)
    await vi.waitFor(() => expect(told).toHaveLength(1))
    expect(told[0]).toMatchObject({ sub: 'ada', notAfter: START, at: START })
  })

  it('is told downstream once, by what it named, whether an RP session was left or not [BCL-2.7-b, T7]', async () => {
    start()
    const session = someSession({ sid: 's1' })
    await opened(sessions, session)
    expect(await logOut({ sid: 's1', sub: 'ada', toe: START - 5 })).toBe(200)
    expect(await logOut({ sid: 'expired here long ago' })).toBe(200)
    expect(await logOut({ sub: 'grace' })).toBe(200)
    const iss = op.issuer
    const cause = 'logout_token'
    await vi.waitFor(() => expect(told).toHaveLength(3))
    expect(told).toEqual([
      { iss, sid: 's1', sub: 'ada', at: START - 5, cause, rpSessions: [session.publicId] },
      { iss, sid: 'expired here long ago', at: START, cause, rpSessions: [] },
      { iss, sub: 'grace', notAfter: START, at: START, cause, rpSessions: [] },
    ])
    await vi.waitFor(async () => expect(await sessions.nextOwedAt('downstream')).toBeUndefined())
  })

  it('by sub names the RP sessions that ended, and until when a login was meant [BCL-2.7-b, T3]', async () => {
    start()
    const [one, two, younger] = [
      someSession(),
      someSession({ firstIat: START - 9 }),
      someSession({ firstIat: START + 1 }),
    ]
    await opened(sessions, one, two, younger, someSession({ sub: 'grace' }))
    expect(await logOut({ sub: 'ada', toe: START })).toBe(200)
    await vi.waitFor(() => expect(told).toHaveLength(1))
    expect(told[0]).toMatchObject({ sub: 'ada', notAfter: START })
    expect(told[0]?.rpSessions.toSorted()).toEqual([one.publicId, two.publicId].sort())
    expect((await sessions.get(younger.handle))?.state).toBe('alive')
  })

  it('of a sid that is used again names no younger login [T3]', async () => {
    start(undefined, { sidReused: true })
    const [before, after] = [someSession({ sid: 's1' }), someSession({ sid: 's1', firstIat: START + 5 })]
    await opened(sessions, before, after)
    expect(await logOut({ sid: 's1', toe: START })).toBe(200)
    await vi.waitFor(() => expect(told).toHaveLength(1))
    expect(told[0]).toMatchObject({ sid: 's1', notAfter: START, rpSessions: [before.publicId] })
    expect((await sessions.get(after.handle))?.state).toBe('alive')
  })

  it('names an RP session by each sid that the OP knows it by, and not by one that its browser has left behind', async () => {
    start()
    const session = someSession({ sid: 'old' })
    await opened(sessions, session)
    await time.pass(2)
    await sessions.addSid(session.handle, { sid: 'new', requestedAt: time.now(), from: 'browser' })
    expect(await logOut({ sid: 'old', toe: START })).toBe(200)
    await vi.waitFor(() => expect(told).toHaveLength(1))
    expect(await rp.sessionsOf('ada')).toMatchObject([{ id: session.publicId, sid: 'old', firstIat: START }])
    expect(await logOut({ sid: 'new' })).toBe(200)
    await vi.waitFor(() => expect(told).toHaveLength(2))
    expect(told.map(({ rpSessions }) => rpSessions)).toEqual([[], [session.publicId]])
    expect(await rp.sessionsOf('ada')).toEqual([])
  })

  it('delays no answer to the OP, however slow downstream is [BC §2.7]', async () => {
    start(() => new Promise(() => {}))
    expect(await logOut({ sid: 's1' })).toBe(200)
    expect(await logOut({ sid: 's2' })).toBe(200)
  })

  it('that downstream never answers holds up no other [T7]', async () => {
    start((logout) => (logout.sid?.startsWith('hangs') ? new Promise(() => {}) : void told.push(logout)))
    for (let i = 0; i < 9; i++) expect(await logOut({ sid: `hangs ${i}` })).toBe(200)
    expect(await logOut({ sid: 's1' })).toBe(200)
    let waited = 0
    while (told.length === 0 && waited < 90) {
      await time.pass(10)
      waited += 10
      await new Promise((resolve) => setImmediate(resolve))
    }
    expect(told.map(({ sid }) => sid)).toEqual(['s1'])
  })

  it('is tried again until downstream has taken it, and that is logged once [T7]', async () => {
    let failures = 3
    start((logout) => {
      if (failures-- > 0) throw new Error('the other side is away')
      told.push(logout)
    })
    await logOut({ sid: 's1' })
    await vi.waitFor(async () => {
      await time.pass(10)
      expect(told).toHaveLength(1)
    })
    expect(log.filter(({ event }) => event === 'cascade_failed')).toEqual([
      { event: 'cascade_failed', attempts: 1, message: 'the other side is away' },
    ])
  })

  it('is tried again when downstream says nothing for half a minute', async () => {
    let calls = 0
    start(async (logout) => {
      calls += 1
      if (calls === 1) await new Promise(() => {})
      told.push(logout)
    })
    await logOut({ sid: 's1' })
    await vi.waitFor(async () => {
      await time.pass(30)
      expect(told).toHaveLength(1)
    })
    expect(log).toContainEqual(expect.objectContaining({ event: 'cascade_failed' }))
  })

  it('waits for no other call that hangs, and no other node repeats one that is under way [T7]', async () => {
    const calls = new Map<string, number[]>()
    const hook: EndDownstream = ({ sid = '' }) => {
      calls.set(sid, [...(calls.get(sid) ?? []), time.now() / 1000 - START])
      return sid === 'good' ? undefined : new Promise(() => {})
    }
    start(hook)
    const other = startNode(hook)
    for (let i = 0; i < 9; i++) await logOut({ sid: `hangs ${i}` })
    await logOut({ sid: 'good' })
    await vi.waitFor(() => expect([...calls.values()]).toEqual(Array.from({ length: 10 }, () => [0])))
    await time.pass(120)
    await other.close()
    expect(calls.get('good')).toEqual([0])
    const pauses = [...calls.values()].flatMap((times) => times.slice(1).map((at, i) => at - (times[i] ?? 0)))
    expect(Math.min(...pauses)).toBeGreaterThanOrEqual(30)
    expect(calls.get('hangs 8')?.length).toBeGreaterThan(1)
  })

  it('is told by a node that was idle when the one that took it is gone for good [T7]', async () => {
    start()
    await vi.waitFor(() => expect(time.waiting()).toBeGreaterThan(0))
    await time.pass(600)
    // What a node does that answers 200 and is then killed: this one is not woken.
    await sessions.endBy(
      { sid: 's1' },
      someNotice({ downstream: JSON.stringify({ iss: op.issuer, sid: 's1', at: START }) }),
    )
    await vi.waitFor(async () => {
      await time.pass(10)
      expect(told.map(({ sid }) => sid)).toEqual(['s1'])
    })
  })

  it('loses nothing when the process dies after the 200 and before downstream was told [T7]', async () => {
    const { promise: begun, resolve } = Promise.withResolvers<void>()
    start(() => {
      resolve()
      throw new Error('killed here')
    })
    expect(await logOut({ sid: 's1' })).toBe(200)
    await begun
    await stop()
    start()
    await vi.waitFor(async () => {
      await time.pass(60)
      expect(told.map(({ sid }) => sid)).toEqual(['s1'])
    })
  })

  it('is not told downstream when it was refused or was a replay [BC §2.6]', async () => {
    start()
    expect(await logOut({ sid: 's1', jti: 'once' })).toBe(200)
    expect(await logOut({ sid: 's1', jti: 'once' })).toBe(400)
    expect(await logOut({ sid: 's1', nonce: 'n' })).toBe(400)
    await vi.waitFor(async () => expect(await sessions.nextOwedAt('downstream')).toBeUndefined())
    expect(told).toHaveLength(1)
  })

  it('by the front channel ends the RP session and nothing downstream: anybody could ask for it [FCL-2-h, T4]', async () => {
    start()
    const [handle = ''] = await opened(sessions, someSession({ sid: 's1' }))
    const url = `/auth/frontchannel-logout?${new URLSearchParams({ iss: op.issuer, sid: 's1' })}`
    expect((await ask(rp, 'GET', url, { 'sec-fetch-dest': 'iframe' })).status).toBe(200)
    expect((await sessions.get(handle))?.state).toBe('ended')
    expect(await sessions.nextOwedAt('downstream')).toBeUndefined()
    expect(told).toEqual([])
  })
})

describe('a sign-out at the broker itself', () => {
  const headers = { cookie: `__Host-lockstep-broker=${id}`, 'sec-fetch-site': 'same-origin' }

  it('is told downstream when it is from everywhere, and not when it is from this app only [T7]', async () => {
    start()
    await opened(sessions, someSession({ ...namesOf(id), sid: 's1' }))
    await postForm(rp, '/auth/logout', { from: 'this-app' }, headers)
    await opened(sessions, someSession({ ...namesOf(id), sid: 's2' }))
    await postForm(rp, '/auth/logout', {}, headers)
    await vi.waitFor(() => expect(told).toHaveLength(1))
    const rpSessions = [namesOf(id).publicId]
    expect(told[0]).toEqual({ iss: op.issuer, sid: 's2', sub: 'ada', at: START, cause: 'rp_initiated', rpSessions })
    await postForm(rp, '/auth/logout', {}, headers)
    expect(await sessions.nextOwedAt('downstream')).toBeUndefined()
  })

  it('is told downstream when it was the broker’s own doing [T7]', async () => {
    start()
    await opened(sessions, someSession({ ...namesOf(id), sid: 's1' }))
    await rp.endSessions('ada')
    await vi.waitFor(() => expect(told).toHaveLength(1))
    const rpSessions = [namesOf(id).publicId]
    expect(told[0]).toEqual({ iss: op.issuer, sid: 's1', sub: 'ada', at: START, cause: 'admin', rpSessions })
  })

  it('at an OP without sid names this RP session only: what he has in other browsers goes on', async () => {
    start()
    const elsewhere = withoutSid()
    await opened(sessions, withoutSid(namesOf(id)), elsewhere)
    await postForm(rp, '/auth/logout', {}, headers)
    await vi.waitFor(() => expect(told).toHaveLength(1))
    const rpSessions = [namesOf(id).publicId]
    expect(told[0]).toEqual({ iss: op.issuer, at: START, cause: 'rp_initiated', rpSessions })
    expect((await sessions.get(elsewhere.handle))?.state).toBe('alive')
  })
})

describe('a call of endDownstream', () => {
  it('hears by its signal that its time is over, and that the app stops', async () => {
    const signals: AbortSignal[] = []
    start((_logout, { signal }) => {
      signals.push(signal)
      return new Promise(() => {})
    })
    await logOut({ sid: 's1' })
    await vi.waitFor(() => expect(signals).toHaveLength(1))
    await time.pass(29)
    expect(signals[0]?.aborted).toBe(false)
    await vi.waitFor(async () => {
      await time.pass(10)
      expect(signals).toHaveLength(2)
    })
    expect(signals.map(({ aborted }) => aborted)).toEqual([true, false])
    await rp.close()
    expect(signals[1]?.aborted).toBe(true)
  })
})
