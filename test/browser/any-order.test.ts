import fc from 'fast-check'
import { expect, it } from 'vitest'
import type { AliveDocument } from '../../src/browser/decide.ts'
import { startSessionMonitor } from '../../src/browser/session-monitor.ts'
import type { SessionDocument } from '../../src/protocol/session-document.ts'
import { type FakeBackend, type FakeWorld, fakeBackend, fakeWorld, offline } from './fake-world.ts'

const s1: AliveDocument = {
  state: 'alive',
  session: 's1',
  sub: 'ada',
  client_id: 'notes',
  expires_at: 1_900_000_000,
  session_state: 'one.salt',
  check_session_iframe: 'https://op.example/session/check',
  silent_check: 'unknown',
}
const s2: AliveDocument = { ...s1, session: 's2', session_state: 'two.salt' }
const ada: SessionDocument = { state: 'ended', session: 's1', ended: { cause: 'logout_token', at: 1 } }

type Step = readonly [name: string, run: (page: { world: FakeWorld; backend: FakeBackend }) => unknown]

/** What may happen to a page while nobody signs out. */
const harmless: readonly Step[] = [
  ['the backend goes away', ({ backend }) => backend.failWith(offline)],
  [
    'the backend answers 500',
    ({ backend }) => backend.failWith(() => Promise.resolve(new Response('', { status: 500 }))),
  ],
  [
    'a proxy answers',
    ({ backend }) => backend.failWith(() => Promise.resolve(new Response('<html>', { status: 401 }))),
  ],
  ['only the stream goes away', ({ backend }) => backend.failWith(offline, 'events')],
  ['the backend comes back', ({ backend }) => backend.failWith(undefined)],
  ['the streams break', ({ backend }) => backend.cutStreams()],
  ['a heartbeat', ({ backend }) => backend.heartbeat()],
  ['garbage on the stream', ({ backend }) => backend.write('event: session\ndata: {"state":"ended"\n\n')],
  ['the same End-User signs in anew', ({ backend }) => backend.become(s2, { quietly: true })],
  ['the tab is hidden', ({ world }) => world.show('hidden')],
  ['the tab is looked at', ({ world }) => world.show('visible')],
  ['the network is back', ({ world }) => world.window.dispatchEvent(new Event('online'))],
  ['the page goes to the back/forward cache', ({ world }) => world.window.dispatchEvent(new Event('pagehide'))],
  ['the page is back', ({ world }) => world.window.dispatchEvent(new Event('pageshow'))],
  ['the OP iframe says changed', ({ world }) => sayIn(world, 'changed')],
  ['the OP iframe says error', ({ world }) => sayIn(world, 'error')],
  ['prompt=none has worked', ({ backend }) => backend.become({ ...s1, silent_check: 'works' }, { quietly: true })],
  ['prompt=none was refused', ({ backend }) => backend.become({ ...s1, silent_check: 'refused' }, { quietly: true })],
  ['a silent check claims the end', ({ world }) => sayIn(world, { lockstep: 'silent-check', result: 'ended' })],
  ['the clock is set back by a day', ({ world }) => world.setClock(-86_400_000)],
  ['the clock is set forward by a month', ({ world }) => world.setClock(30 * 86_400_000)],
  ['a second goes by', ({ world }) => world.advance(1_000)],
  ['a minute goes by', ({ world }) => world.advance(60_000)],
]

const logouts: readonly Step[] = [
  ['the backend says ended', ({ backend }) => backend.become(ada)],
  ['the backend says ended only when asked', ({ backend }) => backend.become(ada, { quietly: true })],
  ['the cookie is gone', ({ backend }) => backend.become({ state: 'none' })],
  [
    'another End-User signs in',
    ({ backend }) => backend.become({ ...s1, session: 's3', sub: 'grace' }, { quietly: true }),
  ],
]

function sayIn(world: FakeWorld, data: unknown): void {
  for (const frame of world.frames) frame.say(data)
}

async function play(
  steps: readonly Step[],
): Promise<{ ended: number; page: { world: FakeWorld; backend: FakeBackend } }> {
  const backend = fakeBackend(s1)
  const world = fakeWorld({ backend, answer: () => 'unchanged' })
  const monitor = startSessionMonitor({}, world)
  let ended = 0
  monitor.addEventListener('ended', () => ended++)
  await world.advance(0)
  for (const [, run] of steps) {
    await run({ world, backend })
    await world.advance(10)
  }
  backend.failWith(undefined)
  world.window.dispatchEvent(new Event('pageshow'))
  world.show('visible')
  await world.advance(60_000)
  monitor.stop()
  return { ended, page: { world, backend } }
}

const story = (steps: readonly Step[]): fc.Arbitrary<Step[]> => fc.array(fc.constantFrom(...steps), { maxLength: 12 })

it('never signs out while the backend calls the session alive, whatever else happens', async () => {
  await fc.assert(
    fc.asyncProperty(story(harmless), async (steps) => {
      expect((await play(steps)).ended).toBe(0)
    }),
    { numRuns: 60 },
  )
}, 60_000)

it('signs out exactly once after a logout, whatever happens before and after it', async () => {
  await fc.assert(
    fc.asyncProperty(story(harmless), fc.constantFrom(...logouts), story(harmless), async (before, logout, after) => {
      // What follows the logout must not sign in again.
      const quiet = after.filter(([name]) => !/signs in|prompt=none/.test(name))
      const { ended, page } = await play([...before, logout, ...quiet])
      expect(ended).toBe(1)
      expect(page.world.leftovers()).toBe(0)
      expect(page.backend.streams).toBe(0)
    }),
    { numRuns: 60 },
  )
}, 60_000)
