import type { BrowserWorld, Frame } from './world.ts'

/** Milliseconds that anybody has for an answer: all the way to the OP and back, say, on a busy machine. */
export const PATIENCE = 10_000

/** Resolves after `ms` milliseconds, or as soon as the signal aborts. */
export function pause(world: BrowserWorld, ms: number, signal: AbortSignal): Promise<void> {
  return until(signal, (done) => world.after(ms, done))
}

/** Resolves at the next event of that type, or as soon as the signal aborts. */
export function happened(target: EventTarget, type: string, signal: AbortSignal): Promise<void> {
  return until(signal, (done) => {
    target.addEventListener(type, done)
    return () => target.removeEventListener(type, done)
  })
}

/** Resolves when the tab is looked at, or as soon as the signal aborts. */
export async function visible(world: BrowserWorld, signal: AbortSignal): Promise<void> {
  while (world.document.visibilityState !== 'visible' && !signal.aborted) {
    await happened(world.document, 'visibilitychange', signal)
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
  const heard = new AbortController()
  let message: T | Nothing
  world.window.addEventListener(
    'message',
    (event) => {
      const { data, source, origin: from } = event as MessageEvent<unknown>
      if (from !== origin || source !== frame.contentWindow) return
      message = read(data)
      if (message) heard.abort()
    },
    { signal: heard.signal },
  )
  await pause(world, PATIENCE, AbortSignal.any([signal, heard.signal]))
  heard.abort()
  return message
}

function until(signal: AbortSignal, start: (done: () => void) => () => void): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      undo()
      signal.removeEventListener('abort', done)
      resolve()
    }
    const undo = start(done)
    if (signal.aborted) done()
    else signal.addEventListener('abort', done)
  })
}
