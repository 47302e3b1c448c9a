import { messageFrom, pause } from './wait.ts'
import type { BrowserWorld } from './world.ts'

/** Milliseconds for the whole way to the OP and back. */
const PATIENCE = 10_000
/** At most this many silent checks in that many milliseconds: an OP that calls every answer `changed` must not loop. */
const LIMIT = 3
const WINDOW = 300_000

/**
 * Makes the silent check (prompt=none in a hidden iframe) that finds out what a `changed` was about.
 *
 * The iframe shows our own backend's page, which goes to the OP and comes back; the backend then ends or updates the
 * RP session. So when it is done, the backend is the one to ask. A check beyond the limit waits for its turn.
 */
export function silentChecker(world: BrowserWorld, url: string): (signal: AbortSignal) => Promise<void> {
  const started: number[] = []

  return async (signal) => {
    const wait = started.length < LIMIT ? 0 : (started.shift() ?? 0) + WINDOW - world.now()
    if (wait > 0) await pause(world, wait, signal)
    if (signal.aborted) return
    started.push(world.now())

    const frame = world.openFrame(url)
    await messageFrom(world, frame, new URL(url).origin, isResult, PATIENCE, signal)
    frame.remove()
  }
}

function isResult(data: unknown): true | undefined {
  return (data as { lockstep?: unknown } | null)?.lockstep === 'silent-check' || undefined
}
