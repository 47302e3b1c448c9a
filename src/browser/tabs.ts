import { happened, visible } from './wait.ts'
import type { BrowserWorld } from './world.ts'

/**
 * Lets one tab of a browser lead at a time: it alone holds the stream, since six streams use up all connections of an
 * HTTP/1.1 origin. When it closes, another takes over within milliseconds. Where the browser has no Web Locks, a tab has
 * its turn while it is looked at, however often that is: hidden ones ask when they are looked at again.
 *
 * @param run Gets a signal that aborts with `signal`, or when its turn is over.
 */
export async function takeTurns(
  world: BrowserWorld,
  name: string,
  signal: AbortSignal,
  run: (turn: AbortSignal) => Promise<unknown>,
): Promise<void> {
  try {
    await world.arbiter!.request(name, { signal }, () => run(signal))
  } catch {
    // No arbiter, or one that does not work.
    await visible(world, signal)
    if (signal.aborted) return
    const turn = new AbortController()
    void happened(world.document, 'visibilitychange', signal).then(() => turn.abort())
    await run(turn.signal)
    if (turn.signal.aborted) await takeTurns(world, name, signal, run)
  }
}
