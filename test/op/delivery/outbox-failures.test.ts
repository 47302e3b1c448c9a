import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { LockstepError } from '../../../src/protocol/errors.ts'
import { minute, second } from '../../../src/runtime/milliseconds.ts'
import { says, type VirtualWorld, virtualWorld } from './virtual-world.ts'

let world: VirtualWorld
beforeEach(() => {
  world = virtualWorld()
})
afterEach(() => world.close())

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
        (await world.store.settle(left, {
          dueAt: 0,
          startedAt: 0,
          finishedAt: 0,
          outcome: { state: 'dead', why: 'horizon' },
        })),
    ).toBe(false)
  })

  it('brings forward at its start what was waiting', async () => {
    const ended = await world.logout('u', 'notes')
    const [left] = await world.store.claimDue({ limit: 1, lease: 1000 })
    const retryAt = world.runtime.now() + 60 * minute
    if (left)
      await world.store.settle(left, {
        dueAt: 0,
        startedAt: 0,
        finishedAt: 0,
        outcome: { state: 'due', retryAt, why: 'network' },
      })
    world.rps.set('notes', () => says(200))
    world.start()
    await world.quiet()
    expect((await world.deliveries(ended))[0]?.state).toBe('delivered')
  })

  it('leaves alone what another worker of the same process has under way: other keys mean another Provider [T26]', async () => {
    world.rps.set('notes', () => 'hangs')
    world.start({ timeout: 500 })
    const ended = await world.logout('u', 'notes')
    await world.pass(second)
    world.start({ timeout: 500 })
    await world.pass(100 * second)
    expect(world.posts).toHaveLength(1)
    expect((await world.deliveries(ended))[0]?.state).toBe('in-flight')
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
    world.start({ timeout: 500 }, { store: { ...world.store, takeOver: async () => 0 } })
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
    await world.pass(36 * second) // the lease: three times the time-out, and 20 seconds
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
    await world.pass(minute)
    expect(world.log).toEqual([{ event: 'op_failed', task: 'outbox', message: 'locked' }]) // once, not each second
    failing = false
    const ended = await world.logout('u', 'notes')
    await world.pass(2 * second)
    expect((await world.deliveries(ended))[0]?.state).toBe('delivered')
  })

  it('does not fail a logout that is committed because nobody can tell how far it is', async () => {
    world.rps.set('notes', () => says(200))
    const getLogout = async (): Promise<never> => {
      throw new LockstepError('store_failed', 'gone')
    }
    const outbox = world.start({}, { store: { ...world.store, getLogout } })
    const ended = await world.logout('u', 'notes')
    await outbox.firstAttempts(ended.logout.id, 1000)
    expect(world.log).toContainEqual({ event: 'op_failed', task: 'first_attempts', message: 'gone' })
    expect((await world.deliveries(ended))[0]?.state).toBe('delivered')
  })

  it('keeps no user waiting for longer than it may while the store hangs', async () => {
    let calls = 0
    const getLogout: typeof world.store.getLogout = (id) => {
      calls += 1
      return calls === 1 ? world.store.getLogout(id) : new Promise(() => {})
    }
    const listening = { ...world.store, onWake: () => () => {} }
    const hangs = world.start({}, { store: { ...listening, getLogout: () => new Promise(() => {}) } })
    const hangsLater = world.start({}, { store: { ...listening, getLogout } })
    world.rps.set('notes', () => 'hangs')
    const ended = await world.logout('u', 'notes')
    let over = 0
    for (const outbox of [hangs, hangsLater]) {
      void outbox.firstAttempts(ended.logout.id, second).then(() => {
        over += 1
      })
    }
    await world.pass(second)
    expect(over).toBe(2)
    expect(calls).toBe(2)
    expect(world.log).toContainEqual({
      event: 'op_failed',
      task: 'first_attempts',
      message: expect.stringContaining('in time'),
    })
  })

  it('waits a little, and does not spin, while another node holds what is due', async () => {
    world.rps.set('notes', () => says(200))
    let asked = 0
    const claimDue: typeof world.store.claimDue = async (options) => {
      asked += 1
      return asked < 40 ? [] : world.store.claimDue(options)
    }
    world.start({}, { store: { ...world.store, claimDue } })
    const ended = await world.logout('u', 'notes')
    await world.pass(second)
    expect(asked).toBeLessThan(25)
    await world.pass(second)
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
