import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { minute, second } from '../../../src/runtime/milliseconds.ts'
import { says, type VirtualWorld, virtualWorld } from './virtual-world.ts'

let world: VirtualWorld
beforeEach(() => {
  world = virtualWorld()
})
afterEach(() => world.close())

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
    await world.pass(9 * second) // the next probe, and a ramp of 1, 2, 4, 8, 16, 32
    for (const one of ended) expect((await world.deliveries(one))[0]?.state).toBe('delivered')
    expect(world.log.filter(({ event }) => event === 'rp_back')).toHaveLength(1)
  })

  it('does not wait for the backoff of each delivery once it is back', async () => {
    world.start()
    const ended = [
      await world.logout('u1', 'notes'),
      await world.logout('u2', 'notes'),
      await world.logout('u3', 'notes'),
    ]
    await world.pass(20 * minute)
    const waits = (await Promise.all(ended.map((one) => world.deliveries(one)))).flat().map(({ dueAt }) => dueAt)
    expect(Math.max(...waits)).toBeGreaterThan(world.runtime.now() + minute)
    world.rps.set('notes', () => says(200))
    await world.pass(13 * second)
    for (const one of ended) expect((await world.deliveries(one))[0]?.state).toBe('delivered')
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

  it('still counts as down while another node has the one delivery it is owed, and not once that is delivered', async () => {
    const outbox = world.start({}, { store: { ...world.store, takeOver: async () => 0 } })
    await world.logout('u', 'notes')
    await world.pass(minute)
    const taken = await world.store.claimEarly({ clientId: 'notes' }, 10 * minute)
    await world.pass(5 * minute)
    expect(outbox.openBreakers()).toBe(1)
    const times = { dueAt: 0, startedAt: 0, finishedAt: 0 }
    await world.store.settle(taken ?? expect.unreachable(), { ...times, outcome: { state: 'delivered', status: 200 } })
    await world.pass(minute)
    expect(outbox.openBreakers()).toBe(0)
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

  it('costs no more than its part of 50 probes a second, however many others are down with it', async () => {
    const down = Array.from({ length: 200 }, (_, i) => `down${i}`)
    const outbox = world.start()
    await world.logout('u', ...down)
    await world.pass(15 * second) // three failures each
    expect(outbox.openBreakers()).toBe(200)
    for (let i = 0; i < 5; i++) outbox.hurry()
    const before = world.posts.length
    await world.pass(10 * second)
    expect(world.posts.length - before).toBeLessThanOrEqual(505)
    expect(world.posts.length - before).toBeGreaterThan(400)
    expect(new Set(world.posts.slice(before).map(({ clientId }) => clientId)).size).toBe(200)
    world.rps.set('down7', () => says(200))
    outbox.hurry({ clientId: 'down7' }) // one that is named does not wait for the others
    await world.pass(100)
    expect(world.log).toContainEqual({ event: 'rp_back', clientId: 'down7' })
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
