import { describe, expect, it } from 'vitest'
import { startSpaMonitor } from '../../src/browser/spa-monitor.ts'
import { fakeWorld, freshPage, settle } from './fake-world.ts'
import { ada, aStorage, fakeOp, noBackend, openSpa, opIframe, refused } from './open-spa.ts'

describe('a page without a backend', () => {
  it('is alive once a silent check has worked, watches the OP iframe and asks nobody else [SM §3.1]', async () => {
    const op = fakeOp()
    const { world, monitor, told } = await openSpa(op)
    expect(monitor).toMatchObject({ state: 'alive', blind: false })
    await world.advance(3_600_000)
    expect(told).toEqual(['alive'])
    expect(op.silentChecks).toBe(1)
    expect(world.frames.map(({ url }) => url)).toEqual([opIframe])
  })

  it('goes on watching with the session_state it had when a silent check brings none', async () => {
    const op = fakeOp()
    op.silently = async () => ({ sub: 'ada' })
    const { world, monitor } = await openSpa(op)
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
    expect(monitor.blind).toBe(true)
    monitor.stop()
  })

  it('needs no silent check at its start when one has just worked', async () => {
    const op = fakeOp()
    const { monitor } = await openSpa(op, { proved: true })
    expect(monitor).toMatchObject({ state: 'alive', blind: false })
    expect(op.silentChecks).toBe(0)
  })

  it('is signed out when the OP iframe says changed and prompt=none then says login_required [SM §3.1]', async () => {
    const op = fakeOp()
    const { world, told, monitor } = await openSpa(op)
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
    const { world, told, monitor } = await openSpa(op)
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
    const { world, told } = await openSpa(op)
    op.status = 'changed'
    op.silently = async () => ({ sub: 'grace', sessionState: 'two.salt' })
    await world.advance(2_200)
    expect(told.slice(-2)).toEqual(['userswitched', 'ended'])
  })

  it('says so as well when somebody else was signed in before it first asked', async () => {
    const op = fakeOp()
    op.silently = async () => ({ sub: 'grace', sessionState: 'two.salt' })
    const { told } = await openSpa(op)
    expect(told).toEqual(['userswitched', 'ended'])
  })

  it('takes login_required of a browser that withholds the cookies for nothing at all [SM §5.1]', async () => {
    const op = fakeOp()
    op.status = 'changed' // as some OPs say without a cookie
    op.silently = async () => undefined
    const { world, told, monitor } = await openSpa(op)
    await world.advance(3_600_000)
    expect(monitor).toMatchObject({ state: 'alive', blind: true })
    expect(told).toEqual(['alive'])
    expect(op.silentChecks).toBe(1)
    expect(world.framesOpened).toEqual([])
  })

  it('is unknown, not ended, while the OP cannot be asked, and tries again ever more rarely', async () => {
    const op = fakeOp()
    op.silently = refused
    const { world, told, monitor } = await openSpa(op)
    await world.advance(3_600_000)
    expect(monitor.state).toBe('unknown')
    expect(told).not.toContain('ended')
    expect(op.silentChecks).toBeLessThan(25)
    op.silently = async () => ada
    world.window.dispatchEvent(new Event('online'))
    await settle()
    expect(monitor).toMatchObject({ state: 'alive', blind: true })
    await world.advance(2_000)
    expect(monitor.blind).toBe(false)
  })

  it('is unknown when a changed cannot be looked into, and hears the end when it can', async () => {
    const op = fakeOp()
    const { world, told, monitor } = await openSpa(op)
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
    ['never answers', undefined, 0],
    ['says error', 'error', 0],
    ['says changed from the first moment on', 'changed', 1],
  ])('gives an OP iframe up that %s, says that it is blind, and stays signed in', async (_, status, looks) => {
    const op = fakeOp()
    op.status = status
    const { world, told, monitor } = await openSpa(op)
    expect(monitor.blind).toBe(true)
    await world.advance(600_000)
    expect(monitor).toMatchObject({ state: 'alive', blind: true })
    expect(new Set(told)).toEqual(new Set(['alive']))
    expect(world.frames).toEqual([])
    expect(op.silentChecks).toBe(1 + looks)
  })

  it('is blind from the moment on at which its OP iframe says error, and while it says nothing', async () => {
    const op = fakeOp()
    const { world, monitor } = await openSpa(op)
    op.status = undefined
    await world.advance(20_000)
    expect(monitor.blind).toBe(true)
    op.status = 'unchanged'
    await world.advance(20_000)
    expect(monitor.blind).toBe(false)
    op.status = 'error'
    await world.advance(5_000)
    expect(monitor.blind).toBe(true)
  })

  it('is signed out when it was loaded after the logout: a first changed is looked into', async () => {
    const op = fakeOp()
    op.status = 'changed'
    op.silently = async () => undefined
    const { world, told, monitor } = await openSpa(op, { proved: true })
    await world.advance(1_000)
    expect(monitor.state).toBe('ended')
    expect(told.at(-1)).toBe('ended')
    expect(op.silentChecks).toBe(1)
  })

  it('is signed out as well when a silent check has worked on another page of the same login', async () => {
    const op = fakeOp()
    const storage = aStorage()
    const { monitor: before } = await openSpa(op, { storage })
    before.stop()
    op.status = 'changed'
    op.silently = async () => undefined
    const { world, monitor, told } = await openSpa(op, { storage })
    await world.advance(1_000)
    expect(monitor.state).toBe('ended')
    expect(told.at(-1)).toBe('ended')
    expect(op.silentChecks).toBe(2)
  })

  it.each([
    ['another login', { sessionState: 'two.salt' }],
    ['another End-User', { sub: 'grace' }],
  ])('does not take what has worked in %s for its own', async (_, page) => {
    const op = fakeOp()
    const storage = aStorage()
    const { monitor: before } = await openSpa(op, { storage })
    before.stop()
    op.status = 'changed'
    op.silently = async () => undefined
    const { world, monitor } = await openSpa(op, { storage, ...page })
    await world.advance(600_000)
    expect(monitor).toMatchObject({ state: 'alive', blind: true })
  })

  it('has it tried on each page where nothing can be remembered', async () => {
    const denied = () => {
      throw new DOMException('denied', 'SecurityError')
    }
    const op = fakeOp()
    for (const times of [1, 2]) {
      const { monitor } = await openSpa(op, { storage: { getItem: denied, setItem: denied } })
      expect(monitor).toMatchObject({ state: 'alive', blind: false })
      expect(op.silentChecks).toBe(times)
    }
  })

  it('hears within seconds of being online again of a logout that came just before the network went', async () => {
    const op = fakeOp()
    const { world, told, monitor } = await openSpa(op)
    op.status = 'changed'
    op.silently = refused
    await world.advance(120_000)
    expect(op.silentChecks).toBe(1 + 3)
    op.silently = async () => undefined
    world.window.dispatchEvent(new Event('online'))
    await world.advance(1_000)
    expect(monitor.state).toBe('ended')
    expect(told.filter((type) => type === 'ended')).toEqual(['ended'])
  })

  it.each([1, -1])('hears as soon when the clock is set to another day (%s)', async (days) => {
    const op = fakeOp()
    const { world, monitor } = await openSpa(op)
    op.status = 'changed'
    await world.advance(120_000)
    expect(op.silentChecks).toBe(1 + 3)
    world.setClock(days * 86_400_000)
    op.silently = async () => undefined
    await world.advance(300_000)
    expect(monitor.state).toBe('ended')
  })

  it('leaves pages of another End-User on the same origin alone', async () => {
    const baseUrl = freshPage()
    const [ada, grace] = [fakeOp(), fakeOp()]
    grace.silently = async () => ({ sub: 'grace', sessionState: 'two.salt' })
    const pages = [
      await openSpa(ada, { baseUrl }),
      await openSpa(grace, { baseUrl, sub: 'grace', sessionState: 'two.salt' }),
    ]
    await settle()
    const before = pages.map(({ told }) => told.length)
    for (const { world } of pages) world.show('hidden')
    for (const { world } of pages) world.show('visible')
    for (let step = 0; step < 20; step++) await Promise.all(pages.map(({ world }) => world.advance(200)))
    expect(pages.map(({ told }, i) => told.length - before[i]!)).toEqual([1, 1])
    expect(pages.map(({ monitor }) => monitor.state)).toEqual(['alive', 'alive'])
  })

  it('loses no end that prompt=none finds while the page asks for another reason', async () => {
    const op = fakeOp()
    let answer = () => {}
    const { world, monitor } = await openSpa(op)
    op.status = 'changed'
    op.silently = () => new Promise((resolve) => (answer = () => resolve(undefined)))
    await world.advance(2_200)
    expect(op.silentChecks).toBe(2)
    void monitor.check()
    await world.advance(50)
    answer()
    await world.advance(100)
    expect(monitor.state).toBe('ended')
  })

  it('has an OP that never answers asked three times in five minutes, however many tabs there are', async () => {
    const op = fakeOp()
    const baseUrl = freshPage()
    const pages = []
    while (pages.length < 5) pages.push(await openSpa(op, { baseUrl, proved: true }))
    op.status = 'changed'
    op.silently = refused
    for (let step = 0; step < 590; step++) {
      await Promise.all(pages.map(({ world }) => world.advance(step < 200 ? 50 : 740)))
      if (step < 200) await new Promise((resolve) => setTimeout(resolve, 5)) // the channels between tabs are real
    }
    expect(op.silentChecks).toBe(3)
    expect(pages.flatMap(({ told }) => told)).not.toContain('ended')
  }, 20_000)

  it('asks an OP that says changed for ever less and less often [SM §5.1]', async () => {
    const op = fakeOp()
    const { world, told } = await openSpa(op)
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
    const pages = [await openSpa(op, { baseUrl, proved: true })]
    for (let more = 0; more < 4; more++) pages.push(await openSpa(op, { baseUrl, proved: true }))
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
