import { afterEach, describe, expect, it } from 'vitest'
import type { AliveDocument } from '../../src/browser/decide.ts'
import {
  type SessionMonitor,
  type SessionMonitorEvents,
  startSessionMonitor,
} from '../../src/browser/session-monitor.ts'
import type { SessionDocument, SessionEnd } from '../../src/protocol/session-document.ts'
import {
  type FakeBackend,
  type FakeWorld,
  type FakeWorldOptions,
  fakeBackend,
  fakeWorld,
  freshPage,
  hanging,
  offline,
  settle,
} from './fake-world.ts'

const alive: AliveDocument = {
  state: 'alive',
  session: 's1',
  sub: 'ada',
  client_id: 'notes',
  expires_at: 1_900_000_000,
}
const signedOut: SessionEnd = { cause: 'logout_token', at: 1_800_000_000, by: 'Mail' }
const ended: SessionDocument = { state: 'ended', session: 's1', ended: signedOut }

type Told = {
  [Type in keyof SessionMonitorEvents]: { type: Type } & SessionMonitorEvents[Type]
}[keyof SessionMonitorEvents]

interface Tab {
  readonly monitor: SessionMonitor
  readonly world: FakeWorld
  readonly told: Told[]
  types(): string[]
}

const running: SessionMonitor[] = []
afterEach(async () => {
  for (const monitor of running.splice(0)) monitor.stop()
  await settle()
})

async function openTab(backend: FakeBackend, options: Partial<FakeWorldOptions> = {}): Promise<Tab> {
  const world = fakeWorld({ backend, ...options })
  const monitor = startSessionMonitor({}, world)
  running.push(monitor)
  const told: Told[] = []
  const listen = <Type extends keyof SessionMonitorEvents>(type: Type) =>
    monitor.addEventListener(type, ({ detail }) => told.push({ type, ...detail } as Told))
  listen('alive')
  listen('unknown')
  listen('userswitched')
  listen('ended')
  await settle()
  return { monitor, world, told, types: () => told.map(({ type }) => type) }
}

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
    const { monitor, told } = await openTab(backend)
    backend.become({ state: 'none' }, { quietly: true })
    await monitor.check()
    expect(told.at(-1)).toMatchObject({ type: 'ended', session: 's1', ended: { cause: 'expired' }, heardBy: 'poll' })
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

describe('a backend that does not answer', () => {
  it.each([
    ['is away', offline],
    ['answers 500', () => Promise.resolve(new Response('oops', { status: 500 }))],
    ['answers 401 with something else', () => Promise.resolve(Response.json({ error: 'login' }, { status: 401 }))],
    ['answers 200 with a login page', () => Promise.resolve(new Response('<html>log in</html>'))],
    ['answers null', () => Promise.resolve(Response.json(null))],
    ['names no session', () => Promise.resolve(Response.json({ state: 'ended', ended: signedOut }, { status: 401 }))],
  ])('is unknown, never ended: one that %s', async (_, failure) => {
    const backend = fakeBackend(alive)
    const { monitor, world, types } = await openTab(backend)
    backend.failWith(failure)
    backend.cutStreams()
    await world.advance(60_000)
    expect(monitor.state).toBe('unknown')
    expect(types().at(-1)).toBe('unknown')
    expect(types()).not.toContain('ended')
  })

  it('is unknown when it hangs for ten seconds', async () => {
    const backend = fakeBackend(alive)
    const { monitor, world } = await openTab(backend)
    backend.failWith(hanging, 'session')
    const checked = monitor.check()
    await world.advance(10_000)
    await checked
    expect(monitor.state).toBe('unknown')
  })

  it('is heard again when it comes back, with what was missed', async () => {
    const backend = fakeBackend(alive)
    const { world, types } = await openTab(backend)
    backend.failWith(offline)
    backend.cutStreams()
    await world.advance(60_000)
    backend.become(ended)
    backend.failWith(undefined)
    await world.advance(30_000)
    expect(types().filter((type) => type === 'ended')).toHaveLength(1)
  })

  it('is waited for from the first moment too', async () => {
    const backend = fakeBackend(alive)
    backend.failWith(offline)
    const { monitor, world, types } = await openTab(backend)
    expect(monitor.state).toBe('unknown')
    backend.failWith(undefined)
    await world.advance(30_000)
    expect(types().at(-1)).toBe('alive')
  })

  it('is asked less and less often, at most every ten seconds', async () => {
    const backend = fakeBackend(alive)
    const { world } = await openTab(backend, { random: () => 1 })
    backend.failWith(offline)
    backend.cutStreams()
    const gaps: number[] = []
    for (let last = backend.streamsOpened, since = 0, second = 0; second < 60; second++) {
      await world.advance(1_000)
      since += 1
      if (backend.streamsOpened === last) continue
      gaps.push(since)
      last = backend.streamsOpened
      since = 0
    }
    expect(gaps).toEqual([1, 2, 4, 8, 10, 10, 10, 10])
  })

  it('is asked at once when the network is back or the tab is looked at', async () => {
    const backend = fakeBackend(alive)
    const { monitor, world } = await openTab(backend)
    backend.failWith(offline)
    backend.cutStreams()
    await world.advance(100_000)
    backend.failWith(undefined)
    world.window.dispatchEvent(new Event('online'))
    await settle()
    expect(monitor.state).toBe('alive')
    expect(backend.streams).toBe(1)

    backend.failWith(offline)
    backend.cutStreams()
    world.show('hidden')
    await world.advance(100_000)
    expect(monitor.state).toBe('unknown')
    backend.failWith(undefined)
    world.window.dispatchEvent(new Event('online'))
    await settle()
    expect(monitor.state).toBe('alive')

    backend.become(ended, { quietly: true })
    world.show('visible')
    await settle()
    expect(monitor.state).toBe('ended')
  })
})

describe('the stream', () => {
  it('is opened anew when it is silent for 45 seconds', async () => {
    const backend = fakeBackend(alive)
    const { world } = await openTab(backend)
    await world.advance(44_000)
    backend.heartbeat()
    await world.advance(44_000)
    expect(backend.streamsOpened).toBe(1)
    backend.become(ended, { quietly: true })
    await world.advance(3_000)
    expect(backend.streamsOpened).toBe(2)
  })

  it('is opened anew within a second after a restart of the backend, and says what was missed', async () => {
    const backend = fakeBackend(alive)
    const { world, told } = await openTab(backend)
    backend.cutStreams()
    backend.become(ended)
    await world.advance(1_000)
    expect(told.at(-1)).toMatchObject({ type: 'ended', heardBy: 'push' })
  })

  it('is not opened in a tight loop when something cuts it off again and again', async () => {
    const backend = fakeBackend(alive)
    const { world } = await openTab(backend)
    for (let second = 0; second < 120; second++) {
      backend.cutStreams()
      await world.advance(1_000)
    }
    expect(backend.streamsOpened).toBeLessThan(40)
  })

  it('leaves the session to the poll where there is none', async () => {
    const backend = fakeBackend(alive)
    backend.failWith(() => Promise.resolve(new Response('not found\n\n', { status: 404 })), 'events')
    const { monitor, world, told } = await openTab(backend)
    expect(monitor.state).toBe('alive')
    backend.become(ended)
    await world.advance(30_000)
    expect(told.at(-1)).toMatchObject({ type: 'ended', heardBy: 'poll' })
  })

  it('does not need to say everything: the session is asked for every five minutes', async () => {
    const backend = fakeBackend(alive)
    const { world, told } = await openTab(backend)
    backend.become(ended, { quietly: true })
    for (let beat = 0; beat < 20; beat++) {
      backend.heartbeat()
      await world.advance(15_000)
    }
    expect(told.at(-1)).toMatchObject({ type: 'ended', heardBy: 'poll' })
  })

  it('says nothing by events that hold no session document', async () => {
    const backend = fakeBackend(alive)
    const { monitor } = await openTab(backend)
    backend.write('event: session\ndata: {"state":"ended"}\n\nevent: session\ndata: oops\n\n')
    await settle()
    expect(monitor.state).toBe('alive')
  })
})

describe('several tabs of one browser', () => {
  it('share one stream and are all signed out, each once', async () => {
    const backend = fakeBackend(alive)
    const baseUrl = freshPage()
    const tabs = [
      await openTab(backend, { baseUrl }),
      await openTab(backend, { baseUrl }),
      await openTab(backend, { baseUrl }),
    ]
    expect(backend.streams).toBe(1)
    backend.become(ended)
    await settle()
    for (const { told } of tabs) {
      expect(told.filter(({ type }) => type === 'ended')).toEqual([
        expect.objectContaining({ heardBy: 'push', ended: signedOut }),
      ])
    }
  })

  it('have a new leader as soon as the old one is gone', async () => {
    const backend = fakeBackend(alive)
    const baseUrl = freshPage()
    const first = await openTab(backend, { baseUrl })
    const second = await openTab(backend, { baseUrl })
    first.monitor.stop()
    await settle()
    expect(backend).toMatchObject({ streams: 1, streamsOpened: 2 })
    backend.become(ended)
    await settle()
    expect(second.types().at(-1)).toBe('ended')
    expect(first.types()).not.toContain('ended')
  })

  it('take what concerns another session only as a reason to ask', async () => {
    const backend = fakeBackend(alive)
    const baseUrl = freshPage()
    const old = await openTab(backend, { baseUrl })
    backend.become({ ...alive, session: 's2' }, { quietly: true })
    const fresh = await openTab(backend, { baseUrl })
    await settle()
    expect(fresh.monitor.state).toBe('alive')
    backend.become({ state: 'ended', session: 's2', ended: signedOut })
    await settle()
    expect([old.monitor.state, fresh.monitor.state]).toEqual(['ended', 'ended'])
  })

  it('each listen for themselves where the browser has no Web Locks', async () => {
    const backend = fakeBackend(alive)
    const tabs = [await openTab(backend, { tabs: false }), await openTab(backend, { tabs: false })]
    expect(backend.streams).toBe(2)
    backend.become(ended)
    await settle()
    expect(tabs.map(({ monitor }) => monitor.state)).toEqual(['ended', 'ended'])
  })
})

it('leads for itself when the Web Locks it has do not work', async () => {
  const backend = fakeBackend(alive)
  const world = fakeWorld({ backend })
  const broken = { request: () => Promise.reject(new DOMException('not here', 'SecurityError')) }
  const tabs = { locks: broken, openChannel: (name: string) => new BroadcastChannel(name) }
  const monitor = startSessionMonitor({}, { ...world, tabs })
  running.push(monitor)
  await settle()
  backend.become(ended)
  await settle()
  expect(monitor.state).toBe('ended')
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

  it('lets another tab lead while it rests', async () => {
    const backend = fakeBackend(alive)
    const baseUrl = freshPage()
    const first = await openTab(backend, { baseUrl })
    const second = await openTab(backend, { baseUrl })
    first.world.window.dispatchEvent(new Event('pagehide'))
    await settle()
    expect(backend.streams).toBe(1)
    backend.become(ended)
    await settle()
    expect(second.monitor.state).toBe('ended')
    first.world.window.dispatchEvent(new Event('pageshow'))
    await settle()
    expect(first.monitor.state).toBe('ended')
  })
})

it('refuses a checkInterval that is not a positive number, naming it', () => {
  const world = fakeWorld({ backend: fakeBackend(alive) })
  expect(() => startSessionMonitor({ checkInterval: 0 }, world)).toThrow(/^checkInterval/)
  expect(() => startSessionMonitor({ checkInterval: 1e7 }, world)).toThrow(/^checkInterval/)
  expect(() => startSessionMonitor({ checkInterval: Number.NaN }, world)).toThrow(TypeError)
})
