import { afterEach, beforeEach, expect, it } from 'vitest'
import { says, type VirtualWorld, virtualWorld } from './virtual-world.ts'

let world: VirtualWorld
beforeEach(() => {
  world = virtualWorld()
})
afterEach(() => world.close())

it.each([
  ['in turn', (all: (() => void)[]) => all],
  ['the last first', (all: (() => void)[]) => all.toReversed()],
])('a logout whose RPs confirm in one millisecond, %s, has propagated once', async (_, order) => {
  const propagated: number[] = []
  const metrics = {
    logouts: () => {},
    attempt: () => {},
    propagation: (seconds: number) => void propagated.push(seconds),
    isOn: () => true,
    close: () => {},
  }
  const answers: (() => void)[] = []
  const { runtime } = world
  world.start(
    {},
    {
      telemetry: { metrics, traces: undefined },
      runtime: {
        ...runtime,
        async post(request) {
          await request.body()
          await new Promise<void>((done) => answers.push(done))
          return says(200)
        },
      },
    },
  )
  await world.logout('u', 'notes', 'mail', 'files')
  await world.quiet()
  for (const answer of order(answers)) answer()
  await world.pass(1_000)
  expect(propagated).toHaveLength(1)
})
