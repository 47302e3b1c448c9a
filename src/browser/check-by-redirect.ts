import { type BrowserWorld, browserWorld } from './world.ts'

/** Name of the entry in `sessionStorage`. */
const KEY = 'lockstep:redirected'

/** Options of {@link checkByRedirect}. */
export interface RedirectOptions {
  /** Seconds between two of them in one tab. Default 600. */
  readonly every?: number
  /** What remembers the last one across the navigation. Default: `sessionStorage`. */
  readonly storage?: Pick<Storage, 'getItem' | 'setItem'>
}

/**
 * Has the whole page ask the OP by prompt=none, if that has not been done lately; says whether it does.
 *
 * It is the last resort where the browser withholds the OP's cookies from frames: it works in every browser, but the
 * page goes away and comes back. So call it when the End-User has just done something that changes the page anyway,
 * such as a click on a link or a return to the tab. Where nothing can be remembered it never goes, or it might go round
 * in circles.
 *
 * @example
 * ```ts
 * import { checkByRedirect } from 'lockstep/browser'
 *
 * if (monitor.blind) checkByRedirect(() => location.assign('/login?prompt=none'))
 * ```
 *
 * @param go Starts the navigation: an authorization request with prompt=none, or a page of ours that makes one.
 */
export function checkByRedirect(
  go: () => unknown,
  { every = 600, storage }: RedirectOptions = {},
  world: Pick<BrowserWorld, 'now'> = browserWorld(),
): boolean {
  if (!(every >= 0)) throw new TypeError('every must be a number of seconds')
  try {
    const memory = storage ?? sessionStorage
    const last = Number(memory.getItem(KEY) ?? Number.NEGATIVE_INFINITY)
    // In either direction: the clock may have been set back meanwhile.
    if (Math.abs(world.now() - last) < every * 1000) return false
    memory.setItem(KEY, String(world.now()))
  } catch {
    return false // no storage
  }
  go()
  return true
}
