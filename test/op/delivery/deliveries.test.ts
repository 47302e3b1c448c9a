import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { BackchannelOptions } from '../../../src/op/delivery/backchannel-options.ts'
import { type Deliveries, deliveriesOf } from '../../../src/op/delivery/deliveries.ts'
import type { DeliveryFilter } from '../../../src/op/store/contract.ts'
import { hour, minute, second } from '../../../src/runtime/milliseconds.ts'
import { says, type VirtualWorld, virtualWorld } from './virtual-world.ts'

let world: VirtualWorld
beforeEach(() => {
  world = virtualWorld()
})
afterEach(() => world.close())

/** A worker, and what an operator has in hands. */
function operate(options?: BackchannelOptions): Deliveries {
  const outbox = world.start(options)
  return deliveriesOf({
    store: world.store,
    hurry: (clientId) => outbox.hurry(clientId),
    log: (event) => world.log.push(event),
  })
}

describe('a delivery', () => {
  it('keeps one id, its attempts with their times, and says when the next is due', async () => {
    world.rps.set('notes', (request) => {
      request.onConnected?.()
      if (world.posts.length === 1) return says(503, {}, '{"error":"temporarily_unavailable"}')
      request.onAnswered?.()
      return says(200)
    })
    const deliveries = operate()
    const ended = await world.logout('u', 'notes')
    const at = ended.logout.endedAt
    const [first] = (await deliveries.list({ logoutId: ended.logout.id })).deliveries
    expect(first).toMatchObject({ state: 'due', attempts: 1, accountId: 'alice', cause: 'op_logout', plannedAt: at })
    const next = first?.nextTryAt ?? expect.unreachable()
    expect(next).toBeGreaterThan(at)

    await world.pass(minute)
    const found = await deliveries.get(first?.deliveryId ?? '')
    expect(found).toMatchObject({ deliveryId: first?.deliveryId, state: 'delivered', attempts: 2, finalAt: next })
    expect(found?.history).toEqual([
      {
        dueAt: next,
        startedAt: next,
        connectedAt: next,
        answeredAt: next,
        finishedAt: next,
        outcome: { state: 'delivered', status: 200 },
      },
      {
        dueAt: at,
        startedAt: at,
        connectedAt: at,
        finishedAt: at,
        outcome: { state: 'due', retryAt: next, why: 'status', status: 503, error: 'temporarily_unavailable' },
      },
    ])
    expect(await deliveries.get('unknown')).toBeUndefined()
  })
})

describe('retry', () => {
  it('tries once what waits for its next try, which goes on waiting when that fails', async () => {
    world.rps.set('notes', () => says(500))
    const deliveries = operate()
    const ended = await world.logout('u', 'notes')
    await world.pass(20 * minute)
    const [before] = await world.deliveries(ended)
    const posts = world.posts.length
    expect(await deliveries.retry({ clientId: 'notes' })).toEqual({ count: 1, more: false })
    await world.quiet()
    expect(world.posts).toHaveLength(posts + 1)
    const [after] = await world.deliveries(ended)
    expect(after).toMatchObject({ state: 'due', attempts: (before?.attempts ?? 0) + 1 })
    expect(after?.dueAt).toBeGreaterThan(world.runtime.now())
  })

  it('tries once what is dead, and leaves it dead when that fails', async () => {
    const deliveries = operate({ horizon: 3600 })
    const ended = await world.logout('u', 'notes')
    await world.pass(2 * hour)
    const posts = world.posts.length
    for (let i = 0; i < 2; i++) {
      expect(await deliveries.retry({ state: 'dead' })).toEqual({ count: 1, more: false })
      await world.pass(2 * hour)
      expect(world.posts).toHaveLength(posts + i + 1)
      expect((await world.deliveries(ended))[0]).toMatchObject({
        state: 'dead',
        lastOutcome: { why: 'horizon', failure: { why: 'network' } },
      })
    }
    world.rps.set('notes', () => says(200))
    expect(await deliveries.retry({ logoutId: ended.logout.id })).toEqual({ count: 1, more: false })
    await world.quiet()
    expect((await world.deliveries(ended))[0]?.state).toBe('delivered')
    expect((await deliveries.retry({ logoutId: ended.logout.id })).count).toBe(0)
  })

  it('tries once what was refused, and leaves it refused when that fails', async () => {
    world.rps.set('notes', () => says(410))
    const deliveries = operate()
    const ended = await world.logout('u', 'notes')
    await world.pass(hour)
    expect((await world.deliveries(ended))[0]).toMatchObject({ state: 'refused' })
    world.rps.set('notes', () => says(500))
    expect((await deliveries.retry({ state: 'refused' })).count).toBe(1)
    await world.pass(hour)
    expect((await world.deliveries(ended))[0]).toMatchObject({
      state: 'refused',
      lastOutcome: { status: 410, failure: { why: 'status', status: 500 } },
    })
    world.rps.set('notes', () => says(200))
    expect((await deliveries.retry({ clientId: 'notes' })).count).toBe(1)
    await world.quiet()
    expect((await world.deliveries(ended))[0]?.state).toBe('delivered')
  })

  it('asks an RP that is down at once whether it is back, and then sends all it is owed', async () => {
    const deliveries = operate({ ratePerRp: 1000 })
    const ended = []
    for (let i = 0; i < 5; i++) ended.push(await world.logout(`u${i}`, 'notes'))
    await world.pass(3 * hour)
    world.rps.set('notes', () => says(200))
    expect(await deliveries.retry({ clientId: 'notes' })).toEqual({ count: 5, more: false })
    await world.pass(7 * second) // ramped: 1, 2, 4, 8, ...
    for (const one of ended) expect((await world.deliveries(one))[0]?.state).toBe('delivered')
  })

  it('tries the one that is chosen, although its RP counts as down and others are due there before it', async () => {
    const deliveries = operate()
    const ended = []
    for (let i = 0; i < 5; i++) ended.push(await world.logout(`u${i}`, 'notes'))
    await world.pass(10 * minute)
    const chosen = (await world.deliveries(ended[3] ?? expect.unreachable()))[0]
    const before = { posts: world.posts.length, attempts: chosen?.attempts ?? 0 }
    expect(await deliveries.retry({ deliveryId: chosen?.id ?? '' })).toEqual({ count: 1, more: false })
    await world.quiet()
    expect(world.posts).toHaveLength(before.posts + 1)
    expect((await world.deliveries(ended[3] ?? expect.unreachable()))[0]).toMatchObject({
      state: 'due',
      attempts: before.attempts + 1,
    })
    world.rps.set('notes', () => says(200))
    await deliveries.retry({ deliveryId: chosen?.id ?? '' })
    await world.quiet()
    expect((await world.deliveries(ended[3] ?? expect.unreachable()))[0]?.state).toBe('delivered')
    await world.pass(7 * second) // it is back, so the others follow
    for (const one of ended) expect((await world.deliveries(one))[0]?.state).toBe('delivered')
  })

  it('of the one that is chosen waits for the budget of a client that never answered [T8]', async () => {
    world.registered.set('victim', 'https://victim.example/')
    const deliveries = operate()
    const ended = await world.logout('u', 'victim')
    await world.pass(10 * minute)
    const { id: deliveryId } = (await world.deliveries(ended))[0] ?? expect.unreachable()
    for (let i = 0; i < 30; i++) {
      await deliveries.retry({ deliveryId })
      await world.pass(minute)
    }
    const first = world.posts[0]?.at ?? 0
    expect(world.posts.filter(({ at }) => at < first + hour).length).toBeLessThanOrEqual(10)
  })

  it('that fails at an RP that is down does not make it count as up', async () => {
    world.rps.set('notes', () => says(410))
    const deliveries = operate()
    const refused = await world.logout('u', 'notes')
    await world.pass(hour)
    world.rps.delete('notes')
    for (let i = 0; i < 3; i++) await world.logout(`v${i}`, 'notes')
    await world.pass(minute)
    const { id: deliveryId } = (await world.deliveries(refused))[0] ?? expect.unreachable()
    await deliveries.retry({ deliveryId })
    await world.quiet()
    expect((await world.deliveries(refused))[0]).toMatchObject({ state: 'refused', attempts: 6 })
    expect(world.log.filter(({ event }) => event === 'rp_back')).toEqual([])
  })

  it('never has two attempts of one delivery under way, however often it is called', async () => {
    let under = 0
    let most = 0
    const outbox = world.start(
      {},
      {
        runtime: {
          ...world.runtime,
          post: async () => {
            under += 1
            most = Math.max(most, under)
            await world.runtime.sleep(second)
            under -= 1
            return says(500)
          },
        },
      },
    )
    const deliveries = deliveriesOf({ store: world.store, hurry: (id) => outbox.hurry(id), log: () => {} })
    await world.logout('u', 'notes')
    for (let i = 0; i < 30; i++) {
      await Promise.all([deliveries.retry({}), deliveries.retry({ clientId: 'notes' })])
      await world.pass(second / 3)
    }
    expect(most).toBe(1)
  })

  it('is bounded, and says whether there may be more', async () => {
    const deliveries = operate()
    for (let i = 0; i < 5; i++) await world.logout(`u${i}`, 'down')
    await world.pass(minute)
    expect(await deliveries.retry({ clientId: 'down' }, { limit: 3, actor: 'eve' })).toEqual({ count: 3, more: true })
    expect(world.log).toContainEqual({ event: 'deliveries_retried', count: 3, actor: 'eve' })
    const before = world.log.length
    expect((await deliveries.retry({ clientId: 'nobody' }, { actor: 'eve' })).count).toBe(0)
    expect(world.log).toHaveLength(before)
    await expect(deliveries.retry({}, { actor: '' })).rejects.toThrow('actor')
  })
})

describe('reschedule', () => {
  it('begins a new horizon', async () => {
    const deliveries = operate({ horizon: 3600 })
    const ended = await world.logout('u', 'notes')
    await world.pass(2 * hour)
    expect((await world.deliveries(ended))[0]?.state).toBe('dead')
    expect(await deliveries.reschedule({ clientId: 'notes' })).toEqual({ count: 1, more: false })
    expect(world.log).toContainEqual({ event: 'deliveries_rescheduled', count: 1 })
    await world.pass(50 * minute)
    expect((await world.deliveries(ended))[0]?.state).toBe('due')
    await world.pass(20 * minute)
    expect((await world.deliveries(ended))[0]).toMatchObject({ state: 'dead', lastOutcome: { why: 'horizon' } })
    await deliveries.reschedule({ clientId: 'notes' })
    await world.pass(30 * minute)
    world.rps.set('notes', () => says(200))
    await world.pass(minute)
    expect((await world.deliveries(ended))[0]?.state).toBe('delivered')
  })

  it('begins a new schedule: the tries come soon after each other again', async () => {
    world.rps.set('notes', () => says(500))
    const deliveries = operate({ horizon: 3600 })
    await world.logout('u', 'notes')
    await world.pass(2 * hour)
    const before = world.posts.length
    await deliveries.reschedule({ clientId: 'notes' })
    await world.pass(14 * second) // full jitter of at most 2, 4 and 8 seconds
    expect(world.posts.length - before).toBeGreaterThanOrEqual(4)
  })
})

describe('drop', () => {
  it('ends what is under way with that attempt, and counts it', async () => {
    const deliveries = operate()
    world.rps.set('notes', () => 'hangs')
    for (let i = 0; i < 10; i++) await world.logout(`u${i}`, 'notes')
    await world.pass(second)
    expect(await deliveries.drop({ clientId: 'notes' }, { actor: 'root' })).toEqual({ count: 10, more: false })
    const posts = world.posts.length
    await world.pass(2 * hour)
    expect(world.posts).toHaveLength(posts)
    expect(await world.store.countDeliveries(100)).toEqual({ due: 0, 'in-flight': 0, refused: 0, dead: 0 })
    expect((await deliveries.list({ state: 'dropped' })).deliveries).toHaveLength(10)
  })

  it('stops the tries, keeps the delivery in sight, and says who did it', async () => {
    const deliveries = operate()
    const ended = await world.logout('u', 'notes')
    expect(await deliveries.drop({ clientId: 'notes' }, { actor: 'eve' })).toEqual({ count: 1, more: false })
    const posts = world.posts.length
    await world.pass(100 * hour)
    expect(world.posts).toHaveLength(posts)
    const { deliveries: found } = await deliveries.list({ state: 'dropped' })
    expect(found).toMatchObject([
      { logoutId: ended.logout.id, state: 'dead', droppedBy: 'eve', finalAt: ended.logout.endedAt },
    ])
    expect(world.log).toContainEqual({ event: 'deliveries_dropped', count: 1, actor: 'eve' })
    expect((await deliveries.get(found[0]?.deliveryId ?? ''))?.history).toHaveLength(1)
    expect((await deliveries.retry({})).count).toBe(0)
  })

  it('needs a name and a filter that names something', async () => {
    const deliveries = operate()
    await expect(deliveries.drop({}, { actor: 'eve' })).rejects.toThrow(TypeError)
    await expect(deliveries.drop({ clientId: 'notes' }, { actor: '' })).rejects.toThrow('actor')
  })
})

describe('a filter', () => {
  it.each([
    [{ client: 'notes' }, 'client'],
    [{ clientId: '' }, 'clientId'],
    [{ clientId: 7 }, 'clientId'],
    [{ state: 'lost' }, 'state'],
    [{ since: 'yesterday' }, 'since'],
    [null, 'filter'],
  ])('that is misspelt is refused, and never a wider one: %j', async (filter, name) => {
    const deliveries = operate()
    const given = filter as DeliveryFilter
    await expect(deliveries.list(given)).rejects.toThrow(name)
    await expect(deliveries.retry(given)).rejects.toThrow(name)
    await expect(deliveries.reschedule(given)).rejects.toThrow(name)
    await expect(deliveries.drop(given, { actor: 'eve' })).rejects.toThrow(name)
  })

  it('names no state in which the action means nothing', async () => {
    const deliveries = operate()
    await expect(deliveries.retry({ state: 'delivered' })).rejects.toThrow('state')
    await expect(deliveries.reschedule({ state: 'due' })).rejects.toThrow('state')
    await expect(deliveries.reschedule({ state: 'in-flight' })).rejects.toThrow('state')
    await expect(deliveries.drop({ state: 'delivered' }, { actor: 'eve' })).rejects.toThrow('state')
  })

  it.each([0, -1, 1.5, 10_001])('comes with a limit that is a bound, not %s', async (limit) => {
    const deliveries = operate()
    await expect(deliveries.list({}, { limit })).rejects.toThrow('limit')
    await expect(deliveries.retry({}, { limit })).rejects.toThrow('limit')
  })
})
