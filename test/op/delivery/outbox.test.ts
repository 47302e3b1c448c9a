import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { LockstepError } from '../../../src/protocol/errors.ts'
import { minute, second } from '../../../src/runtime/milliseconds.ts'
import { StaleConnectionError } from '../../../src/runtime/post-failure.ts'
import { says, type VirtualWorld, virtualWorld } from './virtual-world.ts'

let world: VirtualWorld
beforeEach(() => {
  world = virtualWorld()
})
afterEach(() => world.close())

describe('telling RPs', () => {
  it('tells each RP of a logout at once, with a token of its own', async () => {
    world.rps.set('notes', () => says(200, { 'logout-sessions-ended': '2' }))
    world.rps.set('mail', () => says(204))
    world.start()
    const ended = await world.logout('u', 'notes', 'mail')
    expect(world.posts.map(({ clientId, at }) => [clientId, at]).sort()).toEqual([
      ['mail', 0],
      ['notes', 0],
    ])
    expect(new Set(world.posts.map(({ token }) => token)).size).toBe(2)
    expect((await world.deliveries(ended)).map(({ clientId, lastOutcome }) => [clientId, lastOutcome])).toEqual([
      ['mail', { state: 'delivered', status: 204 }],
      ['notes', { state: 'delivered', status: 200, sessionsEnded: 2 }],
    ])
  })

  it('posts a form, asks for JSON, and follows the options', async () => {
    let seen: unknown
    world.rps.set('notes', ({ url, headers, body, timeout }) => {
      seen = { url, headers, body, timeout }
      return says(200)
    })
    world.start({ timeout: 3 })
    await world.logout('u', 'notes')
    expect(seen).toEqual({
      url: 'https://notes.example/logout',
      headers: { 'content-type': 'application/x-www-form-urlencoded', accept: 'application/json' },
      body: 'logout_token=token-1',
      timeout: 3000,
    })
  })

  it('mints a fresh token for each attempt [BC §2.6 (8)]', async () => {
    world.rps.set('notes', () => says(world.posts.length < 4 ? 500 : 200))
    world.start()
    const ended = await world.logout('u', 'notes')
    await world.pass(10 * minute)
    expect(new Set(world.posts.map(({ token }) => token)).size).toBe(4)
    expect((await world.deliveries(ended))[0]).toMatchObject({ state: 'delivered', attempts: 4 })
  })

  it('tries a second time at once when a reused connection was closed, and only then', async () => {
    world.rps.set('notes', () => (world.posts.length === 1 ? new StaleConnectionError({}) : says(200)))
    world.rps.set('mail', () => new StaleConnectionError({}))
    world.start()
    const [notes, mail] = [await world.logout('u1', 'notes'), await world.logout('u2', 'mail')]
    expect((await world.deliveries(notes))[0]).toMatchObject({ state: 'delivered', attempts: 1 })
    expect((await world.deliveries(mail))[0]).toMatchObject({
      state: 'due',
      attempts: 1,
      lastOutcome: { why: 'network' },
    })
    expect(world.posts.map(({ clientId, at }) => [clientId, at])).toEqual([
      ['notes', 0],
      ['notes', 0],
      ['mail', 0],
      ['mail', 0],
    ])
    expect(new Set(world.posts.map(({ token }) => token)).size).toBe(4)
  })

  it('writes a delivery off when its client is gone or has no back-channel URI any more', async () => {
    world.start({}, { findReceiver: async () => undefined })
    const ended = await world.logout('u', 'gone')
    expect((await world.deliveries(ended))[0]).toMatchObject({ state: 'dead', lastOutcome: { why: 'client_gone' } })
    expect(world.posts).toEqual([])
    expect(world.log).toMatchObject([{ event: 'delivery_dead', clientId: 'gone', why: 'client_gone' }])
  })

  it('keeps a delivery whose token cannot be signed, and says so', async () => {
    let broken = true
    world.rps.set('notes', () => says(200))
    world.start(
      {},
      {
        mint: async () => {
          if (broken) throw new Error('no signing key')
          return 'signed'
        },
      },
    )
    const ended = await world.logout('u', 'notes')
    expect((await world.deliveries(ended))[0]).toMatchObject({ state: 'due', lastOutcome: { why: 'internal' } })
    expect(world.log).toContainEqual({ event: 'op_failed', task: 'mint', clientId: 'notes', message: 'no signing key' })
    broken = false
    await world.pass(minute)
    expect((await world.deliveries(ended))[0]?.state).toBe('delivered')
  })

  it('refuses only after five refusals over 15 minutes [BCL-2.5-b] [E32]', async () => {
    world.rps.set('notes', () => says(400, {}, '{"error":"invalid_request"}'))
    world.start()
    const ended = await world.logout('u', 'notes')
    await world.pass(15 * minute - 1)
    expect((await world.deliveries(ended))[0]?.state).toBe('due')
    await world.pass(1)
    expect((await world.deliveries(ended))[0]).toMatchObject({ state: 'refused', attempts: 5 })
    expect(world.posts.map(({ at }) => at / minute)).toEqual([0, 1, 3, 7, 15])
  })

  it('delivers after a refusal that healed', async () => {
    world.rps.set('notes', () => (world.posts.length < 3 ? says(400, {}, '{"error":"invalid_request"}') : says(200)))
    world.start()
    const ended = await world.logout('u', 'notes')
    await world.pass(15 * minute)
    expect((await world.deliveries(ended))[0]).toMatchObject({ state: 'delivered', attempts: 3 })
  })

  it('gives up after the horizon and says so once', async () => {
    world.start({ horizon: 3600 })
    const ended = await world.logout('u', 'notes')
    await world.pass(3 * 60 * minute)
    expect((await world.deliveries(ended))[0]).toMatchObject({
      state: 'dead',
      lastOutcome: { state: 'dead', why: 'horizon' },
    })
    expect(world.log.filter(({ event }) => event === 'delivery_dead')).toHaveLength(1)
    const posts = world.posts.length
    await world.pass(3 * 60 * minute)
    expect(world.posts).toHaveLength(posts)
  })
})

describe('waiting for the first attempts', () => {
  it('ends when each RP was tried once, failed or not', async () => {
    world.rps.set('notes', () => says(200))
    world.rps.set('slow', () => 'hangs')
    const outbox = world.start({ timeout: 2 })
    const ended = await world.logout('u', 'notes', 'slow', 'down')
    let done = false
    const waiting = outbox.firstAttempts(ended.logout.id, 10 * second).then(() => {
      done = true
    })
    await world.pass(2 * second - 1)
    expect(done).toBe(false)
    await world.pass(1)
    expect(done).toBe(true)
    await waiting
  })

  it('ends after its time, whatever is still under way', async () => {
    world.rps.set('slow', () => 'hangs')
    const outbox = world.start()
    const ended = await world.logout('u', 'slow')
    let done = false
    const waiting = outbox.firstAttempts(ended.logout.id, second).then(() => {
      done = true
    })
    await world.pass(second - 1)
    expect(done).toBe(false)
    await world.pass(1)
    expect(done).toBe(true)
    await waiting
  })

  it('is over at once when all were tried, nobody is told, or the logout is unknown', async () => {
    world.rps.set('notes', () => says(200))
    const outbox = world.start()
    await outbox.firstAttempts((await world.logout('u1', 'notes')).logout.id, second)
    await outbox.firstAttempts((await world.logout('u2')).logout.id, second)
    await outbox.firstAttempts('unknown', second)
  })

  it('does not wait for an RP that is known to be down', async () => {
    const outbox = world.start()
    await world.logout('u1', 'down')
    await world.pass(10 * second)
    const ended = await world.logout('u2', 'down')
    await outbox.firstAttempts(ended.logout.id, second)
  })
})

describe('a refusal of our own egress policy', () => {
  it('is said once per client, and the delivery goes out once the operator allows it', async () => {
    const refusal = new LockstepError(
      'egress_refused',
      'the host "notes.example" is not allowed; add it to egress.allow',
    )
    world.rps.set('notes', () => refusal)
    world.start()
    const ended = await world.logout('u1', 'notes')
    await world.logout('u2', 'notes')
    await world.pass(minute)
    expect((await world.deliveries(ended))[0]).toMatchObject({ state: 'due', lastOutcome: { why: 'egress' } })
    expect(world.log.filter(({ event }) => event === 'egress_refused')).toEqual([
      { event: 'egress_refused', clientId: 'notes', message: refusal.message },
    ])
    expect(world.log.filter(({ event }) => event === 'rp_down')).toEqual([])
    world.rps.set('notes', () => says(200))
    await world.pass(16 * minute)
    expect((await world.deliveries(ended))[0]?.state).toBe('delivered')
  })
})

describe('the log', () => {
  it('says what the network said', async () => {
    world.start()
    await world.logout('u', 'down')
    await world.pass(10 * minute)
    expect(world.log.filter(({ event }) => event === 'delivery_failing')).toMatchObject([
      { attempts: 4, failed: 'network', code: 'ECONNREFUSED' },
    ])
  })

  it('has one line for the fourth failure and one for the end, and never a token, sub or sid', async () => {
    world.rps.set('notes', () => (world.posts.length < 6 ? says(500, {}, '{"error":"server_error"}') : says(202)))
    world.start()
    const ended = await world.logout('u', 'notes')
    await world.pass(30 * minute)
    const { id: deliveryId } = (await world.deliveries(ended))[0] ?? {}
    const about = { deliveryId, logoutId: ended.logout.id, clientId: 'notes' }
    const why = { failed: 'status', status: 500, error: 'server_error' }
    expect(world.log).toEqual([
      { event: 'delivery_failing', ...about, attempts: 4, retryAt: expect.any(Number), ...why },
      { event: 'delivery_delivered', ...about, attempts: 6, status: 202, suspicious: true },
    ])
    const text = JSON.stringify(world.log)
    expect(text).not.toContain('alice')
    expect(text).not.toContain('sid-')
    expect(text).not.toContain('token-')
  })
})
