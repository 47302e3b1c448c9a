import type { SessionDocument } from '../protocol/session-document.ts'
import { readText } from './read-text.ts'
import { PATIENCE, SILENCE } from './wait.ts'
import type { BrowserWorld } from './world.ts'

/**
 * Asks the app's backend about the RP session of this browser; `undefined` when it does not say.
 *
 * Only a well-formed document counts, whatever the status: the login page of a proxy, an error page or a 5xx says
 * nothing about a session.
 */
export async function askSession(
  world: BrowserWorld,
  url: string,
  signal: AbortSignal,
): Promise<SessionDocument | undefined> {
  let json = ''
  for await (const text of readText(world, url, PATIENCE, signal)) json += text
  return parseSessionDocument(json)
}

/**
 * Yields what the app's backend pushes as server-sent events: first how it is, then each change. Yields `undefined`
 * when all that came was a heartbeat. Ends when the stream ends, breaks or falls silent.
 *
 * It reads with `fetch`, since an EventSource hides heartbeats (comments) and so takes a stream whose network is gone
 * for a quiet one. Browsers slow down the timers of hidden tabs, not what arrives on a stream.
 */
export async function* followSession(
  world: BrowserWorld,
  url: string,
  signal: AbortSignal,
): AsyncGenerator<SessionDocument | undefined, void> {
  let rest = ''
  for await (const text of readText(world, url, SILENCE, signal)) {
    const lines = (rest + text).split('\n')
    rest = lines.pop()!
    // Of other lines that is undefined, which is no JSON.
    const documents = lines.flatMap((line) => parseSessionDocument(line.split(/^data:/)[1]!) || [])
    yield* documents[0] ? documents : [undefined]
  }
}

/** Reads a session document from JSON; `undefined` when it is not one. */
export function parseSessionDocument(json: string): SessionDocument | undefined {
  try {
    const value: Partial<Record<string, unknown>> = JSON.parse(json)
    const { state, session, sub, ended } = value
    const valid =
      state === 'none' ||
      (typeof session === 'string' && (state === 'alive' ? typeof sub === 'string' : state === 'ended' && ended))
    return valid ? (value as SessionDocument) : undefined
  } catch {
    return undefined // not JSON
  }
}
