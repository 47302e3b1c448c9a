import { expect, it } from 'vitest'
import { pageLeaver } from '../../src/browser/leave-page.ts'
import { fakeBackend, fakeWorld } from './fake-world.ts'

function openTab(storage?: () => Pick<Storage, 'getItem' | 'setItem'>) {
  const world = fakeWorld({ backend: fakeBackend({ state: 'none' }) })
  const entries = new Map<string, string>()
  const kept = {
    getItem: (key: string) => entries.get(key) ?? null,
    setItem: (key: string, value: string) => void entries.set(key, value),
  }
  let left = 0
  const leave = pageLeaver(world, storage ?? (() => kept), () => left++)
  const start = world.now()
  /** Whether the page is left when that session ends, `at` milliseconds after the start or now. */
  const end = async (session: string, at = world.now() - start) => {
    const before = left
    await world.advance(start + at - world.now())
    leave({ session, heardAt: world.now() })
    await world.advance(0)
    return left > before
  }
  return { world, end, left: () => left }
}

it('leaves the page for each RP session that ends', async () => {
  const { end } = openTab()
  expect(await end('s1', 0)).toBe(true)
  expect(await end('s2', 600_000)).toBe(true)
  expect(await end('s3', 1_200_000)).toBe(true)
})

it('never leaves twice for the same RP session, however late', async () => {
  const { end } = openTab()
  expect(await end('s1', 0)).toBe(true)
  expect(await end('s1', 1)).toBe(false)
  expect(await end('s2', 2)).toBe(true)
  expect(await end('s1', 3_600_000)).toBe(false)
})

it('leaves for an RP session without a name again once another has ended in between', async () => {
  const { end } = openTab()
  expect(await end('', 0)).toBe(true)
  expect(await end('', 60_000)).toBe(false)
  expect(await end('s1', 120_000)).toBe(true)
  expect(await end('', 180_000)).toBe(true)
})

it('leaves for an RP session without a name again after ten minutes: a page out of a cache that comes back is slower', async () => {
  const { end } = openTab()
  expect(await end('', 0)).toBe(true)
  expect(await end('', 599_999)).toBe(false)
  expect(await end('', 600_000)).toBe(true)
})

it.each([1, -1])('lets a clock that is set to another day (%s) delay nothing', async (days) => {
  const { world, end } = openTab()
  for (const session of ['s1', '', 's2']) expect(await end(session, 0)).toBe(true)
  world.setClock(days * 86_400_000)
  expect(await end('')).toBe(true)
  expect(await end('s3')).toBe(true)
})

it('still lets a navigation that has begun go first when the clock is set back meanwhile', async () => {
  const { world, end, left } = openTab()
  world.window.dispatchEvent(new Event('beforeunload'))
  world.setClock(-30 * 86_400_000)
  expect(await end('s1')).toBe(false)
  await world.advance(4_999)
  expect(left()).toBe(0)
  await world.advance(1)
  expect(left()).toBe(1)
})

it('leaves at most three times in a minute', async () => {
  const { end } = openTab()
  const left: boolean[] = []
  for (const [i, at] of [0, 10_000, 20_000, 30_000, 59_999, 60_000, 65_000, 70_000].entries()) {
    left.push(await end(`s${i}`, at))
  }
  expect(left).toEqual([true, true, true, false, false, true, false, true])
})

it('stays where nothing can be remembered', async () => {
  const denied = () => {
    throw new DOMException('denied', 'SecurityError')
  }
  expect(await openTab(denied).end('s1', 0)).toBe(false)
  expect(await openTab(() => ({ getItem: () => 'not json', setItem: denied })).end('s1', 0)).toBe(false)
})

it('lets a navigation that has begun go first, since leaving would cancel the logout it is part of', async () => {
  const { world, end, left } = openTab()
  await world.advance(60_000)
  world.window.dispatchEvent(new Event('beforeunload'))
  expect(await end('s1', 60_100)).toBe(false)
  await world.advance(4_000)
  expect(left()).toBe(0)
  await world.advance(1_000) // it came to nothing: a download, or the user stayed
  expect(left()).toBe(1)
})
