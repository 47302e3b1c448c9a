import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { hour, minute, second } from '../../../src/runtime/milliseconds.ts'
import { says, type VirtualWorld, virtualWorld } from './virtual-world.ts'

let world: VirtualWorld
beforeEach(() => {
  world = virtualWorld()
})
afterEach(() => world.close())

describe('a clock that is set', () => {
  it('back by an hour delays nothing by an hour: neither what is new, nor what waits, nor the probes of an RP that is down', async () => {
    world.rps.set('notes', () => says(200))
    let isUp = false
    world.rps.set('mail', () => (isUp ? says(200) : says(500)))
    world.start({ ratePerRp: 10 })
    for (let i = 0; i < 30; i++) await world.logout(`before${i}`, 'notes')
    const waiting = await world.logout('waiting', 'mail', 'down')
    await world.logout('other', 'down')
    await world.pass(10 * minute)
    expect((await world.deliveries(waiting)).map(({ state }) => state)).toEqual(['due', 'due'])

    isUp = true
    world.setClock(-hour)
    const ended = []
    for (let i = 0; i < 3; i++) ended.push(await world.logout(`after${i}`, 'notes'))
    world.rps.set('down', () => says(200))
    await world.pass(2 * minute)
    for (const one of [...ended, waiting]) {
      expect((await world.deliveries(one)).every(({ state }) => state === 'delivered')).toBe(true)
    }
  })

  it('back while attempts are under way costs none of them its outcome', async () => {
    world.rps.set('hangs', () => 'hangs')
    world.start()
    const ended = await world.logout('u', 'hangs')
    await world.pass(second)
    world.setClock(-hour)
    await world.pass(4 * second)
    expect((await world.deliveries(ended))[0]).toMatchObject({ attempts: 1, lastOutcome: { why: 'timeout' } })
    world.rps.set('hangs', () => says(200))
    await world.pass(3 * minute)
    expect((await world.deliveries(ended))[0]?.state).toBe('delivered')
  })

  it('forward by an hour loses nothing, and has no two attempts of one delivery alive: its lease seems to be over', async () => {
    let under = 0
    let most = 0
    world.start(
      {},
      {
        runtime: {
          ...world.runtime,
          post: async ({ body }) => {
            await body()
            under += 1
            most = Math.max(most, under)
            await world.runtime.sleep(3 * second)
            under -= 1
            return says(200)
          },
        },
      },
    )
    const ended = await world.logout('u', 'notes')
    await world.pass(second)
    world.setClock(hour)
    await world.logout('v', 'mail') // it looks into the outbox
    await world.pass(minute)
    expect((await world.deliveries(ended))[0]?.state).toBe('delivered')
    expect(most).toBe(2) // one at each RP
  })
})
