import fc from 'fast-check'
import { afterEach, describe, expect, it } from 'vitest'
import { type SilentAnswer, type SpaMonitor, startSpaMonitor } from '../../src/browser/spa-monitor.ts'
import { type FakeWorld, fakeWorld, freshPage, settle } from './fake-world.ts'

const opIframe = 'https://op.example/session/check'
const noBackend = { fetch: () => Promise.reject(new Error('this page has no backend')) }
const ada: SilentAnswer = { sub: 'ada', sessionState: 'one.salt' }
const refused = () => Promise.reject(new Error('the OP is away'))

const running: SpaMonitor[] = []
afterEach(async () => {
  for (const monitor of running.splice(0)) monitor.stop()
  await settle()
})

/** What an OP says in a page: to its iframe, and to prompt=none. */
interface FakeOp {
  status: string | undefined
  silently: () => Promise<SilentAnswer | undefined>
  silentChecks: number
}

function fakeOp(): FakeOp {
  return { status: 'unchanged', silently: async () => ada, silentChecks: 0 }
}

async function openPage(op: FakeOp, { baseUrl = freshPage(), proved = false, sessionState = 'one.salt' } = {}) {
  const world = fakeWorld({ backend: noBackend, baseUrl, answer: () => op.status, random: () => 1 })
  const monitor = startSpaMonitor(
    {
      clientId: 'spa',
      sub: 'ada',
      sessionState,
      checkSessionIframe: opIframe,
      proved,
      silentCheck() {
        op.silentChecks += 1
        return op.silently()
      },
    },
    world,
  )
  running.push(monitor)
  const told: string[] = []
  for (const type of ['alive', 'unknown', 'userswitched', 'ended'] as const) {
    monitor.addEventListener(type, () => told.push(type))
  }
  await settle()
  return { world, monitor, told }
}

describe('a page without a backend', () => {
  it('is alive once a silent check has worked, watches the OP iframe and asks nobody else [SM §3.1]', async () => {
    const op = fakeOp()
    const { world, monitor, told } = await openPage(op)
    expect(monitor).toMatchObject({ state: 'alive', blind: false })
    await world.advance(3_600_000)
    expect(told).toEqual(['alive'])
    expect(op.silentChecks).toBe(1)
    expect(world.frames.map(({ url }) => url)).toEqual([opIframe])
  })

  it('goes on watching with the session_state it had when a silent check brings none', async () => {
    const op = fakeOp()
    op.silently = async () => ({ sub: 'ada' })
    const { world, monitor } = await openPage(op)
    await world.advance(10_000)
    expect(monitor).toMatchObject({ state: 'alive', blind: false })
    expect(new Set(world.frames.flatMap(({ asked }) => asked))).toEqual(new Set(['spa one.salt']))
    op.silently = async () => undefined
    op.status = 'changed'
    await world.advance(10_000)
    expect(monitor.state).toBe('ended')
  })

  it('is blind without an OP iframe, although silent checks work: nothing would tell of a logout', () => {
    const world = fakeWorld({ backend: noBackend })
    const monitor = startSpaMonitor({ clientId: 'spa', sub: 'ada', proved: true, silentCheck: async () => ada }, world)
    running.push(monitor)
    expect(monitor.blind).toBe(true)
  })

  it('needs no silent check at its start when one has just worked', async () => {
    const op = fakeOp()
    const { monitor } = await openPage(op, { proved: true })
    expect(monitor).toMatchObject({ state: 'alive', blind: false })
    expect(op.silentChecks).toBe(0)
  })

  it('is signed out when the OP iframe says changed and prompt=none then says login_required [SM §3.1]', async () => {
    const op = fakeOp()
    const { world, told, monitor } = await openPage(op)
    op.status = 'changed'
    op.silently = async () => undefined
    await world.advance(2_200)
    expect(told.at(-1)).toBe('ended')
    expect(monitor.state).toBe('ended')
    expect(op.silentChecks).toBe(2)
    expect(world.leftovers()).toBe(0)
    expect(world.frames).toEqual([])
  })

  it('stays signed in when the same End-User has signed in anew, with the new session_state [SM §3.1]', async () => {
    const op = fakeOp()
    const { world, told, monitor } = await openPage(op)
    op.status = 'changed'
    op.silently = async () => {
      op.status = 'unchanged'
      return { sub: 'ada', sessionState: 'two.salt' }
    }
    await world.advance(10_000)
    expect(monitor.state).toBe('alive')
    expect(told).not.toContain('ended')
    expect(world.frames[0]?.asked.at(-1)).toBe('spa two.salt')
    expect(op.silentChecks).toBe(2)
  })

  it('says userswitched, then ended, when another End-User has signed in', async () => {
    const op = fakeOp()
    const { world, told } = await openPage(op)
    op.status = 'changed'
    op.silently = async () => ({ sub: 'grace', sessionState: 'two.salt' })
    await world.advance(2_200)
    expect(told.slice(-2)).toEqual(['userswitched', 'ended'])
  })

  it('says so as well when somebody else was signed in before it first asked', async () => {
    const op = fakeOp()
    op.silently = async () => ({ sub: 'grace', sessionState: 'two.salt' })
    const { told } = await openPage(op)
    expect(told).toEqual(['userswitched', 'ended'])
  })

  it('takes login_required of a browser that withholds the cookies for nothing at all [SM §5.1]', async () => {
    const op = fakeOp()
    op.status = 'changed' // as some OPs say without a cookie
    op.silently = async () => undefined
    const { world, told, monitor } = await openPage(op)
    await world.advance(3_600_000)
    expect(monitor).toMatchObject({ state: 'alive', blind: true })
    expect(told).toEqual(['alive'])
    expect(op.silentChecks).toBe(1)
    expect(world.framesOpened).toEqual([])
  })

  it('is unknown, not ended, while the OP cannot be asked, and tries again ever more rarely', async () => {
    const op = fakeOp()
    op.silently = refused
    const { world, told, monitor } = await openPage(op)
    await world.advance(3_600_000)
    expect(monitor.state).toBe('unknown')
    expect(told).not.toContain('ended')
    expect(op.silentChecks).toBeLessThan(25)
    op.silently = async () => ada
    world.window.dispatchEvent(new Event('online'))
    await settle()
    expect(monitor).toMatchObject({ state: 'alive', blind: false })
  })

  it('is unknown when a changed cannot be looked into, and hears the end when it can', async () => {
    const op = fakeOp()
    const { world, told, monitor } = await openPage(op)
    op.status = 'changed'
    op.silently = refused
    await world.advance(2_200)
    expect(told.at(-1)).toBe('unknown')
    expect(monitor.state).toBe('unknown')
    op.silently = async () => undefined
    await world.advance(10_000)
    expect(told.at(-1)).toBe('ended')
  })

  it.each([
    ['never answers', undefined],
    ['says error', 'error'],
    ['says changed from the first moment on', 'changed'],
  ])('gives an OP iframe up that %s, and stays signed in', async (_, status) => {
    const op = fakeOp()
    op.status = status
    const { world, told, monitor } = await openPage(op)
    await world.advance(600_000)
    expect(monitor.state).toBe('alive')
    expect(told).toEqual(['alive'])
    expect(world.frames).toEqual([])
    expect(op.silentChecks).toBe(1)
  })

  it('asks an OP that says changed for ever less and less often [SM §5.1]', async () => {
    const op = fakeOp()
    const { world, told } = await openPage(op)
    op.status = 'changed'
    await world.advance(300_000)
    expect(op.silentChecks).toBe(1 + 3)
    await world.advance(24 * 3_600_000)
    expect(op.silentChecks).toBeLessThan(100)
    expect(told).not.toContain('ended')
  })

  it('has the OP asked once per change, however many tabs there are', async () => {
    const op = fakeOp()
    const baseUrl = freshPage()
    const pages = [await openPage(op, { baseUrl, proved: true })]
    for (let more = 0; more < 4; more++) pages.push(await openPage(op, { baseUrl, proved: true }))
    op.status = 'changed'
    op.silently = async () => undefined
    const states = () => pages.map(({ monitor }) => monitor.state)
    for (let step = 0; step < 100 && states().includes('alive'); step++) {
      await Promise.all(pages.map(({ world }) => world.advance(50)))
      await new Promise((resolve) => setTimeout(resolve, 5)) // the channels between tabs are real
    }
    expect(states()).toEqual(Array(5).fill('ended'))
    expect(op.silentChecks).toBe(1)
  })

  it('refuses options that are not there, naming them', () => {
    const world = fakeWorld({ backend: noBackend })
    const silentCheck = async () => ada
    expect(() => startSpaMonitor({ clientId: '', sub: 'ada', silentCheck }, world)).toThrow(/^clientId/)
    expect(() => startSpaMonitor({ clientId: 'spa', sub: '', silentCheck }, world)).toThrow(/^sub/)
  })
})

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
    ['two seconds go by', ({ world }) => world.advance(2_000)],
    ['ten minutes go by', ({ world }) => world.advance(600_000)],
  ]
  const story = fc.array(fc.constantFrom(...harmless), { maxLength: 15 })

  it('is never signed out while nobody has signed out', async () => {
    await fc.assert(
      fc.asyncProperty(story, fc.boolean(), async (steps, cookies) => {
        const op = fakeOp()
        if (!cookies) op.silently = async () => undefined
        const { world, told, monitor } = await openPage(op)
        for (const [name, run] of steps) if (cookies || !name.startsWith('the OP comes')) await run({ world, op })
        expect(told).not.toContain('ended')
        monitor.stop()
        await settle()
        expect(world.leftovers()).toBe(0)
      }),
      { numRuns: 60 },
    )
  }, 60_000)
})
