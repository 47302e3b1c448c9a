import { pause } from './wait.ts'
import type { BrowserWorld } from './world.ts'

/** At most three in that many milliseconds: an OP that calls every answer `changed` must not loop. */
const WINDOW = 300_000
/** What that becomes, doubling, with an OP that goes on. */
const LARGEST_WINDOW = 3_600_000

/** Makes what lets a tab find out what a `changed` was about: beyond the limit it waits, or until the signal aborts. */
export function limiter(world: BrowserWorld): (signal: AbortSignal) => Promise<void> {
  /** When the last three began. */
  const begun = [0, 0, 0]
  let window = WINDOW

  return async (signal) => {
    const wait = begun.shift()! + window - world.now()
    if (wait > 0) {
      window = Math.min(window * 2, LARGEST_WINDOW)
      await pause(world, wait, signal)
    }
    begun.push(world.now())
  }
}
