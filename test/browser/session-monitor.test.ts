import { describe, expect, it } from 'vitest'
import { startSessionMonitor } from '../../src/browser/session-monitor.ts'
import { fakeBackend, fakeWorld, offline, settle } from './fake-world.ts'
import { alive, ended, openTab, signedOut, watch } from './open-tab.ts'

describe('a page that somebody is signed in to', () => {
  it('says alive once the backend has said so, and opens one stream', async () => {
    const backend = fakeBackend(alive)
    const { monitor, told } = await openTab(backend)
    expect(monitor.state).toBe('alive')
    expect(told[0]).toMatchObject({ type: 'alive', heardBy: 'poll', session: alive })
    expect(told.at(-1)).toMatchObject({ type: 'alive', heardBy: 'push' })
    expect(backend.streams).toBe(1)
  })

  it('is signed out by the stream, says who and how, and stops', async () => {
    const backend = fakeBackend(alive)
    const { monitor, world, told } = await openTab(backend)
    backend.become(ended)
    await settle()
    expect(told.at(-1)).toEqual({
      type: 'ended',
      session: 's1',
      ended: signedOut,
      heardBy: 'push',
      heardAt: world.now(),
    })
    expect(monitor.state).toBe('ended')
    expect(world.leftovers()).toBe(0)
  })

  it('hears in a hidden tab as well', async () => {
    const backend = fakeBackend(alive)
    const { world, types } = await openTab(backend)
    world.show('hidden')
    backend.become(ended)
    await settle()
    expect(types().at(-1)).toBe('ended')
  })

  it('hears of a session that ended between the page and its first question', async () => {
    const { types, told } = await openTab(fakeBackend(ended))
    expect(types()).toEqual(['ended'])
    expect(told[0]).toMatchObject({ session: 's1', ended: signedOut, heardBy: 'poll' })
  })

  it('confirms alive at each heartbeat of the stream', async () => {
    const backend = fakeBackend(alive)
    const { told } = await openTab(backend)
    const before = told.length
    backend.heartbeat()
    await settle()
    expect(told.length).toBe(before + 1)
    expect(told.at(-1)).toMatchObject({ type: 'alive', heardBy: 'push' })
  })

  it('takes a cookie that is gone for a session that expired', async () => {
    const backend = fakeBackend(alive)
    const { monitor, world, told } = await openTab(backend)
    backend.become({ state: 'none' }, { quietly: true })
    void monitor.check()
    await world.advance(10_000)
    expect(told.at(-1)).toMatchObject({ type: 'ended', session: 's1', ended: { cause: 'expired' }, heardBy: 'poll' })
  })

  it('stays signed in while a login in another tab replaces the session and the new cookie is still on its way', async () => {
    const backend = fakeBackend(alive)
    const { monitor, world, types } = await openTab(backend)
    backend.become({ state: 'none' })
    await world.advance(2_000)
    backend.become({ ...alive, session: 's2' })
    await world.advance(15_000)
    expect(types()).not.toContain('ended')
    expect(monitor.state).toBe('alive')
    expect(backend.streams).toBe(1)
  })

  it('has a stream that says that there is no session checked like any other such answer', async () => {
    const backend = fakeBackend(alive)
    const { world, types } = await openTab(backend)
    backend.write('data: {"state":"none"}\n\n')
    await world.advance(15_000)
    expect(types()).not.toContain('ended')
    expect(backend.streams).toBe(1)
  })

  it('stays signed in when the same End-User signs in anew in another tab, and listens to the new session', async () => {
    const backend = fakeBackend(alive)
    const { monitor, types } = await openTab(backend)
    backend.become({ ...alive, session: 's2' }, { quietly: true })
    await monitor.check()
    await settle()
    expect(monitor.state).toBe('alive')
    expect(types()).not.toContain('ended')
    expect(backend.streamsOpened).toBe(2)
    expect(backend.streams).toBe(1)
  })

  it('says userswitched, then ended, when another End-User has signed in', async () => {
    const backend = fakeBackend(alive)
    const { monitor, types, told } = await openTab(backend)
    backend.become({ ...alive, session: 's2', sub: 'grace' }, { quietly: true })
    await monitor.check()
    expect(types().slice(-2)).toEqual(['userswitched', 'ended'])
    expect(told.at(-2)).toMatchObject({ sub: 'grace' })
    expect(told.at(-1)).toMatchObject({ session: 's1', ended: { cause: 'user_switched' } })
  })
})

describe('a page that nobody is signed in to', () => {
  it('asks once and rests: no stream, no loop, no event', async () => {
    const backend = fakeBackend({ state: 'none' })
    const { monitor, world, told } = await openTab(backend)
    await world.advance(3_600_000)
    world.window.dispatchEvent(new Event('online'))
    await settle()
    expect(monitor.state).toBe('none')
    expect(told).toEqual([])
    expect(backend).toMatchObject({ questions: 1, streamsOpened: 0 })
  })

  it('starts to listen when it asks again and somebody is signed in', async () => {
    const backend = fakeBackend({ state: 'none' })
    const { monitor, types } = await openTab(backend)
    backend.become(alive)
    await monitor.check()
    await settle()
    expect(types()).toContain('alive')
    expect(backend.streams).toBe(1)
  })
})

describe('a page that says whom it was rendered for', () => {
  const open = (backend: ReturnType<typeof fakeBackend>) => watch(fakeWorld({ backend }), { signedIn: 'ada' })

  it('is signed out when it hears twice that nobody is signed in', async () => {
    const backend = fakeBackend({ state: 'none' })
    const { world, monitor, told } = await open(backend)
    await world.advance(9_999)
    expect(told).toEqual([])
    await world.advance(1)
    expect(told).toEqual([
      expect.objectContaining({ type: 'ended', session: '', ended: expect.objectContaining({ cause: 'expired' }) }),
    ])
    expect(monitor.state).toBe('ended')
    expect(backend).toMatchObject({ questions: 2, streamsOpened: 0 })
    expect(world.leftovers()).toBe(0)
  })

  it('stays signed in when the new cookie of a login in another tab was still on its way', async () => {
    const backend = fakeBackend({ state: 'none' })
    const { world, types } = await open(backend)
    backend.become(alive)
    await world.advance(60_000)
    expect(types()).toContain('alive')
    expect(types()).not.toContain('ended')
    expect(backend.streams).toBe(1)
  })

  it('is signed out at once when somebody else is signed in', async () => {
    const { told } = await open(fakeBackend({ ...alive, sub: 'grace' }))
    expect(told).toEqual([
      expect.objectContaining({ type: 'userswitched', sub: 'grace' }),
      expect.objectContaining({
        type: 'ended',
        session: '',
        ended: expect.objectContaining({ cause: 'user_switched' }),
      }),
    ])
  })

  it('signs nobody out while the backend is silent', async () => {
    const backend = fakeBackend({ state: 'none' })
    backend.failWith(offline)
    const { world, types } = await open(backend)
    await world.advance(600_000)
    expect(types()).toContain('unknown')
    expect(types()).not.toContain('ended')
  })

  it('rests when it says that it is for nobody', async () => {
    const backend = fakeBackend({ state: 'none' })
    const { world, told, monitor } = await watch(fakeWorld({ backend }), { signedIn: '' })
    await world.advance(600_000)
    expect(told).toEqual([])
    expect(monitor.state).toBe('none')
    expect(backend.questions).toBe(1)
  })
})

describe('a page that goes away', () => {
  it('leaves nothing behind after stop()', async () => {
    const backend = fakeBackend(alive)
    const { monitor, world, told } = await openTab(backend)
    monitor.stop()
    await settle()
    expect(world.leftovers()).toBe(0)
    expect(backend.streams).toBe(0)
    const before = told.length
    backend.become(ended)
    world.window.dispatchEvent(new Event('online'))
    await monitor.check()
    await world.advance(600_000)
    expect(told).toHaveLength(before)
  })

  it.each([
    ['pagehide', 'pageshow'],
    ['freeze', 'resume'],
  ])('holds nothing between %s and %s, then asks what it missed', async (leave, comeBack) => {
    const backend = fakeBackend(alive)
    const { world, monitor, types } = await openTab(backend)
    const target = leave === 'pagehide' ? world.window : world.document
    target.dispatchEvent(new Event(leave))
    await settle()
    expect(backend.streams).toBe(0)
    expect(monitor.state).toBe('alive')
    backend.become(ended)
    await world.advance(600_000)
    expect(types()).not.toContain('ended')
    target.dispatchEvent(new Event(comeBack))
    await settle()
    expect(types().at(-1)).toBe('ended')
  })
})

it('refuses a checkInterval that is not a positive number, naming it', () => {
  const world = fakeWorld({ backend: fakeBackend(alive) })
  expect(() => startSessionMonitor({ checkInterval: 0 }, world)).toThrow(/^checkInterval/)
  expect(() => startSessionMonitor({ checkInterval: 1e7 }, world)).toThrow(/^checkInterval/)
  expect(() => startSessionMonitor({ checkInterval: Number.NaN }, world)).toThrow(TypeError)
})

it('refuses a signedIn that is no sub, naming it', () => {
  const world = fakeWorld({ backend: fakeBackend(alive) })
  const options = { signedIn: true } as unknown as { signedIn: string }
  expect(() => startSessionMonitor(options, world)).toThrow(/^signedIn/)
})
