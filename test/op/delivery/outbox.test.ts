import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { LockstepError } from '../../../src/protocol/errors.ts'
import { StaleConnectionError } from '../../../src/runtime/post-failure.ts'
import { says, type VirtualWorld, virtualWorld } from './virtual-world.ts'

let world: VirtualWorld
beforeEach(() => {
  world = virtualWorld()
})
afterEach(() => world.close())

const second = 1000
const minute = 60 * second

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
    world.rps.set('notes', (request) => {
      seen = { ...request, signal: undefined }
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

  it('refuses only after five refusals over 15 minutes', async () => {
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

describe('an RP that is down', () => {
  it.each([1, 5, 25])('hears of the logout within seconds of coming back after %i minutes', async (minutes) => {
    world.start()
    const ended = await world.logout('u', 'notes')
    await world.pass(minutes * minute)
    world.rps.set('notes', () => says(200))
    await world.pass(Math.max(2 * second, (minutes * minute) / 100) + second)
    expect((await world.deliveries(ended))[0]?.state).toBe('delivered')
  })

  it('is asked with one delivery at a time, and gets all it is owed once it answers', async () => {
    world.start()
    const ended = []
    for (let i = 0; i < 40; i++) ended.push(await world.logout(`u${i}`, 'notes'))
    await world.pass(2 * minute)
    const before = world.posts.length
    await world.pass(20 * second)
    expect(world.posts.length - before).toBeLessThanOrEqual(11)
    expect(world.log.filter(({ event }) => event === 'rp_down')).toEqual([{ event: 'rp_down', clientId: 'notes' }])

    world.rps.set('notes', () => says(200))
    await world.pass(5 * second) // the next probe, and a ramp of 50 a second
    for (const one of ended) expect((await world.deliveries(one))[0]?.state).toBe('delivered')
    expect(world.log.filter(({ event }) => event === 'rp_back')).toHaveLength(1)
  })

  it('is noticed to be back although its gateway answered 503 all the while', async () => {
    world.rps.set('notes', () => says(503))
    world.start()
    const ended = await world.logout('u', 'notes')
    await world.pass(10 * minute)
    world.rps.set('notes', () => says(200))
    await world.pass(16 * second)
    expect((await world.deliveries(ended))[0]?.state).toBe('delivered')
  })

  it('is left alone for as long as it asks', async () => {
    world.rps.set('notes', () => says(429, { 'retry-after': '1200' }))
    world.start()
    for (let i = 0; i < 5; i++) await world.logout(`u${i}`, 'notes')
    const before = world.posts.length
    await world.pass(19 * minute)
    expect(world.posts).toHaveLength(before)
    await world.pass(2 * minute)
    expect(world.posts.length).toBeGreaterThan(before)
  })

  it('does not hold up a healthy delivery with one that always gets an error', async () => {
    let poison: string | undefined
    world.rps.set('notes', ({ body }) => says(body === poison ? 500 : 200))
    world.start({}, { mint: async ({ logout }) => logout.uid })
    poison = 'logout_token=poison'
    await world.logout('poison', 'notes')
    await world.pass(30 * minute)
    const healthy = await world.logout('healthy', 'notes')
    expect((await world.deliveries(healthy))[0]?.state).toBe('delivered')
  })

  it('delays nobody else while it hangs', async () => {
    world.rps.set('hangs', () => 'hangs')
    world.rps.set('notes', () => says(200))
    world.start({ concurrency: 10, concurrencyPerRp: 8 })
    for (let i = 0; i < 20; i++) await world.logout(`h${i}`, 'hangs')
    expect(world.posts).toHaveLength(8)
    for (let i = 0; i < 20; i++) {
      const ended = await world.logout(`u${i}`, 'notes')
      expect((await world.deliveries(ended))[0]).toMatchObject({ state: 'delivered', dueAt: ended.logout.endedAt })
    }
    await world.pass(5 * second)
    expect(world.log).toContainEqual({ event: 'rp_down', clientId: 'hangs' })
    await world.pass(10 * second)
    // open: from now on a hanging RP costs one attempt at a time
    const before = world.posts.length
    await world.pass(minute)
    expect(world.posts.length - before).toBeLessThanOrEqual(4)
  })

  it('has no more attempts under way than its share', async () => {
    let under = 0
    let most = 0
    world.start(
      { concurrencyPerRp: 3 },
      {
        runtime: {
          ...world.runtime,
          post: async () => {
            under += 1
            most = Math.max(most, under)
            await world.runtime.sleep(second)
            under -= 1
            return says(200)
          },
        },
      },
    )
    for (let i = 0; i < 12; i++) await world.logout(`u${i}`, 'notes')
    await world.pass(10 * second)
    expect(most).toBe(3)
    expect(await world.store.nextDueAt()).toBeUndefined()
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
  it('has one line for the first failure and one for the end, and never a token, sub or sid', async () => {
    world.rps.set('notes', () => (world.posts.length < 3 ? says(500) : says(202)))
    world.start()
    const ended = await world.logout('u', 'notes')
    await world.pass(minute)
    const { id: deliveryId } = (await world.deliveries(ended))[0] ?? {}
    const about = { deliveryId, logoutId: ended.logout.id, clientId: 'notes' }
    expect(world.log).toEqual([
      { event: 'delivery_failing', ...about, attempts: 1, retryAt: expect.any(Number), why: 'status', status: 500 },
      { event: 'delivery_delivered', ...about, attempts: 3, status: 202, suspicious: true },
    ])
    const text = JSON.stringify(world.log)
    expect(text).not.toContain('alice')
    expect(text).not.toContain('sid-')
    expect(text).not.toContain('token-')
  })
})

describe('crashes and failures of our own', () => {
  it('takes over at its start what a crashed worker had in flight', async () => {
    world.rps.set('notes', () => says(200))
    const ended = await world.logout('u', 'notes')
    const [left] = await world.store.claimDue({ limit: 1, lease: 60_000 })
    world.start()
    await world.quiet()
    expect((await world.deliveries(ended))[0]?.state).toBe('delivered')
    expect(world.posts[0]?.at).toBe(0)
    expect(
      left &&
        (await world.store.settle(left, { startedAt: 0, finishedAt: 0, outcome: { state: 'dead', why: 'horizon' } })),
    ).toBe(false)
  })

  it('brings forward at its start what was waiting', async () => {
    const ended = await world.logout('u', 'notes')
    const [left] = await world.store.claimDue({ limit: 1, lease: 1000 })
    const retryAt = world.runtime.now() + 60 * minute
    if (left)
      await world.store.settle(left, {
        startedAt: 0,
        finishedAt: 0,
        outcome: { state: 'due', retryAt, why: 'network' },
      })
    world.rps.set('notes', () => says(200))
    world.start()
    await world.quiet()
    expect((await world.deliveries(ended))[0]?.state).toBe('delivered')
  })

  it('waits for the lease of a worker that may be alive, where several share the store', async () => {
    world.rps.set('notes', () => says(200))
    const ended = await world.logout('u', 'notes')
    await world.store.claimDue({ limit: 1, lease: 30_000 })
    world.start({}, { store: { ...world.store, takeOver: async () => 0 } })
    await world.pass(30_000 - 1)
    expect(world.posts).toEqual([])
    await world.pass(1)
    expect((await world.deliveries(ended))[0]?.state).toBe('delivered')
  })

  it('writes nothing of an attempt that outlived its lease and was made again', async () => {
    world.rps.set('notes', () => (world.posts.length === 1 ? 'hangs' : says(200)))
    world.start({ timeout: 500 })
    const ended = await world.logout('u', 'notes')
    await world.store.takeOver() // as another node would see it once the lease has run out
    world.start()
    await world.quiet()
    expect((await world.deliveries(ended))[0]).toMatchObject({ state: 'delivered', attempts: 1 })
    await world.pass(500 * second)
    expect((await world.deliveries(ended))[0]).toMatchObject({ state: 'delivered', attempts: 1 })
    expect(world.log.filter(({ event }) => event === 'delivery_failing')).toEqual([])
  })

  it('delivers again when the outcome could not be written: at least once, never lost', async () => {
    let failing = true
    world.rps.set('notes', () => says(200))
    world.start(
      {},
      {
        store: {
          ...world.store,
          settle: async (delivery, attempt) => {
            if (failing) throw new LockstepError('store_failed', 'disk full')
            return world.store.settle(delivery, attempt)
          },
        },
      },
    )
    const ended = await world.logout('u', 'notes')
    expect((await world.deliveries(ended))[0]?.state).toBe('in-flight')
    expect(world.log).toContainEqual({ event: 'op_failed', task: 'settle', clientId: 'notes', message: 'disk full' })
    failing = false
    await world.pass(31 * second)
    expect((await world.deliveries(ended))[0]).toMatchObject({ state: 'delivered', attempts: 1 })
    expect(world.posts).toHaveLength(2)
  })

  it.each(['takeOver', 'hasten', 'claimDue', 'nextDueAt'] as const)('goes on after %s failed', async (method) => {
    let failing = true
    const fail = async (): Promise<never> => {
      throw new LockstepError('store_failed', 'locked')
    }
    world.rps.set('notes', () => says(200))
    const store = { ...world.store }
    Object.defineProperty(store, method, { get: () => (failing ? fail : world.store[method]) })
    world.start({}, { store })
    await world.quiet()
    expect(world.log).toContainEqual({ event: 'op_failed', task: 'outbox', message: 'locked' })
    failing = false
    const ended = await world.logout('u', 'notes')
    await world.pass(2 * second)
    expect((await world.deliveries(ended))[0]?.state).toBe('delivered')
  })

  it('does not lose a wake-up that comes while it is at work', async () => {
    world.rps.set('notes', () => says(200))
    let ended: Awaited<ReturnType<typeof world.logout>> | undefined
    const outbox = world.start(
      {},
      {
        store: {
          ...world.store,
          nextDueAt: async (room) => {
            const at = await world.store.nextDueAt(room)
            if (!ended) {
              ended = await world.logout('u', 'notes')
              outbox.wake()
            }
            return at
          },
        },
      },
    )
    await world.quiet()
    await world.quiet()
    expect(world.posts).toHaveLength(1)
  })
})

describe('stopping', () => {
  it('waits for attempts under way and claims no more', async () => {
    world.rps.set('notes', () => says(200))
    const outbox = world.start(
      {},
      {
        runtime: {
          ...world.runtime,
          post: async () => {
            await world.runtime.sleep(second)
            return says(200)
          },
        },
      },
    )
    const ended = await world.logout('u1', 'notes')
    const stopped = outbox.stop()
    const later = await world.logout('u2', 'notes')
    await world.pass(second)
    await stopped
    expect((await world.deliveries(ended))[0]?.state).toBe('delivered')
    expect((await world.deliveries(later))[0]).toMatchObject({ state: 'due', attempts: 0 })
  })

  it('gives back what takes too long, unattempted, for the next start', async () => {
    world.rps.set('notes', () => 'hangs')
    const outbox = world.start({ timeout: 60, stopTimeout: 2 })
    const ended = await world.logout('u', 'notes')
    let done = false
    const stopped = outbox.stop().then(() => {
      done = true
    })
    await world.pass(2 * second - 1)
    expect(done).toBe(false)
    await world.pass(1)
    await stopped
    expect((await world.deliveries(ended))[0]).toMatchObject({ state: 'due', attempts: 0, dueAt: world.runtime.now() })
  })

  it('may be asked for twice', async () => {
    const outbox = world.start()
    await world.quiet()
    await Promise.all([outbox.stop(), outbox.stop()])
    await outbox.stop()
  })
})
