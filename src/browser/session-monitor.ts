import type { SessionDocument } from '../protocol/session-document.ts'
import { askSession, followSession } from './ask-session.ts'
import {
  type ResolvedSessionMonitorOptions,
  resolveSessionMonitorOptions,
  type SessionMonitorOptions,
} from './options.ts'
import { type SessionMonitor, type SessionWatch, sessionMonitor, type Told } from './session-events.ts'
import { silentChecker } from './silent-check.ts'
import { pause } from './wait.ts'
import { type LeadingTab, watchSession } from './watch-session.ts'
import { type BrowserWorld, browserWorld } from './world.ts'

/**
 * Upper bounds of the milliseconds before the stream is opened again; they double from one to the other, and chance
 * spreads the tabs below them. The largest is what a tab may be late after its app was down, so it is short.
 */
const FIRST_PAUSE = 1_000
const LARGEST_PAUSE = 10_000

/**
 * Watches the RP session of this page and says when it has ended, in every open tab, without a reload.
 *
 * The app's own backend pushes it (first-party, so no cookie blocking and no throttling of hidden tabs is in the way);
 * the OP iframe is the second source, and a `changed` of it makes the backend find out. Only the backend can end a
 * session. One tab of the browser listens for all of them. On a page that nobody is signed in to, it asks once and rests.
 *
 * It needs no inline script and no eval; a Content Security Policy must allow `connect-src 'self'` and, for the second
 * source, `frame-src` with `'self'` and the OP's origin. Without the latter it works by push alone.
 *
 * @example
 * ```ts
 * import { startSessionMonitor } from 'lockstep/browser'
 *
 * const monitor = startSessionMonitor()
 * monitor.addEventListener('ended', () => location.reload())
 * ```
 */
export function startSessionMonitor(
  options: SessionMonitorOptions = {},
  world: BrowserWorld = browserWorld(),
): SessionMonitor {
  const resolved = resolveSessionMonitorOptions(options, world.document.baseURI)
  return sessionMonitor((tell) => watchBackend(resolved, world, tell))
}

/** The same without events and for who has checked the options: the served script carries neither. */
export function watchBackend(
  { session, events, silentCheck, checkInterval, signedIn }: ResolvedSessionMonitorOptions,
  world: BrowserWorld,
  tell: (told: Told) => void,
): SessionWatch {
  /** When the stream last said how the RP session is; a heartbeat does not. */
  let said = 0

  return watchSession(
    {
      group: `lockstep:${session}`,
      sub: signedIn,
      ask: (_, signal) => askSession(world, session, signal),
      confirm: silentChecker(world, silentCheck),
      lead(tab, signal) {
        void poll(tab, signal)
        return listen(tab, signal)
      },
    },
    world,
    tell,
  )

  /** Follows the stream, and opens it again when it breaks. What it cannot say, the backend is asked. */
  async function listen(tab: LeadingTab, signal: AbortSignal): Promise<void> {
    for (let failures = 0; !signal.aborted; failures++) {
      const opened = world.now()
      let news: SessionDocument | undefined
      for await (const document of followSession(world, events, signal)) {
        if (signal.aborted) return
        if (document) said = world.now()
        // A heartbeat confirms what this stream has said before.
        news = document ?? (news && tab.current())
        if (news?.state === 'none') break
        if (news) tab.hear(news, 'push')
      }
      if (news?.state !== 'alive') await tab.check()
      // A stream that is cut off again and again (by a proxy, say) must not be opened in a tight loop.
      if (world.now() - opened > LARGEST_PAUSE) failures = 0
      await tab.nap(world.random() * Math.min(FIRST_PAUSE * 2 ** failures, LARGEST_PAUSE), signal)
    }
  }

  /** Asks the backend when its stream has not said anything for so long. */
  async function poll(tab: LeadingTab, signal: AbortSignal): Promise<void> {
    const ms = checkInterval * 1000
    while (!signal.aborted) {
      await pause(world, ms, signal)
      // Also where the clock has been set back.
      if (Math.abs(world.now() - said) >= ms) await tab.check()
    }
  }
}
