import { afterEach, beforeEach, expect, it } from 'vitest'
import { says, type VirtualWorld, virtualWorld } from './virtual-world.ts'

let world: VirtualWorld
beforeEach(() => {
  world = virtualWorld()
})
afterEach(() => world.close())

it.each([16, 64])('an RP waits no longer than 250 ms for %i clients whose look-up hangs [design §4]', async (count) => {
  const hanging = Array.from({ length: count }, (_, i) => `hanging${i}`)
  for (let i = 0; i < 30; i++) await world.logout(`h${i}`, ...hanging)
  world.rps.set('well', () => says(200))
  world.start(
    {},
    {
      findReceiver: async (clientId) => {
        if (clientId !== 'well') {
          await world.runtime.sleep(2_500)
          throw new Error('the database of clients hangs')
        }
        return { url: 'https://well.example/logout', isRegistered: false }
      },
    },
  )
  for (let i = 0; i < 6; i++) {
    await world.pass(1_300)
    await world.logout(`w${i}`, 'well')
    await world.pass(250)
    expect(world.posts.filter(({ clientId }) => clientId === 'well')).toHaveLength(i + 1)
  }
})
