import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { createSealer } from '../../src/rp/seal.ts'
import { namesOf } from '../../src/rp/session-id.ts'
import { createRelyingParty, type RelyingParty, type RpLogEvent, type RpSessionStore } from '../../src/rp.ts'
import { memoryStore } from '../../src/rp-memory.ts'
import { opened, START, someSession } from '../../src/testing/rp-store-bench.ts'
import { type FakeOp, startFakeOp } from './fake-op.ts'
import { ask } from './plain-request.ts'
import { createVirtualTime, type VirtualTime } from './virtual-time.ts'

/* The OP has given a new refresh token for the old one, and then the store fails. */

let op: FakeOp
let time: VirtualTime
let sessions: RpSessionStore
let rp: RelyingParty
const log: RpLogEvent[] = []
const id = 'x'.repeat(43)
const cookie = `__Host-lockstep-notes=${id}`

beforeEach(async () => {
  op = await startFakeOp()
  time = createVirtualTime(START * 1000)
  const store = memoryStore()
  sessions = store.forClient({ issuer: op.issuer, clientId: 'notes' }, time)
  log.length = 0
  rp = createRelyingParty({
    issuer: op.issuer,
    clientId: 'notes',
    clientSecret: 'client secret',
    appUrl: 'https://notes.example',
    cookieSuffix: 'notes',
    secret: 's'.repeat(32),
    store,
    runtime: time,
    log: (event) => log.push(event),
  })
  const sealer = createSealer(['s'.repeat(32)])
  const stale = { idToken: 'i', accessToken: 'a0', accessTokenLife: { expiresAt: START - 1, refreshAt: START - 30 } }
  const refreshToken = { sealed: await sealer.seal('refresh-token', { refreshToken: 'r0' }), offline: false }
  await opened(sessions, someSession({ ...namesOf(id), tokens: await sealer.seal('tokens', stale), refreshToken }))
  answerRefresh({ access_token: 'a1', expires_in: 600, refresh_token: 'r1' })
})

afterEach(async () => {
  await rp.close()
  await op.close()
})

function answerRefresh(more: Record<string, unknown>): void {
  op.answers.set('/token', { status: 200, body: { token_type: 'Bearer', ...more } })
}

const refreshed = () =>
  op.posted
    .filter(({ form }) => form.get('grant_type') === 'refresh_token')
    .map(({ form }) => form.get('refresh_token'))

/** Settles a promise while the clock goes on. */
async function passing<T>(promise: Promise<T>): Promise<T> {
  let isOver = false
  const watched = promise.finally(() => {
    isOver = true
  })
  watched.catch(() => undefined)
  const isSettled = async () => {
    await time.pass(0.5)
    expect(isOver).toBe(true)
  }
  await vi.waitFor(isSettled, { interval: 5, timeout: 20_000 })
  return watched
}

const noDisk = () => {
  throw new Error('the disk is full')
}

describe('refreshed tokens', () => {
  it('are written down when the store works again, and the OP is asked once with each refresh token', async () => {
    const { saveTokens } = sessions
    let failures = 3
    sessions.saveTokens = async (...saved) => (failures-- > 0 ? noDisk() : saveTokens(...saved))
    expect(await passing(rp.accessToken(cookie))).toBe('a1')
    await time.pass(600)
    answerRefresh({ access_token: 'a2', expires_in: 600, refresh_token: 'r2' })
    expect(await passing(rp.accessToken(cookie))).toBe('a2')
    expect(refreshed()).toEqual(['r0', 'r1'])
  })

  it('are written down once where the store had done it and only its answer was lost', async () => {
    const { saveTokens } = sessions
    let failures = 1
    sessions.saveTokens = async (...saved) => {
      const result = await saveTokens(...saved)
      return failures-- > 0 ? noDisk() : result
    }
    expect(await passing(rp.accessToken(cookie))).toBe('a1')
    expect(refreshed()).toEqual(['r0'])
  })

  it('are not lost where the store fails over the sid that came with them', async () => {
    const iat = Math.floor(Date.now() / 1000)
    const claims = { iss: op.issuer, aud: 'notes', sub: 'ada', sid: 'another', iat, exp: iat + 60 }
    const id_token = await op.mint(claims, { typ: 'JWT' })
    answerRefresh({ access_token: 'a1', expires_in: 600, refresh_token: 'r1', id_token })
    const { addSid } = sessions
    let failures = 2
    sessions.addSid = async (...added) => (failures-- > 0 ? noDisk() : addSid(...added))
    expect(await passing(rp.accessToken(cookie))).toBe('a1')
    expect(refreshed()).toEqual(['r0'])
  })

  it('that the store does not take in time are said to be lost; the RP session lives on, and asks no more than once again', async () => {
    const { saveTokens } = sessions
    sessions.saveTokens = async () => noDisk()
    await expect(passing(rp.accessToken(cookie))).rejects.toThrow('the disk is full')
    expect(log).toContainEqual({ event: 'tokens_not_saved', message: 'the disk is full' })
    sessions.saveTokens = saveTokens
    op.answers.set('/token', { status: 400, body: { error: 'invalid_grant' } }) // r0 was used before
    await time.pass(60)
    for (let i = 0; i < 3; i++) expect(await passing(rp.accessToken(cookie))).toBeUndefined()
    expect(refreshed()).toEqual(['r0', 'r0'])
    expect((await ask(rp, 'GET', '/auth/session', { cookie })).status).toBe(200)
  })
})
