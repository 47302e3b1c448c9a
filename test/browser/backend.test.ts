import { describe, expect, it } from 'vitest'
import { fakeBackend, freshPage, hanging, offline, settle } from './fake-world.ts'
import { alive, ended, openTab, signedOut } from './open-tab.ts'

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

describe('a clock that is set back', () => {
  it('does not hide that the stream has ended and the session is gone', async () => {
    const backend = fakeBackend(alive)
    const { world, types } = await openTab(backend)
    world.setClock(-3_600_000)
    backend.become({ state: 'none' })
    await world.advance(20_000)
    expect(types().at(-1)).toBe('ended')
  })

  it('does not put off the question when the stream says nothing', async () => {
    const backend = fakeBackend(alive)
    const { world, types } = await openTab(backend)
    world.setClock(-3_600_000)
    backend.become(ended, { quietly: true })
    for (let minutes = 0; minutes < 40; minutes++) {
      backend.heartbeat()
      await world.advance(15_000)
    }
    expect(types().at(-1)).toBe('ended')
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

  it('spares the question where it says itself how the session is', async () => {
    const backend = fakeBackend(alive)
    const { world, types } = await openTab(backend)
    const { questions } = backend
    for (let minutes = 0; minutes < 60; minutes++) {
      if (minutes % 4 === 0) backend.become(alive)
      backend.heartbeat()
      await world.advance(30_000)
      backend.heartbeat()
      await world.advance(30_000)
    }
    expect(backend).toMatchObject({ questions, streamsOpened: 1 })
    expect(types()).not.toContain('unknown')
  })

  it('does not need to say everything: the session is asked for at the first heartbeat after five minutes', async () => {
    const backend = fakeBackend(alive)
    const { world, told } = await openTab(backend)
    backend.become(ended, { quietly: true })
    for (let beat = 0; beat < 20; beat++) {
      backend.heartbeat()
      await world.advance(15_000)
    }
    expect(told.at(-1)?.type).toBe('alive')
    backend.heartbeat()
    await world.advance(100)
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

describe('a backend that names its RP session anew at each request', () => {
  it.each([1, 3])('is not asked in a tight loop, with %i tabs open', async (tabs) => {
    const backend = fakeBackend(alive)
    let requests = 0
    const renaming = {
      fetch(url: string, init: RequestInit) {
        backend.become({ ...alive, session: `s${++requests}` }, { quietly: true })
        if (requests > 1_000) return hanging() // a tight loop would never let go
        return backend.fetch(url, init)
      },
    }
    const baseUrl = freshPage()
    const opened = []
    for (let more = 0; more < tabs; more++) opened.push(await openTab(renaming, { baseUrl }))
    for (let second = 0; second < 60; second++) for (const { world } of opened) await world.advance(1_000)
    expect(requests).toBeLessThan(40 * tabs)
    for (const { monitor } of opened) expect(monitor.state).toBe('alive')
    backend.become(ended)
    renaming.fetch = backend.fetch
    for (let second = 0; second < 20; second++) for (const { world } of opened) await world.advance(1_000)
    for (const { monitor } of opened) expect(monitor.state).toBe('ended')
  })
})
