import { afterEach, beforeEach, expect, it } from 'vitest'
import type { Metrics } from '../../../src/op/delivery/metrics.ts'
import { says, type VirtualWorld, virtualWorld } from './virtual-world.ts'

let world: VirtualWorld
beforeEach(() => {
  world = virtualWorld()
})
afterEach(() => world.close())

/** What is said of propagation. */
function listening(): { metrics: Metrics; propagated: number[] } {
  const propagated: number[] = []
  const metrics = {
    logouts: () => {},
    attempt: () => {},
    propagation: (seconds: number) => void propagated.push(seconds),
    isOn: () => true,
    close: () => {},
  }
  return { metrics, propagated }
}

it.each([
  ['in turn', (all: (() => void)[]) => all],
  ['the last first', (all: (() => void)[]) => all.toReversed()],
])('a logout whose RPs confirm in one millisecond, %s, has propagated once', async (_, order) => {
  const { metrics, propagated } = listening()
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

it.each([
  5_000, 0, -5_000,
])('a logout that two nodes tell, one of them %i ms ahead, has propagated once', async (ahead) => {
  const { metrics, propagated } = listening()
  const answers: (() => void)[] = []
  const { runtime, store } = world
  for (const by of [ahead, 0]) {
    world.start(
      { concurrency: 1 },
      {
        telemetry: { metrics, traces: undefined },
        store: { ...store, takeOver: async () => 0, onWake: () => () => {} },
        runtime: {
          ...runtime,
          now: () => runtime.now() + by,
          async post(request) {
            await request.body()
            await new Promise<void>((done) => answers.push(done))
            return says(200)
          },
        },
      },
    )
  }
  await world.logout('u', 'notes', 'mail')
  await world.quiet()
  expect(answers).toHaveLength(2)
  for (const answer of answers) {
    answer()
    await world.quiet()
  }
  expect(propagated).toHaveLength(1)
})
