import type { BrowserWorld } from './world.ts'

/** At most three in that many milliseconds: an OP that calls every answer `changed` must not loop. */
const WINDOW = 300_000
/** What that becomes, doubling, with an OP that goes on; whoever need not wait begins anew. */
const LARGEST_WINDOW = 3_600_000

/** The last three times that the OP was asked by prompt=none, in any tab; the newest first, in epoch milliseconds. */
export type Tries = readonly (readonly [session: string | undefined, at: number])[]

/**
 * Makes what lets a tab find out what a `changed` was about: beyond the limit it waits, or until the signal aborts.
 *
 * @param tries Says what is known of the last three; they are read again after each nap.
 */
export function limiter(
  world: BrowserWorld,
  tries: () => Tries,
  nap: (ms: number, signal: AbortSignal) => Promise<void>,
): (signal: AbortSignal) => Promise<void> {
  let window = WINDOW
  // Whichever way the clock has been set meanwhile.
  const rest = () => window - Math.abs(world.now() - (tries()[2]?.[1] ?? 0))

  return async (signal) => {
    let next = WINDOW
    while (rest() > 0 && !signal.aborted) {
      next = Math.min(window * 2, LARGEST_WINDOW)
      await nap(rest(), signal)
    }
    window = next
  }
}
