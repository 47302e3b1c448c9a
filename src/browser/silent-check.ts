import { messageFrom, pause } from './wait.ts'
import type { BrowserWorld } from './world.ts'

/** Milliseconds for the whole way to the OP and back. */
const PATIENCE = 10_000
/** At most three silent checks in that many milliseconds: an OP that calls every answer `changed` must not loop. */
const WINDOW = 300_000
/** What that becomes, doubling, with an OP that goes on. */
const LARGEST_WINDOW = 3_600_000

/**
 * Makes the silent check (prompt=none in a hidden iframe) that finds out what a `changed` was about.
 *
 * The iframe shows our own backend's page, which goes to the OP and comes back; the backend then ends or updates the
 * RP session. So when it is done, the backend is the one to ask.
 */
export function silentChecker(world: BrowserWorld, url: string): (signal: AbortSignal) => Promise<void> {
  const mayAsk = limiter(world)

  return async (signal) => {
    if (!(await mayAsk(signal))) return
    const frame = world.openFrame(url)
    await messageFrom(world, frame, new URL(url).origin, isResult, PATIENCE, signal)
    frame.remove()
  }
}

/** Makes what lets silent checks begin: one beyond the limit waits for its turn. False when the signal aborted. */
export function limiter(world: BrowserWorld): (signal: AbortSignal) => Promise<boolean> {
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
    return !signal.aborted
  }
}

function isResult(data: unknown): boolean {
  return (data as { lockstep?: unknown } | null)?.lockstep === 'silent-check'
}
