import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { OutboxParts } from '../../../src/op/delivery/outbox.ts'
import { minute, second } from '../../../src/runtime/milliseconds.ts'
import { says, type VirtualWorld, virtualWorld } from './virtual-world.ts'

let world: VirtualWorld
beforeEach(() => {
  world = virtualWorld()
})
afterEach(() => world.close())

const forEver = (): Promise<never> => new Promise(() => {})

describe('what hangs on our side', () => {
  it.each([
    'findReceiver',
    'mint',
  ] as const)('costs one attempt its time when it is %s, and never two live at once', async (what) => {
    let under = 0
    let most = 0
    let isHanging = true
    const healthy: Pick<OutboxParts, 'findReceiver' | 'mint'> = {
      findReceiver: async () => ({ url: 'https://notes.example/logout', isRegistered: false }),
      mint: async () => 'token',
    }
    const hang = async (): Promise<never> => {
      under += 1
      most = Math.max(most, under)
      return forEver()
    }
    world.rps.set('notes', () => says(200))
    world.start(
      { timeout: 5 },
      {
        findReceiver: (clientId) => (isHanging && what === 'findReceiver' ? hang() : healthy.findReceiver(clientId)),
        mint: (delivery) => (isHanging && what === 'mint' ? hang() : healthy.mint(delivery)),
      },
    )
    const ended = await world.logout('u', 'notes')
    await world.pass(5 * second - 1)
    expect((await world.deliveries(ended))[0]).toMatchObject({ state: 'in-flight', attempts: 0 })
    await world.pass(1)
    expect((await world.deliveries(ended))[0]).toMatchObject({
      state: 'due',
      attempts: 1,
      lastOutcome: { why: 'internal' },
    })
    expect(world.log).toContainEqual({
      event: 'op_failed',
      task: what === 'mint' ? 'mint' : 'client',
      clientId: 'notes',
      message: expect.stringContaining('longer than backchannel.timeout'),
    })
    expect([under, most]).toEqual([1, 1])
    expect(world.log.filter(({ event }) => event === 'rp_down')).toEqual([]) // it says nothing of the RP
    isHanging = false
    await world.pass(minute)
    expect((await world.deliveries(ended))[0]?.state).toBe('delivered')
  })

  it('has its lease for as long as it may take: nobody else makes the same attempt meanwhile', async () => {
    const slow = (): Promise<void> => world.runtime.sleep(4.9 * second)
    let tries = 0
    world.start(
      { timeout: 5 },
      {
        store: { ...world.store, takeOver: async () => 0 },
        findReceiver: async () => {
          tries += 1
          await slow()
          return { url: 'https://notes.example/logout', isRegistered: false }
        },
        mint: async () => {
          await slow()
          return 'token'
        },
        runtime: {
          ...world.runtime,
          post: async ({ body }) => {
            await body()
            return says(200)
          },
        },
      },
    )
    const ended = await world.logout('u', 'notes')
    await world.pass(minute)
    expect((await world.deliveries(ended))[0]).toMatchObject({ state: 'delivered', attempts: 1 })
    expect(tries).toBe(1)
  })

  it('is not attempted a second time in the same process, although its lease has run out', async () => {
    let under = 0
    let most = 0
    world.start(
      { timeout: 60 },
      {
        store: { ...world.store, claimDue: (options) => world.store.claimDue({ ...options, lease: second }) },
        runtime: {
          ...world.runtime,
          post: async () => {
            under += 1
            most = Math.max(most, under)
            await world.runtime.sleep(10 * second)
            under -= 1
            return says(200)
          },
        },
      },
    )
    const ended = await world.logout('u', 'notes')
    await world.pass(9 * second)
    expect(most).toBe(1)
    await world.pass(minute) // what the first came to was not written: it is made again
    expect(most).toBe(1)
    expect((await world.deliveries(ended))[0]?.attempts).toBe(0)
  })
})

it.each([
  0, 1, 2, 3, 4, 5, 6, 7,
])('sees a place that comes free after %i looks of a turn at the clock', async (late) => {
  world.rps.set('sick', () => 'hangs')
  world.rps.set('well', () => says(200))
  let looks: number | undefined
  const now = (): number => world.runtime.now() + (looks !== undefined && ++looks > late ? 1 : 0)
  world.start({ concurrency: 1, concurrencyPerRp: 1 }, { runtime: { ...world.runtime, now } })
  await world.logout('u1', 'sick')
  await world.pass(249)
  looks = 0
  await world.logout('u2', 'well')
  looks = undefined
  await world.pass(1000)
  expect(world.posts.map(({ clientId }) => clientId)).toEqual(['sick', 'well'])
})

it('sends nothing for a lease that ran out while the process stood still', async () => {
  let thaw = (): void => {}
  world.rps.set('notes', () => says(200))
  const { runtime } = world
  world.start(
    {},
    {
      // no time-out fires in a process that stands still
      runtime: { ...runtime, sleep: (ms, signal) => runtime.sleep(ms * 1000, signal) },
      findReceiver: async () => {
        await new Promise<void>((done) => {
          thaw = done
        })
        return { url: 'https://notes.example/logout', isRegistered: false }
      },
    },
  )
  await world.logout('u', 'notes')
  world.start() // another process
  await world.pass(minute)
  expect(world.posts).toHaveLength(1)
  thaw()
  await world.quiet()
  expect(world.posts).toHaveLength(1)
})

describe('stopping is over within a bounded time', () => {
  const hanging = { findReceiver: forEver, mint: forEver }
  it.each(['findReceiver', 'mint'] as const)('when %s hangs', async (what) => {
    const outbox = world.start({ stopTimeout: 2 }, { [what]: hanging[what] })
    const ended = await world.logout('u', 'notes')
    await expectStopped(outbox, 2 * second)
    expect((await world.deliveries(ended))[0]).toMatchObject({ state: 'due', attempts: 0 })
  })

  it.each([
    'takeOver',
    'claimDue',
    'nextDueAt',
    'settle',
    'hasten',
  ] as const)('when the store hangs in %s', async (method) => {
    world.rps.set('notes', () => says(200))
    const outbox = world.start({ stopTimeout: 2 }, { store: { ...world.store, [method]: forEver } })
    await world.logout('u', 'notes')
    await expectStopped(outbox, 7 * second)
  })

  it('while what waited is still being brought forward, of which no other step begins', async () => {
    let isAborted: boolean | undefined
    const outbox = world.start(
      {},
      {
        store: {
          ...world.store,
          hasten: async (_whose, _perSecond, signal) => {
            await new Promise((done) => signal?.addEventListener('abort', done))
            isAborted = signal?.aborted
            return 0
          },
        },
      },
    )
    await world.quiet()
    await expectStopped(outbox, 0)
    expect(isAborted).toBe(true)
  })

  async function expectStopped(outbox: { stop(): Promise<void> }, within: number): Promise<void> {
    let isDone = false
    void outbox.stop().then(() => {
      isDone = true
    })
    await world.pass(within)
    expect(isDone).toBe(true)
  }
})
