import type { SessionMonitorEvents } from './session-monitor.ts'

/** Name of the entry in `sessionStorage`. */
const KEY = 'lockstep:left'
/** A tab leaves at most three pages in that many milliseconds. */
const WINDOW = 60_000

/**
 * Leaves the page because its RP session has ended, at most once per RP session and seldom enough.
 *
 * A backend that still calls a session alive in one place and ended in another must not make the tab reload for ever.
 * Without storage nothing can be remembered, so the page stays; it has had its event.
 */
export function leaveOnce(
  { session, heardAt }: Pick<SessionMonitorEvents['ended'], 'session' | 'heardAt'>,
  leave: () => void,
  storage: () => Pick<Storage, 'getItem' | 'setItem'> = () => sessionStorage,
): void {
  try {
    const left: [session: string, at: number][] = JSON.parse(storage().getItem(KEY) ?? '[]')
    const [, , third] = left
    if (left.some(([name]) => name === session) || (third && heardAt - third[1] < WINDOW)) return
    storage().setItem(KEY, JSON.stringify([[session, heardAt], ...left.slice(0, 2)]))
  } catch {
    return // no storage
  }
  leave()
}
