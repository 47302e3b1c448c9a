import type { SessionDocument } from '../protocol/session-document.ts'
import { askSession, followSession } from './ask-session.ts'
import {
  type ResolvedSessionMonitorOptions,
  resolveSessionMonitorOptions,
  type SessionMonitorOptions,
} from './options.ts'
import { type SessionMonitor, type SessionWatch, sessionMonitor, type Told } from './session-events.ts'
import { silentChecker } from './silent-check.ts'
import { FIRST_PAUSE, LARGEST_PAUSE } from './wait.ts'
import { type LeadingTab, watchSession } from './watch-session.ts'
import { type BrowserWorld, browserWorld } from './world.ts'

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
  { session, events, silentCheck, checkInterval, sub }: ResolvedSessionMonitorOptions,
  world: BrowserWorld,
  tell: (told: Told) => void,
): SessionWatch {
  /** When the stream last said how the RP session is, or the backend was asked; a heartbeat does not say it. */
  let said = 0

  return watchSession(
    {
      group: `lockstep:${session}`,
      sub,
      ask: (_, signal) => askSession(world, session, signal),
      confirm: silentChecker(world, silentCheck),
      lead: listen,
    },
    world,
    tell,
  )

  /** Follows the stream, and opens it again when it breaks. What it does not say, the backend is asked. */
  async function listen(tab: LeadingTab, signal: AbortSignal): Promise<void> {
    for (let failures = 0; !signal.aborted; failures++) {
      const opened = world.now()
      let news: SessionDocument | undefined
      for await (const document of followSession(world, events, signal)) {
        if (signal.aborted) return
        // A heartbeat confirms what this stream has said before.
        news = document ?? (news && tab.current())
        if (news?.state === 'none') break
        if (news) tab.hear(news, 'push')
        // Whichever way the clock has been set meanwhile.
        if (document || Math.abs(world.now() - said) >= checkInterval * 1000) {
          if (!document) void tab.check()
          said = world.now()
        }
      }
      if (news?.state !== 'alive') await tab.check()
      // A stream that is cut off again and again (by a proxy, say) must not be opened in a tight loop.
      if (world.now() - opened > LARGEST_PAUSE) failures = 0
      await tab.nap(world.random() * Math.min(FIRST_PAUSE * 2 ** failures, LARGEST_PAUSE), signal)
    }
  }
}
