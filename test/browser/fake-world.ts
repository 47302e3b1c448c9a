import type { BrowserWorld, Frame } from '../../src/browser/world.ts'
import { SESSION_EVENT, type SessionDocument } from '../../src/protocol/session-document.ts'

/** One tab under a clock that only `advance` moves. Web Locks and BroadcastChannel are the real ones. */
export interface FakeWorld extends BrowserWorld {
  readonly document: EventTarget & { readonly baseURI: string; hidden: boolean }
  /** Iframes that are in the page now. */
  readonly frames: FakeFrame[]
  /** Every iframe there ever was. */
  readonly framesOpened: FakeFrame[]
  /** Listeners and timers that are still there. */
  leftovers(): number
  show(state: DocumentVisibilityState): void
  /** Sets the clock another way, as a time server or the user does; timers do not mind. */
  setClock(ms: number): void
  /** Moves the clock, running what comes due on the way. */
  advance(ms: number): Promise<void>
}

/** An iframe; `answer` decides what comes back for a message. */
export interface FakeFrame extends Frame {
  readonly url: string
  readonly asked: string[]
  say(data: unknown, from?: { origin?: string; source?: unknown }): void
  load(): void
}

export interface FakeWorldOptions {
  readonly backend: Pick<FakeBackend, 'fetch'>
  /** What an iframe answers to a message; by default nothing. */
  readonly answer?: (message: string, frame: FakeFrame) => string | undefined
  /** Called when an iframe appears in the page; by default it loads at once. */
  readonly opened?: (frame: FakeFrame) => void
  readonly tabs?: boolean
  readonly baseUrl?: string
  readonly random?: () => number
}

let pages = 0

/** A URL that no other test shares, since Web Locks and channels are named after it. */
export function freshPage(): string {
  return `https://app-${++pages}.example/`
}

export function fakeWorld(options: FakeWorldOptions): FakeWorld {
  const {
    backend,
    answer = () => undefined,
    opened = (frame) => frame.load(),
    tabs = true,
    random = () => 0.5,
  } = options
  const baseURI = options.baseUrl ?? freshPage()
  let now = 1_800_000_000_000
  let skew = 0
  let timers: { at: number; task: () => void }[] = []
  const window = countingTarget()
  const document = Object.assign(countingTarget(), { baseURI, hidden: false })
  const frames: FakeFrame[] = []
  const framesOpened: FakeFrame[] = []

  return {
    now: () => now + skew,
    random,
    after(ms, task) {
      if (!(ms >= 0 && ms < 2 ** 31)) throw new RangeError(`a timer of ${ms} ms fires whenever it likes`)
      const timer = { at: now + ms, task }
      timers.push(timer)
      return () => {
        timers = timers.filter((other) => other !== timer)
      }
    },
    fetch: (url, init) => backend.fetch(url, init),
    window,
    document,
    openFrame,
    arbiter: tabs ? { request } : undefined,
    openChannel: (name) => new BroadcastChannel(`${baseURI} ${name}`),
    frames,
    framesOpened,
    leftovers: () => window.listeners + document.listeners + timers.length,
    show(state) {
      document.hidden = state === 'hidden'
      document.dispatchEvent(new Event('visibilitychange'))
    },
    setClock(ms) {
      skew += ms
    },
    async advance(ms) {
      const end = now + ms
      await settle()
      for (;;) {
        const next = timers.toSorted((a, b) => a.at - b.at)[0]
        if (!next || next.at > end) break
        timers = timers.filter((timer) => timer !== next)
        now = Math.max(now, next.at)
        next.task()
        await settle()
      }
      now = end
      await settle()
    },
  }

  /** The real one, for the pages of one origin. */
  function request<T>(name: string, ...rest: [unknown, unknown?]): Promise<T> {
    return Reflect.apply(navigator.locks.request, navigator.locks, [`${baseURI} ${name}`, ...rest])
  }

  function openFrame(url: string): FakeFrame {
    const contentWindow = {
      postMessage(message: string, targetOrigin: string) {
        if (new URL(url).origin !== targetOrigin)
          throw new Error(`posted to ${targetOrigin}, which is not in the frame`)
        frame.asked.push(message)
        const reply = answer(message, frame)
        if (reply !== undefined) queueMicrotask(() => frame.say(reply))
      },
    }
    const frame: FakeFrame = Object.assign(new EventTarget(), {
      url,
      asked: [] as string[],
      contentWindow,
      say(data: unknown, { origin = new URL(url).origin, source = contentWindow as unknown } = {}) {
        window.dispatchEvent(Object.assign(new Event('message'), { data, origin, source }))
      },
      load: () => setImmediate(() => frame.dispatchEvent(new Event('load'))),
      remove() {
        const place = frames.indexOf(frame)
        if (place >= 0) frames.splice(place, 1)
      },
    })
    frames.push(frame)
    framesOpened.push(frame)
    opened(frame)
    return frame
  }
}

/** Lets everything that is already under way happen: promises, streams, channels. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 12; turn++) await new Promise((resolve) => setImmediate(resolve))
}

/** An app's backend: what it knows, and the two endpoints that say so. */
export interface FakeBackend {
  fetch(url: string, init: RequestInit): Promise<Response>
  /** What it says from now on; to those who listen at once. */
  become(document: SessionDocument, options?: { quietly?: boolean }): void
  /** What it is asked meets this; `undefined` lets it answer again. */
  failWith(failure: (() => Promise<Response>) | undefined, what?: 'both' | 'session' | 'events'): void
  /** Ends all streams, as a restart does. */
  cutStreams(): void
  heartbeat(): void
  write(text: string): void
  readonly questions: number
  readonly streamsOpened: number
  readonly streams: number
}

export function fakeBackend(document: SessionDocument): FakeBackend {
  const streams = new Set<ReadableStreamDefaultController<Uint8Array>>()
  const failures: Partial<Record<'session' | 'events', () => Promise<Response>>> = {}
  const count = { questions: 0, streamsOpened: 0 }
  const send = (stream: ReadableStreamDefaultController<Uint8Array>, text: string) =>
    stream.enqueue(new TextEncoder().encode(text))
  const event = () => `event: ${SESSION_EVENT}\ndata: ${JSON.stringify(document)}\n\n`
  const end = () => {
    for (const stream of streams) stream.close()
    streams.clear()
  }

  return {
    async fetch(url, { signal }) {
      signal?.throwIfAborted()
      const isStream = url.endsWith('/events')
      count[isStream ? 'streamsOpened' : 'questions'] += 1
      const failure = failures[isStream ? 'events' : 'session']
      if (failure) return aborts(failure(), signal)
      if (!isStream) return Response.json(document, { status: document.state === 'alive' ? 200 : 401 })
      if (document.state === 'none') return Response.json(document, { status: 401 })
      let mine: ReadableStreamDefaultController<Uint8Array>
      const body = new ReadableStream<Uint8Array>({
        start(stream) {
          mine = stream
          streams.add(stream)
          send(stream, event())
          if (document.state === 'ended') end()
        },
        cancel: () => void streams.delete(mine),
      })
      signal?.addEventListener('abort', () => {
        if (streams.delete(mine)) mine.error(signal.reason)
      })
      return new Response(body, { headers: { 'content-type': 'text/event-stream' } })
    },
    become(next, { quietly = false } = {}) {
      document = next
      if (quietly) return
      if (document.state !== 'none') for (const stream of streams) send(stream, event())
      if (document.state !== 'alive') end()
    },
    failWith(failure, what = 'both') {
      for (const one of what === 'both' ? (['session', 'events'] as const) : [what]) {
        if (failure) failures[one] = failure
        else delete failures[one]
      }
    },
    cutStreams: end,
    heartbeat() {
      for (const stream of streams) send(stream, ': \n\n')
    },
    write(text) {
      for (const stream of streams) send(stream, text)
    },
    get questions() {
      return count.questions
    },
    get streamsOpened() {
      return count.streamsOpened
    },
    get streams() {
      return streams.size
    },
  }
}

/** A network that is away. */
export const offline = (): Promise<Response> => Promise.reject(new TypeError('fetch failed'))
/** A peer that never answers. */
export const hanging = (): Promise<Response> => new Promise(() => {})

function aborts(answer: Promise<Response>, signal: AbortSignal | null | undefined): Promise<Response> {
  if (!signal) return answer
  return Promise.race([
    answer,
    new Promise<never>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
  ])
}

function countingTarget(): EventTarget & { readonly listeners: number } {
  const held = new Set<unknown>()
  class CountingTarget extends EventTarget {
    override addEventListener(...[type, listener, options]: Parameters<EventTarget['addEventListener']>) {
      super.addEventListener(type, listener, options)
      held.add(listener)
      if (typeof options === 'object') options.signal?.addEventListener('abort', () => held.delete(listener))
    }
    override removeEventListener(...[type, listener, options]: Parameters<EventTarget['removeEventListener']>) {
      super.removeEventListener(type, listener, options)
      held.delete(listener)
    }
    get listeners() {
      return held.size
    }
  }
  return new CountingTarget()
}
