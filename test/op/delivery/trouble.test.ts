import { afterEach, beforeEach, expect, it } from 'vitest'
import { troubleWatch } from '../../../src/op/delivery/trouble.ts'
import type { AttemptOutcome } from '../../../src/op.ts'
import { type VirtualWorld, virtualWorld } from './virtual-world.ts'

const answered: AttemptOutcome = { state: 'delivered', status: 200 }
const failed: AttemptOutcome = { state: 'due', why: 'network', retryAt: 0 }

let world: VirtualWorld
let told: unknown[]

beforeEach(() => {
  world = virtualWorld()
  told = []
})
afterEach(() => world.close())

function node(): ReturnType<typeof troubleWatch> {
  return troubleWatch({
    store: world.store,
    horizon: 259_200,
    log: () => {},
    tell: (_event, { clientId }: { clientId?: string }) => told.push(clientId),
  })
}

it('does not take two failures for an hour of them when another node heard answers in between', async () => {
  const [here, there] = [node(), node()]
  await here('mail', answered)
  await there('mail', failed)
  for (let i = 0; i < 3; i++) await here('mail', answered)
  await world.pass(2 * 3_600_000)
  await there('mail', failed)
  expect(told).toEqual([])
})

it('tells once, on whichever node, of an hour of nothing but failures', async () => {
  const [here, there] = [node(), node()]
  await here('mail', failed)
  await world.pass(3_600_000)
  await there('mail', failed)
  await here('mail', failed)
  expect(told).toEqual(['mail'])
})

it('takes a failure of today and one of last month, whose delivery was dropped, for two troubles', async () => {
  const here = node()
  await here('mail', failed)
  await world.pass(30 * 24 * 3_600_000)
  await here('mail', failed)
  expect(told).toEqual([])
  await world.pass(3_600_000)
  await here('mail', failed)
  expect(told).toEqual(['mail'])
})
