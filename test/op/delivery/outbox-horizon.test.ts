import { afterEach, beforeEach, expect, it } from 'vitest'
import { hour, minute } from '../../../src/runtime/milliseconds.ts'
import { says, type VirtualWorld, virtualWorld } from './virtual-world.ts'

let world: VirtualWorld
beforeEach(() => {
  world = virtualWorld()
})
afterEach(() => world.close())

/** An OP that stops and starts again, some seconds later. */
async function restart(outbox: { stop(): Promise<void> }): Promise<void> {
  const stopped = outbox.stop()
  await world.pass(10_000)
  await stopped
  world.start()
}

it('an RP that is down for 70 hours gets its logouts when it returns, also when the OP restarts meanwhile [design §4] [BCL-2.5-b]', async () => {
  const outbox = world.start()
  const ended = [await world.logout('u1', 'notes'), await world.logout('u2', 'notes')]
  await world.pass(35 * hour)
  await restart(outbox)
  await world.pass(35 * hour)
  for (const one of ended) expect((await world.deliveries(one))[0]?.state).not.toBe('dead')

  world.rps.set('notes', () => says(200, { 'logout-sessions-ended': '1' }))
  await world.pass(2 * minute) // a probe each minute, and what is owed behind it
  for (const one of ended) {
    expect((await world.deliveries(one))[0]).toMatchObject({
      state: 'delivered',
      lastOutcome: { status: 200, sessionsEnded: 1 },
    })
  }
  const tokens = world.posts.map(({ token }) => token)
  expect(new Set(tokens).size).toBe(tokens.length)
})

it('an RP that is down for longer than 72 hours is dead, which is said once [design §4]', async () => {
  const outbox = world.start()
  const ended = await world.logout('u', 'notes')
  await world.pass(71 * hour)
  expect((await world.deliveries(ended))[0]?.state).not.toBe('dead')
  await restart(outbox)
  await world.pass(2 * hour)
  expect((await world.deliveries(ended))[0]).toMatchObject({ state: 'dead', lastOutcome: { why: 'horizon' } })

  const before = world.posts.length
  world.rps.set('notes', () => says(200))
  await world.pass(24 * hour)
  expect(world.posts).toHaveLength(before)
  const alarms = world.log.filter(({ event }) => event === 'delivery_dead')
  expect(alarms).toEqual([expect.objectContaining({ logoutId: ended.logout.id, clientId: 'notes', why: 'horizon' })])
})

it('an RP whose logouts died, or that refused them, hears of the next like any other: nothing is switched off [design §4]', async () => {
  world.rps.set('mail', () => says(410))
  world.start()
  const lost = await world.logout('u', 'notes', 'mail')
  await world.pass(73 * hour)
  const [notes, mail] = await world.deliveries(lost)
  expect([notes?.state, mail?.state].sort()).toEqual(['dead', 'refused'])
  for (const rp of ['notes', 'mail']) world.rps.set(rp, () => says(200))
  const next = await world.logout('v', 'notes', 'mail')
  await world.pass(hour / 60)
  expect((await world.deliveries(next)).map(({ state }) => state)).toEqual(['delivered', 'delivered'])
})

/** Ends so many OP sessions, each logged in at the RP. */
async function endMany(count: number, clientId: string): Promise<void> {
  for (let i = 0; i < count; i++) await world.logout(`u${i}`, clientId)
}

it('all that an RP is owed dies with its horizon, although it is down and tried with one a minute [design §4]', async () => {
  await endMany(700, 'gone')
  world.start({ horizon: 3600 })
  await world.pass(hour + 3 * minute)
  expect(await world.store.countDeliveries(1000)).toEqual({ due: 0, 'in-flight': 0, refused: 0, dead: 700 })
  const alarms = world.told.filter(([name]) => name === 'lockstep.delivery.dead')
  expect(alarms).toHaveLength(700)
  expect(new Set(alarms.map(([, event]) => (event as { deliveryId: string }).deliveryId)).size).toBe(700)
  expect(alarms[650]?.[1]).toMatchObject({ clientId: 'gone', why: 'horizon' })
})

it.each([
  ['fails', says(404)],
  ['refuses', says(410)],
])('all that a client is owed which registered itself and %s dies with its horizon, although its budget is ten an hour [T8]', async (_, answer) => {
  world.registered.set('evil', 'https://victim.example/')
  world.rps.set('evil', () => answer)
  await endMany(200, 'evil')
  world.start({ horizon: 3600 })
  await world.pass(2 * hour + 10 * minute)
  const counts = await world.store.countDeliveries(1000)
  expect(counts.due + counts['in-flight']).toBe(0)
  expect(world.posts.length).toBeLessThanOrEqual(30)
})

it('what an RP is owed past its horizon is tried and told when only the OP was away [design §4]', async () => {
  world.rps.set('notes', () => says(200))
  await endMany(40, 'notes')
  await world.pass(100 * hour)
  world.start()
  await world.pass(minute)
  expect(world.posts).toHaveLength(40)
  expect(await world.store.countDeliveries(1000)).toEqual({ due: 0, 'in-flight': 0, refused: 0, dead: 0 })
})

it('what is past its horizon is tried when only the OP was away, although its RP comes back half a minute later [design §4]', async () => {
  const ended = []
  for (let i = 0; i < 50; i++) ended.push(await world.logout(`u${i}`, 'notes'))
  await world.pass(73 * hour)
  world.start()
  await world.pass(minute / 2)
  world.rps.set('notes', () => says(200))
  await world.pass(10 * minute)
  const all = (await Promise.all(ended.map(world.deliveries))).flat()
  expect(all.filter(({ attempts }) => attempts === 0)).toEqual([])
  const open = new Set(all.filter(({ state }) => state !== 'dead').map(({ state }) => state))
  expect([...open]).toEqual(['delivered'])
})

it('what is past its horizon is tried when the OP was away, although its RP failed already before [design §4]', async () => {
  await endMany(300, 'notes')
  const outbox = world.start()
  await world.pass(10 * minute)
  const stopped = outbox.stop()
  await world.pass(72 * hour - 10 * minute)
  await stopped
  world.start()
  await world.pass(minute / 2)
  world.rps.set('notes', () => says(200))
  await world.pass(10 * minute)
  const { deliveries } = await world.store.listDeliveries({}, { limit: 1000 })
  expect(deliveries).toHaveLength(300)
  expect(deliveries.filter(({ attempts }) => attempts === 0)).toHaveLength(0)
  expect(deliveries.filter(({ state }) => state === 'delivered').length).toBeGreaterThan(200)
})

it('what is due is sent although what waits cannot be brought forward at the start', async () => {
  world.rps.set('notes', () => says(200))
  const ended = await world.logout('u', 'notes')
  let asked = 0
  const hasten = async (): Promise<number> => {
    asked += 1
    throw new Error('canceling statement due to statement timeout')
  }
  world.start({}, { store: { ...world.store, hasten } })
  await world.pass(5000)
  expect((await world.deliveries(ended))[0]?.state).toBe('delivered')
  expect(asked).toBeGreaterThan(1)
  expect(world.log.filter(({ event }) => event === 'op_failed')).toEqual([expect.objectContaining({ task: 'outbox' })])
})
