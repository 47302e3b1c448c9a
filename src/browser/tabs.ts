import { visible } from './wait.ts'
import type { BrowserWorld } from './world.ts'

/**
 * Lets one tab of a browser lead at a time: it alone holds the stream, since six streams use up all connections of an
 * HTTP/1.1 origin. When it closes, another takes over within milliseconds. Where the browser has no Web Locks, a tab has
 * its turn as soon as it is looked at.
 *
 * @param run Ends when the signal aborts, if not before.
 */
export async function takeTurns(
  world: BrowserWorld,
  name: string,
  signal: AbortSignal,
  run: () => Promise<void>,
): Promise<void> {
  const turn = async () => {
    if (!signal.aborted) await run()
  }
  try {
    if (world.arbiter) return await world.arbiter.request(name, { signal }, turn)
  } catch (error) {
    // Told to stop while it waited (AbortError), or this page may not use Web Locks (SecurityError, InvalidStateError).
    if (!(error instanceof DOMException)) throw error
  }
  await visible(world, signal)
  await turn()
}
