import type { SessionMonitorEvents } from './session-events.ts'
import type { BrowserWorld } from './world.ts'

/** Name of the entry in `sessionStorage`. */
const KEY = 'lockstep:left'
/** A tab leaves at most three pages in that many milliseconds. */
const WINDOW = 60_000
/** Milliseconds that a navigation which has begun may take. */
const PATIENCE = 5_000
/** Milliseconds in which a second RP session without a name counts as the first: to hear of one takes ten seconds and more. */
const NAMELESS_WINDOW = 600_000

/**
 * Makes what leaves the page when its RP session has ended, at most once per RP session and seldom enough.
 *
 * One that was never heard by name counts as the same for ten minutes, or until a named one has ended in between.
 *
 * A backend that still calls a session alive in one place and ended in another must not make the tab reload for ever.
 * Without storage nothing can be remembered, so the page stays; it has had its event.
 *
 * In the tab where somebody signs out, the news is faster than the page that takes the browser to the OP: leaving would
 * cancel that navigation, and with it the logout. So a navigation that has begun goes first.
 */
export function pageLeaver(
  world: Pick<BrowserWorld, 'after' | 'window'>,
  storage: () => Pick<Storage, 'getItem' | 'setItem'>,
  leave: () => void,
): (ended: Pick<SessionMonitorEvents['ended'], 'session' | 'heardAt'>) => void {
  let begun = Promise.resolve()
  world.window.addEventListener('beforeunload', () => {
    begun = new Promise((resolve) => world.after(PATIENCE, resolve))
  })

  return ({ session, heardAt }) => {
    // Whichever way the clock has been set meanwhile.
    const lately = (at: number, ms: number) => Math.abs(heardAt - at) < ms
    try {
      const left: [session: string, at: number][] = JSON.parse(storage().getItem(KEY) ?? '[]')
      const same = left.some(([name, at], i) => name === session && (name || (!i && lately(at, NAMELESS_WINDOW))))
      if (same || lately(left[2]?.[1] ?? 0, WINDOW)) return
      storage().setItem(KEY, JSON.stringify([[session, heardAt], ...left.slice(0, 2)]))
      void begun.then(leave)
    } catch {
      // no storage
    }
  }
}
