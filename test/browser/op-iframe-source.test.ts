import { afterEach, describe, expect, it } from 'vitest'
import type { AliveDocument } from '../../src/browser/decide.ts'
import type { SessionMonitor } from '../../src/browser/session-events.ts'
import { startSessionMonitor } from '../../src/browser/session-monitor.ts'
import {
  type FakeBackend,
  type FakeFrame,
  type FakeWorldOptions,
  fakeBackend,
  fakeWorld,
  freshPage,
  settle,
} from './fake-world.ts'

const opIframe = 'https://op.example/session/check'
const alive: AliveDocument = {
  state: 'alive',
  session: 's1',
  sub: 'ada',
  client_id: 'notes app',
  expires_at: 1_900_000_000,
  session_state: 'one.salt',
  check_session_iframe: opIframe,
}
const isOpIframe = ({ url }: FakeFrame) => url === opIframe
const isSilentCheck = ({ url }: FakeFrame) => url.endsWith('/auth/silent-check')

const running: SessionMonitor[] = []
afterEach(async () => {
  for (const monitor of running.splice(0)) monitor.stop()
  await settle()
})

/** A page whose OP iframe gives these answers in turn (the last one for ever), and whose silent checks run `silent`. */
async function openPage(
  answers: readonly (string | undefined)[],
  {
    document = alive,
    silent = () => {},
    ...options
  }: Partial<FakeWorldOptions> & {
    document?: AliveDocument
    silent?: (frame: FakeFrame, backend: FakeBackend) => void
  } = {},
) {
  const backend = fakeBackend(document)
  let turn = 0
  const world = fakeWorld({
    backend,
    answer: (_, frame) => (isOpIframe(frame) ? answers[Math.min(turn++, answers.length - 1)] : undefined),
    opened: (frame) => (isOpIframe(frame) ? frame.load() : silent(frame, backend)),
    ...options,
  })
  const monitor = startSessionMonitor({}, world)
  running.push(monitor)
  const told: string[] = []
  for (const type of ['alive', 'unknown', 'userswitched', 'ended'] as const) {
    monitor.addEventListener(type, ({ detail }: CustomEvent) => told.push(`${type} by ${detail.heardBy}`))
  }
  await settle()
  const asked = () => world.framesOpened.filter(isOpIframe).flatMap((frame) => frame.asked)
  const silentChecks = () => world.framesOpened.filter(isSilentCheck).length
  return { backend, world, monitor, told, asked, silentChecks }
}

describe('the OP iframe as a source', () => {
  it('is asked for the client and its session_state, every two seconds [SM-3.1-c] [SM-3.2-a]', async () => {
    const { world, asked } = await openPage(['unchanged'])
    expect(asked()).toEqual(['notes app one.salt'])
    await world.advance(10_000)
    expect(asked().length).toBe(6)
    expect(world.frames).toHaveLength(1)
  })

  it('is not loaded where the RP session has no session_state or the OP no iframe', async () => {
    const { session_state: _, ...withoutState } = alive
    const { check_session_iframe: __, ...withoutIframe } = alive
    for (const document of [withoutState, withoutIframe]) {
      const { world } = await openPage(['unchanged'], { document })
      await world.advance(60_000)
      expect(world.framesOpened).toEqual([])
    }
  })

  it('is loaded as soon as an app that had not found its OP yet names it', async () => {
    const { check_session_iframe: _, ...withoutIframe } = alive
    const { backend, world, asked } = await openPage(['unchanged'], { document: withoutIframe })
    await world.advance(30_000)
    expect(world.framesOpened).toEqual([])
    backend.become(alive)
    await world.advance(4_000)
    expect(world.framesOpened).toHaveLength(1)
    expect(asked()).toContain('notes app one.salt')
  })

  it('rests while the tab is hidden and is asked at once when it is looked at', async () => {
    const { world, asked } = await openPage(['unchanged'])
    world.show('hidden')
    await world.advance(600_000)
    const before = asked().length
    expect(before).toBeLessThanOrEqual(2)
    world.show('visible')
    await settle()
    expect(asked().length).toBe(before + 1)
  })

  it('is not loaded in a tab that nobody has looked at', async () => {
    const { world } = await openPage(['unchanged'], {})
    world.show('hidden')
    const background = fakeWorld({ backend: fakeBackend(alive) })
    background.show('hidden')
    running.push(startSessionMonitor({}, background))
    await background.advance(60_000)
    expect(background.framesOpened).toEqual([])
  })

  it('listens only to the frame itself at its own origin [SM-3.1-a/b] [SM-6-a] [E37] [A60]', async () => {
    const { world, silentChecks } = await openPage(['unchanged'], { answer: () => undefined })
    const frame = world.frames[0]
    frame?.say('changed', { origin: 'https://evil.example' })
    frame?.say('changed', { source: {} })
    frame?.say({ answer: 'changed' })
    frame?.say('unchanged')
    await world.advance(2_000)
    frame?.say('changed', { origin: 'https://evil.example' })
    frame?.say('changed', { source: {} })
    await world.advance(2_999)
    expect(silentChecks()).toBe(0)
  })

  it.each([
    ['changed', 'changed'],
    ['error', 'error'],
    ['nothing', undefined],
    ['nonsense', 'Changed'],
  ])('is given up when its first answer is %s: it cannot work in this browser', async (_, answer) => {
    const { world, asked, told, silentChecks } = await openPage([answer, 'changed'])
    await world.advance(answer === 'error' || answer === 'changed' ? 0 : 10_000)
    expect(world.frames).toEqual([])
    await world.advance(120_000)
    expect(asked()).toHaveLength(1)
    expect(world.frames).toEqual([])
    expect(silentChecks()).toBe(0)
    expect(told.filter((what) => what.startsWith('ended'))).toEqual([])
  })

  it('has a first changed looked into where prompt=none works: the page was loaded after the logout', async () => {
    const { world, told, silentChecks } = await openPage(['changed'], {
      document: { ...alive, silent_check: 'works' },
      silent(frame, backend) {
        backend.become({ state: 'ended', session: 's1', ended: { cause: 'silent_check', at: 1 } }, { quietly: true })
        queueMicrotask(() => frame.say({ lockstep: 'silent-check', result: 'ended' }))
      },
    })
    await world.advance(30_000)
    expect(silentChecks()).toBe(1)
    expect(told.at(-1)).toMatch(/^ended/)
  })

  it('is given up all the same when it still says changed after that: once is enough', async () => {
    const { world, asked, told, silentChecks } = await openPage(['changed'], {
      document: { ...alive, silent_check: 'works' },
      silent: (frame) => queueMicrotask(() => frame.say({ lockstep: 'silent-check', result: 'alive' })),
    })
    await world.advance(600_000)
    expect(silentChecks()).toBe(1)
    expect(asked()).toHaveLength(2)
    expect(told.filter((what) => what.startsWith('ended'))).toEqual([])
  })

  it('stays given up for the life of the page', async () => {
    const { world, asked } = await openPage(['error', 'unchanged'])
    await world.advance(5_000)
    world.window.dispatchEvent(new Event('pagehide'))
    world.window.dispatchEvent(new Event('pageshow'))
    await world.advance(60_000)
    expect(asked()).toHaveLength(1)
  })

  it('is not asked again after an error, and prompt=none is not used [SM-3.1-f] [E42] [A60]', async () => {
    const { world, asked, silentChecks } = await openPage(['unchanged', 'error', 'changed'])
    await world.advance(60_000)
    expect(asked()).toHaveLength(2)
    expect(silentChecks()).toBe(0)
    expect(world.frames).toEqual([])
  })

  it.each([
    'unknown',
    'works',
  ] as const)('is asked about the session_state that another tab has found while it loaded (%s)', async (silent_check) => {
    const document = { ...alive, silent_check }
    const { backend, world, asked, silentChecks } = await openPage([], {
      document,
      answer: (message, frame) =>
        isOpIframe(frame) ? (message.endsWith(' two.salt') ? 'unchanged' : 'changed') : undefined,
      opened: () => {},
    })
    await world.advance(500)
    backend.become({ ...document, session_state: 'two.salt', silent_check: 'works' })
    await world.advance(500)
    world.frames[0]?.load()
    await world.advance(8_000)
    expect(new Set(asked())).toEqual(new Set(['notes app two.salt']))
    expect(silentChecks()).toBe(0)
    expect(world.frames.filter(isOpIframe)).toHaveLength(1)
  })

  it.each([
    '/session/check',
    'https://[',
  ])('is not loaded where %s is no URL of an OP; the push is left', async (url) => {
    const { backend, world, told } = await openPage(['unchanged'], {
      document: { ...alive, check_session_iframe: url },
    })
    await world.advance(30_000)
    expect(world.framesOpened).toEqual([])
    backend.become({ state: 'ended', session: 's1', ended: { cause: 'admin', at: 1 } })
    await settle()
    expect(told.at(-1)).toMatch(/^ended/)
    expect(world.leftovers()).toBe(0)
  })

  it('may miss an answer once it has worked', async () => {
    const { world, asked } = await openPage(['unchanged', undefined, 'unchanged'])
    await world.advance(60_000)
    expect(asked().length).toBeGreaterThan(10)
  })
})

describe('a changed of the OP iframe', () => {
  it('signs out when the silent check made the backend end the session, and not before [SM-3.1-e/i] [E39]', async () => {
    const { backend, world, told } = await openPage(['unchanged', 'changed'])
    await world.advance(2_000)
    const frame = world.frames.find(isSilentCheck)
    expect(frame).toBeDefined()
    expect(told.filter((what) => what.startsWith('ended'))).toEqual([])
    const end = { cause: 'silent_check', at: 1_800_000_000 } as const
    backend.become({ state: 'ended', session: 's1', ended: end }, { quietly: true })
    frame?.say({ lockstep: 'silent-check', result: 'ended' })
    await settle()
    expect(told.at(-1)).toBe('ended by iframe')
    expect(world.frames).toEqual([])
  })

  it('goes on with the new session_state when the End-User is still the same [SM-3.1-h] [SM-3.2-m] [E38]', async () => {
    const { backend, world, monitor, asked } = await openPage(['unchanged', 'changed', 'unchanged'], {
      silent: (frame) => {
        backend.become({ ...alive, session_state: 'two.salt' }, { quietly: true })
        queueMicrotask(() => frame.say({ lockstep: 'silent-check', result: 'same', session_state: 'two.salt' }))
      },
    })
    await world.advance(10_000)
    expect(monitor.state).toBe('alive')
    expect(asked().slice(0, 3)).toEqual(['notes app one.salt', 'notes app one.salt', 'notes app two.salt'])
  })

  it('ends nothing when the silent check does not answer within ten seconds [E41]', async () => {
    const { world, monitor, silentChecks } = await openPage(['unchanged', 'changed'])
    await world.advance(11_999)
    expect(world.frames.filter(isSilentCheck)).toHaveLength(1)
    await world.advance(1)
    expect(world.frames.filter(isSilentCheck)).toHaveLength(0)
    expect(monitor.state).toBe('alive')
    expect(silentChecks()).toBe(1)
  })

  it('is followed by at most three silent checks in five minutes, and ever fewer with an OP that goes on [SM-5.1-a] [A61]', async () => {
    const { world, silentChecks, monitor } = await openPage(['unchanged', 'changed'], {
      silent: (frame) => queueMicrotask(() => frame.say({ lockstep: 'silent-check', result: 'unknown' })),
    })
    await world.advance(300_000)
    expect(silentChecks()).toBe(3)
    await world.advance(24 * 3_600_000)
    expect(silentChecks()).toBeLessThan(80)
    const aDay = silentChecks()
    await world.advance(3_600_000)
    expect(silentChecks()).toBeLessThanOrEqual(aDay + 3)
    expect(monitor.state).toBe('alive')
  })

  it('counts for all tabs, and a tab that has to wait for its turn keeps no other from finding out', async () => {
    const baseUrl = freshPage()
    const backend = fakeBackend(alive)
    let says = 'unchanged'
    const open = () => {
      const world = fakeWorld({
        backend,
        baseUrl,
        answer: (_, frame) => (isOpIframe(frame) ? says : undefined),
        opened: (frame) => {
          if (isOpIframe(frame)) frame.load()
          else queueMicrotask(() => frame.say({ lockstep: 'silent-check', result: 'unknown' }))
        },
      })
      running.push(startSessionMonitor({}, world))
      return { world, checks: () => world.framesOpened.filter(isSilentCheck).length }
    }
    const busy = open()
    const other = open()
    await busy.world.advance(1_000)
    await other.world.advance(1_000)
    says = 'changed'
    await busy.world.advance(60_000)
    expect(busy.checks()).toBe(3)
    await other.world.advance(60_000)
    expect(other.checks()).toBe(0)
    other.world.window.dispatchEvent(new Event('online'))
    await other.world.advance(100)
    expect(other.checks()).toBe(1)
  })

  it('does not believe messages that are not from its own silent check [A60]', async () => {
    const { world } = await openPage(['unchanged', 'changed'])
    await world.advance(2_000)
    const frame = world.frames.find(isSilentCheck)
    frame?.say({ lockstep: 'silent-check', result: 'ended' }, { origin: 'https://evil.example' })
    frame?.say({ lockstep: 'silent-check', result: 'ended' }, { source: {} })
    frame?.say({ lockstep: 'something else', result: 'ended' })
    frame?.say(null)
    await settle()
    expect(world.frames.filter(isSilentCheck)).toHaveLength(1)
  })

  it('is looked into by one tab, however many are looked at', async () => {
    const baseUrl = freshPage()
    const backend = fakeBackend(alive)
    let changed = false
    const worlds = [1, 2, 3].map(() =>
      fakeWorld({
        backend,
        baseUrl,
        answer: (message, frame) =>
          isOpIframe(frame) ? (changed && message.endsWith('one.salt') ? 'changed' : 'unchanged') : undefined,
        opened: (frame) => (isOpIframe(frame) ? frame.load() : undefined),
      }),
    )
    for (const world of worlds) {
      running.push(startSessionMonitor({}, world))
      await settle()
    }
    changed = true
    await Promise.all(worlds.map((world) => world.advance(2_000)))
    const checks = worlds.flatMap(({ frames }) => frames.filter(isSilentCheck))
    expect(checks).toHaveLength(1)
    backend.become({ ...alive, session_state: 'two.salt' }, { quietly: true })
    checks[0]?.say({ lockstep: 'silent-check', result: 'same' })
    await settle()
    await Promise.all(worlds.map((world) => world.advance(4_000)))
    expect(worlds.flatMap(({ framesOpened }) => framesOpened.filter(isSilentCheck))).toHaveLength(1)
  })
})

describe('prompt=none, of which the backend says that nobody has tried it in this login', () => {
  const untried: AliveDocument = { ...alive, silent_check: 'unknown' }

  it('is tried once, when the OP iframe has just said unchanged, and then believed [SM-5.1-a]', async () => {
    const { world, asked, silentChecks, told } = await openPage(['unchanged'], {
      document: untried,
      silent: (frame, backend) => {
        backend.become({ ...alive, silent_check: 'works' }, { quietly: true })
        queueMicrotask(() => frame.say({ lockstep: 'silent-check', result: 'same' }))
      },
    })
    expect(asked()).toHaveLength(1)
    expect(silentChecks()).toBe(1)
    await world.advance(600_000)
    expect(silentChecks()).toBe(1)
    expect(asked().length).toBeGreaterThan(200)
    expect(told.every((what) => what.startsWith('alive'))).toBe(true)
  })

  it('makes the OP iframe be given up when it is refused to somebody who is signed in [SM-5.1-a]', async () => {
    const { world, monitor, silentChecks, asked } = await openPage(['unchanged', 'changed'], {
      document: untried,
      silent: (frame, backend) => {
        backend.become({ ...alive, silent_check: 'refused' }, { quietly: true })
        queueMicrotask(() => frame.say({ lockstep: 'silent-check', result: 'unknown' }))
      },
    })
    await world.advance(600_000)
    expect(silentChecks()).toBe(1)
    expect(asked().length).toBeLessThanOrEqual(2)
    expect(world.frames).toEqual([])
    expect(monitor.state).toBe('alive')
  })

  it('is tried once by a page when the OP shows a login page to it and never comes back [E41]', async () => {
    const { world, monitor, silentChecks } = await openPage(['unchanged'], { document: untried })
    await world.advance(3_600_000)
    expect(silentChecks()).toBe(1)
    expect(monitor.state).toBe('alive')
  })

  it('is not tried where the OP iframe does not work, nor when it is known not to work', async () => {
    for (const [answer, document] of [
      ['error', untried],
      ['changed', untried],
      [undefined, untried],
      ['unchanged', { ...alive, silent_check: 'refused' } as AliveDocument],
    ] as const) {
      const { world, silentChecks } = await openPage([answer], { document })
      await world.advance(600_000)
      expect(silentChecks()).toBe(0)
      expect(world.frames).toEqual([])
    }
  })

  it('is tried by one tab, however many are looked at, and anew for the next login', async () => {
    const baseUrl = freshPage()
    const backend = fakeBackend(untried)
    const worlds = [1, 2, 3].map(() =>
      fakeWorld({
        backend,
        baseUrl,
        answer: (_, frame) => (isOpIframe(frame) ? 'unchanged' : undefined),
        opened: (frame) => (isOpIframe(frame) ? frame.load() : undefined),
      }),
    )
    const silentFrames = () => worlds.flatMap(({ framesOpened }) => framesOpened.filter(isSilentCheck))
    for (const world of worlds) running.push(startSessionMonitor({}, world))
    await settle()
    await Promise.all(worlds.map((world) => world.advance(100)))
    expect(silentFrames()).toHaveLength(1)
    backend.become({ ...alive, silent_check: 'works' })
    silentFrames()[0]?.say({ lockstep: 'silent-check', result: 'same' })
    await Promise.all(worlds.map((world) => world.advance(5_000)))
    expect(silentFrames()).toHaveLength(1)

    backend.become({ ...untried, session: 's2' }, { quietly: true })
    await running[0]?.check()
    await Promise.all(worlds.map((world) => world.advance(5_000)))
    expect(silentFrames()).toHaveLength(2)
  })
})

describe('prompt=none that never comes back, in five tabs', () => {
  async function openFive(document: AliveDocument) {
    const op = { status: 'unchanged' }
    const baseUrl = freshPage()
    const backend = fakeBackend(document)
    const worlds: ReturnType<typeof fakeWorld>[] = []
    const open = async () => {
      const world = fakeWorld({
        backend,
        baseUrl,
        answer: (_, frame) => (isOpIframe(frame) ? op.status : undefined),
        opened: (frame) => (isOpIframe(frame) ? frame.load() : undefined),
      })
      running.push(startSessionMonitor({}, world))
      worlds.push(world)
      await settle()
    }
    const pass = async (seconds: number) => {
      for (let s = 0; s < seconds; s++) await Promise.all(worlds.map((world) => world.advance(1_000)))
    }
    while (worlds.length < 4) await open()
    await pass(15)
    await open() // one that comes when the others have tried
    return {
      op,
      pass,
      online() {
        for (const { window } of worlds) window.dispatchEvent(new Event('online'))
      },
      silentChecks: () => worlds.flatMap(({ framesOpened }) => framesOpened.filter(isSilentCheck)).length,
    }
  }

  it('is tried once in a login [E41]', async () => {
    const { pass, silentChecks } = await openFive({ ...alive, silent_check: 'unknown' })
    await pass(120)
    expect(silentChecks()).toBe(1)
  }, 20_000)

  it('is tried three times in five minutes after a change, and again as soon as the network is back', async () => {
    const { op, pass, silentChecks, online } = await openFive(alive)
    expect(silentChecks()).toBe(0)
    op.status = 'changed'
    await pass(295)
    expect(silentChecks()).toBe(3)
    online()
    await pass(2)
    expect(silentChecks()).toBe(4)
  }, 20_000)
})

it('leaves no iframe, listener or timer behind after stop()', async () => {
  const { world, monitor } = await openPage(['unchanged', 'changed'])
  await world.advance(2_000)
  expect(world.frames).toHaveLength(2)
  monitor.stop()
  await settle()
  expect(world.frames).toEqual([])
  expect(world.leftovers()).toBe(0)
})
