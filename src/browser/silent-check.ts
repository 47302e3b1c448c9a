import { messageFrom } from './wait.ts'
import type { BrowserWorld } from './world.ts'

/**
 * Makes the silent check (prompt=none in a hidden iframe) that finds out what a `changed` was about.
 *
 * The iframe shows our own backend's page, which goes to the OP and comes back; the backend then ends or updates the
 * RP session. So when it is done, the backend is the one to ask.
 */
export function silentChecker(world: BrowserWorld, url: string): (signal: AbortSignal) => Promise<void> {
  return async (signal) => {
    const frame = world.openFrame(url)
    await messageFrom(
      world,
      frame,
      new URL(url).origin,
      (data) => (data as Result | null)?.lockstep === 'silent-check',
      signal,
    )
    frame.remove()
  }
}

/** What our own backend's page posts. */
interface Result {
  readonly lockstep?: unknown
}
