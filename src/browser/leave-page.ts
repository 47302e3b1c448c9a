import type { SessionMonitorEvents } from './session-events.ts'
import type { BrowserWorld } from './world.ts'

/** Name of the entry in `sessionStorage`. */
const KEY = 'lockstep:left'
/** A tab leaves at most three pages in that many milliseconds. */
const WINDOW = 60_000
/** Milliseconds that a navigation which has begun may take. */
const PATIENCE = 5_000

/**
 * Makes what leaves the page when its RP session has ended, at most once per RP session and seldom enough.
 *
 * One that was never heard by name counts as the same only until a named one has ended in between.
 *
 * A backend that still calls a session alive in one place and ended in another must not make the tab reload for ever.
 * Without storage nothing can be remembered, so the page stays; it has had its event.
 *
 * In the tab where somebody signs out, the news is faster than the page that takes the browser to the OP: leaving would
 * cancel that navigation, and with it the logout. So a navigation that has begun goes first.
 */
export function pageLeaver(
  world: Pick<BrowserWorld, 'now' | 'after' | 'window'>,
  storage: () => Pick<Storage, 'getItem' | 'setItem'>,
  leave: () => void,
): (ended: Pick<SessionMonitorEvents['ended'], 'session' | 'heardAt'>) => void {
  let begun = 0
  world.window.addEventListener('beforeunload', () => {
    begun = world.now()
  })

  return ({ session, heardAt }) => {
    try {
      const left: [session: string, at: number][] = JSON.parse(storage().getItem(KEY) ?? '[]')
      const [, , third] = left
      if (left.some(([name], i) => name === session && (name || !i)) || (third && heardAt - third[1] < WINDOW)) return
      storage().setItem(KEY, JSON.stringify([[session, heardAt], ...left.slice(0, 2)]))
    } catch {
      return // no storage
    }
    world.after(Math.max(0, begun + PATIENCE - world.now()), leave)
  }
}
