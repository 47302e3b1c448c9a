import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { SilentAnswer } from '../../src/browser/spa-monitor.ts'
import { type FakeWorld, freshPage, settle } from './fake-world.ts'
import { ada, aStorage, type FakeOp, fakeOp, openSpa, passTogether, refused } from './open-spa.ts'

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

describe('in any order of events, two tabs without a backend', () => {
  /** One OP for both: what it says depends on who is signed in there, and in which login. */
  function aLogin() {
    const op = fakeOp()
    let login = 0
    let late: ((nobody: boolean) => void)[] = []
    const answer = async () => ({ sub: 'ada', sessionState: `login${login}.salt` })
    return {
      op,
      sessionState: () => `login${login}.salt`,
      signInAnew() {
        login += 1
        Object.assign(op, { status: (m: string) => (m === `spa login${login}.salt` ? 'unchanged' : 'changed') })
      },
      away: () => Object.assign(op, { silently: refused }),
      back: () => Object.assign(op, { silently: answer }),
      slow: () =>
        Object.assign(op, {
          silently: () =>
            new Promise<SilentAnswer | undefined>((resolve) => {
              late.push((nobody) => resolve(nobody ? undefined : answer()))
            }),
        }),
      /** All that was asked is answered now: with `login_required` while nobody is signed in. */
      answerAll(nobody = false) {
        const waiting = late
        late = []
        for (const say of waiting) say(nobody)
      },
    }
  }
  type Pages = Awaited<ReturnType<typeof openSpa>>[]
  type Both = readonly [name: string, run: (login: ReturnType<typeof aLogin>, pages: Pages, one: number) => unknown]
  const show = (pages: Pages, type: string) => {
    for (const { world } of pages) world.window.dispatchEvent(new Event(type))
  }
  const steps: readonly Both[] = [
    ['the End-User signs in anew', (login) => login.signInAnew()],
    ['the OP goes away', (login) => login.away()],
    ['the OP is back', (login) => login.back()],
    ['the OP becomes slow', (login) => login.slow()],
    ['a slow OP answers', (login) => login.answerAll()],
    ['a tab is hidden', (_, pages, one) => pages[one]?.world.show('hidden')],
    ['a tab is looked at', (_, pages, one) => pages[one]?.world.show('visible')],
    ['a tab rests', (_, pages, one) => show(pages.slice(one, one + 1), 'pagehide')],
    ['a tab is back', (_, pages, one) => show(pages.slice(one, one + 1), 'pageshow')],
    [
      'the End-User signs in anew at an OP that is slow to say so',
      async (login, pages) => {
        login.slow()
        login.signInAnew()
        await passTogether(pages, 3_000, 500)
      },
    ],
    [
      'both rest while the End-User signs out and in anew',
      async (login, pages) => {
        show(pages, 'pagehide')
        login.answerAll(true)
        await settle()
        login.back()
        login.signInAnew()
        show(pages, 'pageshow')
      },
    ],
    ['three seconds go by', (_, pages) => passTogether(pages, 3_000, 500)],
  ]
  const story = fc.array(fc.tuple(fc.constantFrom(...steps), fc.constantFrom(0, 1)), { maxLength: 12 })

  it('are never signed out while nobody has signed out, and both see again when the OP is back', async () => {
    await fc.assert(
      fc.asyncProperty(story, fc.constantFrom(0, 1), async (played, hidden) => {
        const login = aLogin()
        login.back()
        login.signInAnew()
        const shared = { baseUrl: freshPage(), storage: aStorage(), proved: true }
        const pages: Pages = []
        while (pages.length < 2) pages.push(await openSpa(login.op, { ...shared, sessionState: login.sessionState() }))
        await passTogether(pages, 1_000, 500)
        for (const [[, run], one] of played) await run(login, pages, one)
        login.back()
        login.answerAll()
        show(pages, 'pageshow')
        show(pages, 'online')
        for (const { world } of pages) world.show('visible')
        await passTogether(pages, 20_000, 1_000)
        expect(pages.map(({ monitor }) => [monitor.state, monitor.blind])).toEqual([
          ['alive', false],
          ['alive', false],
        ])
        // A tab that comes after the next change is told nothing old, whichever has found out.
        pages[hidden]?.world.show('hidden')
        login.signInAnew()
        await passTogether(pages, 10_000, 500)
        const asked = login.op.silentChecks
        const later = await openSpa(login.op, { ...shared, sessionState: login.sessionState() })
        pages.push(later)
        await passTogether(pages, 5_000, 500)
        expect(login.op.silentChecks).toBe(asked)
        for (const { monitor } of pages) monitor.stop()
        await settle()
        expect(pages.map(({ world }) => world.leftovers())).toEqual([0, 0, 0])
      }),
      { numRuns: 40 },
    )
  }, 60_000)
})
