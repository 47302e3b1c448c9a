import type { BrowserWorld } from './world.ts'

/**
 * Lets one tab of a browser lead at a time: it alone holds the stream, since six streams use up all connections of an
 * HTTP/1.1 origin. When it closes, another takes over within milliseconds. Where the browser has no Web Locks, each tab
 * leads itself.
 *
 * @param lead Runs until the signal aborts.
 */
export async function takeTurns(
  world: BrowserWorld,
  name: string,
  signal: AbortSignal,
  lead: () => Promise<unknown>,
): Promise<void> {
  try {
    await (world.tabs?.locks.request(name, { signal }, lead) ?? lead())
  } catch {
    if (!signal.aborted) await lead() // no arbiter after all
  }
}
