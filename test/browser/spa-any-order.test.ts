import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { SilentAnswer } from '../../src/browser/spa-monitor.ts'
import { type FakeWorld, settle } from './fake-world.ts'
import { ada, type FakeOp, fakeOp, openSpa, refused } from './open-spa.ts'

const grace: SilentAnswer = { sub: 'grace', sessionState: 'three.salt' }

describe('in any order of events, a page without a backend', () => {
  type Step = readonly [name: string, run: (page: { world: FakeWorld; op: FakeOp }) => unknown]
  const harmless: readonly Step[] = [
    ['the OP goes away', ({ op }) => Object.assign(op, { silently: refused })],
    ['the OP comes back', ({ op }) => Object.assign(op, { silently: async () => ada })],
    ['the OP iframe says changed', ({ op }) => Object.assign(op, { status: 'changed' })],
    ['the OP iframe says unchanged', ({ op }) => Object.assign(op, { status: 'unchanged' })],
    ['the OP iframe says error', ({ op }) => Object.assign(op, { status: 'error' })],
    ['the OP iframe says nothing', ({ op }) => Object.assign(op, { status: undefined })],
    ['the tab is hidden', ({ world }) => world.show('hidden')],
    ['the tab is looked at', ({ world }) => world.show('visible')],
    ['the network is back', ({ world }) => world.window.dispatchEvent(new Event('online'))],
    ['the page goes to the back/forward cache', ({ world }) => world.window.dispatchEvent(new Event('pagehide'))],
    ['the page is back', ({ world }) => world.window.dispatchEvent(new Event('pageshow'))],
    ['the clock is set back by a day', ({ world }) => world.setClock(-86_400_000)],
    ['the clock is set forward by a month', ({ world }) => world.setClock(30 * 86_400_000)],
    ['two seconds go by', ({ world }) => world.advance(2_000)],
    ['ten minutes go by', ({ world }) => world.advance(600_000)],
  ]
  const story = fc.array(fc.constantFrom(...harmless), { maxLength: 15 })

  it('is never signed out while nobody has signed out', async () => {
    await fc.assert(
      fc.asyncProperty(story, fc.boolean(), async (steps, cookies) => {
        const op = fakeOp()
        if (!cookies) op.silently = async () => undefined
        const { world, told, monitor } = await openSpa(op)
        for (const [name, run] of steps) if (cookies || !name.startsWith('the OP comes')) await run({ world, op })
        expect(told).not.toContain('ended')
        monitor.stop()
        await settle()
        expect(world.leftovers()).toBe(0)
      }),
      { numRuns: 60 },
    )
  }, 60_000)

  it('is signed out once, if it could see the OP, and only after prompt=none has said so', async () => {
    const quiet = fc.array(fc.constantFrom(...harmless.filter(([name]) => !/iframe|comes back/.test(name))))
    await fc.assert(
      fc.asyncProperty(story, quiet, fc.constantFrom(undefined, grace), async (before, after, who) => {
        const op = fakeOp()
        let saidSo = 0
        const { world, told, monitor } = await openSpa(op)
        monitor.addEventListener('ended', () => expect(saidSo).toBeGreaterThan(0))
        for (const [, run] of before) await run({ world, op })
        expect(told).not.toContain('ended')

        await world.advance(0)
        const couldSee = !monitor.blind
        const says = async () => {
          saidSo++
          return who
        }
        Object.assign(op, { status: 'changed', silently: says })
        for (const [, run] of after) await run({ world, op })
        op.silently = says
        world.window.dispatchEvent(new Event('pageshow'))
        world.show('visible')
        world.window.dispatchEvent(new Event('online'))
        await world.advance(15_000)
        const ends = told.filter((type) => type === 'ended').length
        expect(ends).toBeLessThanOrEqual(1)
        if (couldSee) expect(ends).toBe(1)
        monitor.stop()
        await settle()
        expect(world.leftovers()).toBe(0)
      }),
      { numRuns: 100 },
    )
  }, 60_000)
})
