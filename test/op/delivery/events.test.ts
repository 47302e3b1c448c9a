import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { deliveriesOf } from '../../../src/op/delivery/deliveries.ts'
import { tellBy } from '../../../src/op/delivery/events.ts'
import type { OpLogEvent } from '../../../src/op/log.ts'
import { hour, minute, second } from '../../../src/runtime/milliseconds.ts'
import { says, type VirtualWorld, virtualWorld } from './virtual-world.ts'

let world: VirtualWorld
beforeEach(() => {
  world = virtualWorld()
})
afterEach(() => world.close())

const told = (name: string): unknown[] => world.told.flatMap(([each, event]) => (each === name ? [event] : []))

describe('a delivery that keeps failing', () => {
  it('is told of at its fourth failure, once, and when it recovers, once', async () => {
    world.rps.set('notes', () => says(503))
    world.start()
    const ended = await world.logout('u', 'notes')
    await world.pass(second)
    expect(world.told).toEqual([])
    await world.pass(30 * minute)
    const about = { deliveryId: ended.deliveries[0]?.id, logoutId: ended.logout.id, clientId: 'notes' }
    expect(world.told).toEqual([
      [
        'lockstep.delivery.failing',
        { ...about, attempts: 4, failed: 'status', status: 503, retryAt: expect.any(Number) },
      ],
    ])
    world.rps.set('notes', () => says(200))
    await world.pass(hour)
    const { attempts } = (await world.deliveries(ended))[0] ?? expect.unreachable()
    expect(world.told.slice(1)).toEqual([['lockstep.delivery.recovered', { ...about, attempts, status: 200 }]])
  })

  it('is told of once although the OP is restarted in the middle', async () => {
    world.rps.set('notes', () => says(500))
    for (let i = 0; i < 8; i++) {
      const outbox = world.start()
      if (i === 0) await world.logout('u', 'notes')
      await world.pass(10 * second)
      await outbox.stop()
    }
    expect(told('lockstep.delivery.failing')).toHaveLength(1)
  })

  it('is told of once although several workers share it', async () => {
    world.rps.set('notes', () => says(500))
    for (let i = 0; i < 3; i++) world.start()
    const ended = await world.logout('u', 'notes')
    await world.pass(80 * hour)
    expect((await world.deliveries(ended))[0]?.state).toBe('dead')
    expect(told('lockstep.delivery.failing')).toHaveLength(1)
    expect(told('lockstep.delivery.dead')).toHaveLength(1)
    expect(told('lockstep.client.unreachable')).toHaveLength(1)
  })

  it('is not told of when it recovers before its fourth failure', async () => {
    world.rps.set('notes', () => (world.posts.length < 4 ? says(500) : says(200)))
    world.start()
    const ended = await world.logout('u', 'notes')
    await world.pass(5 * minute)
    expect((await world.deliveries(ended))[0]?.state).toBe('delivered')
    expect(world.told).toEqual([])
  })
})

describe('a delivery that is given up', () => {
  it('is told of once, whatever an operator tries afterwards, until one of the tries succeeds', async () => {
    world.rps.set('notes', () => says(500))
    const outbox = world.start({ horizon: 3600 })
    const deliveries = deliveriesOf({ store: world.store, hurry: (id) => outbox.hurry(id), log: () => {} })
    const ended = await world.logout('u', 'notes')
    await world.pass(2 * hour)
    const dead = { why: 'horizon', failed: 'status', status: 500, logoutId: ended.logout.id }
    expect(told('lockstep.delivery.dead')).toMatchObject([dead])
    await deliveries.retry({})
    await world.pass(hour)
    expect(told('lockstep.delivery.dead')).toHaveLength(1)
    expect(world.log.filter(({ event }) => event === 'delivery_dead')).toHaveLength(2)
    world.rps.set('notes', () => says(200))
    await deliveries.retry({})
    await world.pass(minute)
    expect(told('lockstep.delivery.recovered')).toMatchObject([{ status: 200 }])
  })

  it('begins another episode with a new horizon', async () => {
    world.rps.set('notes', () => says(500))
    const outbox = world.start({ horizon: 3600 })
    const deliveries = deliveriesOf({ store: world.store, hurry: (id) => outbox.hurry(id), log: () => {} })
    await world.logout('u', 'notes')
    await world.pass(2 * hour)
    await deliveries.reschedule({})
    await world.pass(2 * hour)
    expect(told('lockstep.delivery.failing')).toHaveLength(2)
    expect(told('lockstep.delivery.dead')).toHaveLength(2)
    world.rps.set('notes', () => says(200))
    await deliveries.reschedule({})
    await world.pass(minute)
    expect(told('lockstep.delivery.recovered')).toHaveLength(1)
  })

  it('is told of as refused when the RP refused it', async () => {
    world.rps.set('notes', () => says(400, {}, '{"error":"invalid_request"}'))
    world.start()
    await world.logout('u', 'notes')
    await world.pass(hour)
    expect(told('lockstep.delivery.dead')).toMatchObject([
      { why: 'refused', failed: 'refusal', status: 400, error: 'invalid_request', attempts: 5 },
    ])
  })
})

describe('an RP that answers nothing but failures', () => {
  it('is told of after an hour, once, although the OP is restarted and others are well', async () => {
    world.rps.set('mail', () => says(200))
    for (let i = 0; i < 6; i++) {
      const outbox = world.start()
      await world.logout(`u${i}`, 'notes', 'mail')
      await world.pass(25 * minute)
      const stopped = outbox.stop()
      await world.pass(10 * second)
      await stopped
    }
    const events = told('lockstep.client.unreachable')
    expect(events).toEqual([{ clientId: 'notes', since: 1_800_000_000_000 }])
    expect(world.log.filter(({ event }) => event === 'client_unreachable')).toHaveLength(1)
  })

  it('is told of again when it has answered in between', async () => {
    world.start()
    await world.logout('u1', 'notes')
    await world.pass(2 * hour)
    world.rps.set('notes', () => says(200))
    await world.pass(2 * minute)
    const again = world.runtime.now()
    world.rps.delete('notes')
    await world.logout('u2', 'notes')
    await world.pass(2 * hour)
    expect(told('lockstep.client.unreachable')).toEqual([
      { clientId: 'notes', since: 1_800_000_000_000 },
      { clientId: 'notes', since: again },
    ])
  })

  it('is not told of where it refuses: it answers', async () => {
    world.rps.set('notes', () => says(410))
    world.start()
    for (let i = 0; i < 5; i++) {
      await world.logout(`u${i}`, 'notes')
      await world.pass(20 * minute)
    }
    expect(told('lockstep.client.unreachable')).toEqual([])
  })
})

describe('a listener', () => {
  it('that throws stops nothing', () => {
    const log: OpLogEvent[] = []
    const tell = tellBy(
      () => {
        throw new Error('of the listener')
      },
      (event) => log.push(event),
    )
    tell('lockstep.client.unreachable', { clientId: 'notes', since: 0 })
    expect(log).toEqual([{ event: 'op_failed', task: 'lockstep.client.unreachable', message: 'of the listener' }])
  })

  it('learns no sub, sid or token', async () => {
    world.rps.set('notes', () => (world.posts.length < 40 ? says(500) : says(200)))
    world.start()
    await world.logout('u', 'notes', 'gone')
    await world.pass(80 * hour)
    const text = JSON.stringify([world.told, world.log])
    expect(world.told.length).toBeGreaterThan(3)
    for (const secret of ['alice', 'sid-', 'token-']) expect(text).not.toContain(secret)
  })
})
