import { SESSION_EVENT, type SessionDocument } from '../protocol/session-document.ts'
import { alarm } from '../runtime/alarm.ts'
import { inTime } from '../runtime/in-time.ts'
import type { Runtime } from '../runtime/runtime.ts'
import type { RpContext } from './context.ts'
import { findRpSession } from './find-session.ts'
import { answer, isForeign, json, type RpAnswer, type RpRequest, refusal } from './http.ts'
import { messageOf } from './log.ts'
import type { ResolvedAppOptions } from './options.ts'
import { readDocument } from './session-document.ts'

/** Milliseconds between comments that keep proxies from closing a quiet stream. */
const HEARTBEAT = 15_000
/** Heartbeats after which the store is read without a hint: a hint may get lost (T18). */
const BEATS_PER_READ = 2
/** Milliseconds after which it is said again how the RP session is: before tabs ask, which they do after 300 s. */
const SAY_AGAIN = 240_000
/** One RP session's tabs share one stream; this many allows for browsers without Web Locks (T17). */
const MOST = 8
/**
 * RP sessions that may be read at a time for streams: when all must, logouts and the app's own requests do not queue up behind
 * them, and a store that reads many with one query has many to read.
 */
const ABREAST = 256
/** Milliseconds a read may take before another has its place: all streams would wait for a store that never answers. */
const PATIENCE = 10_000

/** The streams that are open in this process, by RP session. */
export interface StreamRegistry {
  /** Registers a stream; the oldest of too many is closed. */
  open(handle: string): { readonly signal: AbortSignal; close(): void }
  /**
   * Reads for a stream when it is its turn; `undefined` when it is over by then.
   *
   * @throws Error when the read takes too long
   */
  inTurn<Result>(read: () => Promise<Result>, over: AbortSignal): Promise<Result | undefined>
  closeAll(): void
}

export function createStreamRegistry(runtime: Pick<Runtime, 'sleep'>): StreamRegistry {
  const limit = { ms: PATIENCE, what: `the store has not answered for ${PATIENCE / 1000} s` }
  const closing = new AbortController()
  const streams = new Map<string, Set<AbortController>>()
  const waiting: (() => void)[] = []
  let reading = 0
  return {
    open(handle) {
      const controller = new AbortController()
      if (closing.signal.aborted) controller.abort()
      const siblings = streams.get(handle) ?? new Set()
      streams.set(handle, siblings.add(controller))
      if (siblings.size > MOST) {
        const [oldest] = siblings
        oldest?.abort()
        if (oldest) siblings.delete(oldest)
      }
      const close = () => {
        siblings.delete(controller)
        if (siblings.size === 0 && streams.get(handle) === siblings) streams.delete(handle)
      }
      return { signal: controller.signal, close }
    },
    async inTurn(read, over) {
      if (reading < ABREAST) reading += 1
      else await new Promise<void>((resolve) => waiting.push(resolve)) // whoever has read hands its place over
      try {
        return over.aborted ? undefined : await inTime(runtime, { ...limit, signal: closing.signal }, read)
      } catch (error) {
        if (!closing.signal.aborted) throw error
        return undefined
      } finally {
        const next = waiting.shift()
        if (next) next()
        else reading -= 1
      }
    },
    closeAll() {
      closing.abort()
      for (const siblings of streams.values()) for (const controller of siblings) controller.abort()
    },
  }
}

/**
 * Streams what `GET /session` would say, at once and whenever it changes, and ends when the RP session has ended.
 *
 * A browser whose RP session has ended hears so at once; one without any gets 401, so that no stream is kept for it.
 */
export async function streamSession<Data>(context: RpContext<Data>, request: RpRequest): Promise<RpAnswer> {
  if (isForeign(request)) return refusal(403, 'invalid_request', 'only this app may listen')
  const known = await findRpSession(context, request)
  if (known?.found === undefined) return json(401, { state: 'none' } satisfies SessionDocument)
  const { handle } = known
  const { store, options, streams } = context
  const watched: WatchedSession = {
    name: handle,
    read: () => readDocument(context, handle),
    subscribe: (onHint) => store.subscribe(handle, onHint),
  }
  return streamOf(watched, { options, streams }, request)
}

/** A session whose tabs listen. */
export interface WatchedSession {
  /** Equal for all of its tabs. */
  readonly name: string
  read(): Promise<SessionDocument>
  subscribe(onHint: () => void): Promise<() => void>
}

type StreamParts = Pick<RpContext<never>, 'streams'> & { readonly options: Pick<ResolvedAppOptions, 'runtime' | 'log'> }

/** The stream of one tab. */
export function streamOf(watched: WatchedSession, parts: StreamParts, request: RpRequest): RpAnswer {
  return answer(200, events(watched, parts, request.signal), {
    'content-type': 'text/event-stream',
    // What compresses on the way would also hold events back until there is enough to compress.
    'cache-control': 'no-store, no-transform',
    'cross-origin-resource-policy': 'same-origin',
    'x-accel-buffering': 'no',
  })
}

async function* events(
  watched: WatchedSession,
  { streams, options }: StreamParts,
  gone: AbortSignal,
): AsyncGenerator<string> {
  const place = streams.open(watched.name)
  const over = AbortSignal.any([gone, place.signal])
  const bell = alarm(options.runtime)
  // Subscribed before the first read: what happens in between is a hint already, never a gap (T17).
  let unsubscribe = (): void => undefined
  try {
    unsubscribe = await watched.subscribe(bell.ring)
    let [told, toldAt] = ['', 0]
    while (!over.aborted) {
      const document = await streams.inTurn(() => watched.read(), over)
      if (document === undefined) return
      if (document.state === 'none') return // replaced by a new login of this browser: its next stream is the new one's
      const text = JSON.stringify(document)
      const now = options.runtime.now()
      if (text !== told || now - toldAt >= SAY_AGAIN) {
        yield `event: ${SESSION_EVENT}\ndata: ${text}\n\n`
        told = text
        toldAt = now
      }
      if (document.state === 'ended') return
      yield* quietly(document.expires_at * 1000 - options.runtime.now())
    }
  } catch (error) {
    // The tab comes back by itself and then hears the truth; until then it says that it does not know.
    options.log({ event: 'internal_error', route: 'session/events', message: messageOf(error) })
  } finally {
    unsubscribe()
    place.close()
  }

  /** Waits for a hint, the RP session's expiry or the time to read again, with heartbeats. */
  async function* quietly(untilExpiry: number): AsyncGenerator<string> {
    // At least a second, should the store's clock be behind ours.
    for (let beat = 0, left = Math.max(untilExpiry, 1000); beat < BEATS_PER_READ; beat++, left -= HEARTBEAT) {
      const cut = await bell.sleep(Math.min(HEARTBEAT, left), over)
      if (cut || over.aborted || left <= HEARTBEAT) return
      yield ': \n\n'
    }
  }
}
