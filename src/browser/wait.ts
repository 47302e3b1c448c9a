import type { BrowserWorld, Frame } from './world.ts'

/** Milliseconds that anybody has for an answer: all the way to the OP and back, say, on a busy machine. */
export const PATIENCE = 10_000

/** Milliseconds for which the backend's stream may be silent: three of the heartbeats that it sends every 15 s. */
export const SILENCE = 45_000

/** Milliseconds between an answer of the OP iframe and the next question. */
export const INTERVAL = 2_000

/**
 * Upper bounds of the milliseconds before the stream is opened again; they double from one to the other, and chance
 * spreads the tabs below them. The largest is what a tab may be late after its app was down, so it is short.
 */
export const FIRST_PAUSE = 1_000
export const LARGEST_PAUSE = 10_000

/** A long timer, eleven days: browsers count milliseconds in 32 bits, and one of more than 24 days runs at once. */
const LONGEST = 1e9

/** Resolves after `ms` milliseconds, at the next event of `target` that counts, or as soon as the signal aborts. */
export function pause(
  world: BrowserWorld,
  ms: number,
  signal: AbortSignal,
  target?: EventTarget,
  type = '',
  counts: (event: Event) => unknown = () => true,
): Promise<void> {
  return new Promise((resolve) => {
    const over = new AbortController() // options of a listener as well: it has a signal
    const done = () => {
      callOff()
      over.abort()
      resolve()
    }
    const callOff = world.after(ms, done)
    target?.addEventListener(type, (event) => counts(event) && done(), over)
    signal.addEventListener('abort', done, over)
    if (signal.aborted) done()
  })
}

/** Resolves when the tab is looked at, or as soon as the signal aborts. */
export async function visible(world: BrowserWorld, signal: AbortSignal): Promise<void> {
  while (world.document.hidden && !signal.aborted) {
    await pause(world, LONGEST, signal, world.document, 'visibilitychange')
  }
}

type Nothing = undefined | false | ''

/**
 * Resolves with the first message of that frame that `read` makes something of; with nothing after {@link PATIENCE} or when
 * the signal aborts. Messages of other windows and other origins are not looked at (Session §3.1).
 */
export async function messageFrom<T>(
  world: BrowserWorld,
  frame: Frame,
  origin: string,
  read: (data: unknown) => T | Nothing,
  signal: AbortSignal,
): Promise<T | Nothing> {
  let message: T | Nothing
  await pause(world, PATIENCE, signal, world.window, 'message', (event) => {
    const { data, source, origin: from } = event as MessageEvent<unknown>
    if (from === origin && source === frame.contentWindow) message = read(data)
    return message
  })
  return message
}
