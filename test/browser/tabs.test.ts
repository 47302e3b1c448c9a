import { describe, expect, it } from 'vitest'
import { takeTurns } from '../../src/browser/tabs.ts'
import { fakeBackend, fakeWorld, freshPage, settle } from './fake-world.ts'
import { alive, ended, openTab, signedOut, watch } from './open-tab.ts'

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

  it('know at once that one of them listens, also those that come later', async () => {
    const backend = fakeBackend(alive)
    const baseUrl = freshPage()
    const first = await openTab(backend, { baseUrl })
    const second = await openTab(backend, { baseUrl })
    expect(backend.streams).toBe(1)
    expect(second.told).toContainEqual(expect.objectContaining({ type: 'alive', heardBy: 'push' }))
    expect(first.types()).not.toContain('unknown')
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

  it('listen only while they are looked at where the browser has no Web Locks, and lose nothing by it', async () => {
    const backend = fakeBackend(alive)
    const tabs = []
    for (let more = 0; more < 12; more++) {
      const tab = await openTab(backend, { tabs: false })
      tab.world.show('hidden')
      await settle()
      tabs.push(tab)
    }
    const [first] = tabs
    expect(backend.streams).toBe(0)
    first?.world.show('visible')
    await settle()
    expect(backend.streams).toBe(1)
    const { questions, streamsOpened } = backend
    for (const { world } of tabs) await world.advance(40_000)
    expect(backend).toMatchObject({ questions, streamsOpened, streams: 1 })
    backend.become(ended)
    await settle()
    expect(first?.monitor.state).toBe('ended')
    for (const { world, monitor } of tabs.slice(1)) {
      expect(monitor.state).toBe('alive')
      world.show('visible')
      await settle()
      expect(monitor.state).toBe('ended')
    }
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

it('leads for itself when the Web Locks it has do not work', async () => {
  const backend = fakeBackend(alive)
  const world = fakeWorld({ backend })
  const broken = { request: () => Promise.reject(new DOMException('not here', 'SecurityError')) }
  const { monitor } = await watch({ ...world, arbiter: broken })
  backend.become(ended)
  await settle()
  expect(monitor.state).toBe('ended')
})

it('lets no error of what it runs pass for Web Locks that do not work: it runs once, and the error is seen', async () => {
  const world = fakeWorld({ backend: fakeBackend(alive) })
  let runs = 0
  const turn = takeTurns(world, freshPage(), new AbortController().signal, () => {
    runs += 1
    return Promise.reject(new TypeError('a mistake'))
  })
  await expect(turn).rejects.toThrow('a mistake')
  expect(runs).toBe(1)
})
