import { afterEach, beforeEach, expect, it } from 'vitest'
import { says, type VirtualWorld, virtualWorld } from './virtual-world.ts'

let world: VirtualWorld
beforeEach(() => {
  world = virtualWorld()
})
afterEach(() => world.close())

const minute = 60_000
const hour = 60 * minute

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
