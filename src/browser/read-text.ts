import type { BrowserWorld } from './world.ts'

/**
 * Yields the body of a GET piece by piece until it ends, breaks, is silent for `patience` milliseconds, or the signal
 * aborts. What cannot be read is left out, so a reader sees nothing or too little; no error says more than that.
 */
export async function* readText(
  world: BrowserWorld,
  url: string,
  patience: number,
  signal: AbortSignal,
): AsyncGenerator<string, void> {
  const over = new AbortController()
  const abort = () => over.abort()
  signal.addEventListener('abort', abort, over)
  let callOff = world.after(patience, abort)
  try {
    if (signal.aborted) return
    const { body } = await world.fetch(url, {
      cache: 'no-store',
      credentials: 'include', // the app's backend may have an origin of its own, and without its cookie it knows nobody
      redirect: 'error', // a proxy that wants a login says nothing about the RP session
      signal: over.signal,
    })
    const reader = body!.pipeThrough(new TextDecoderStream()).getReader()
    for (;;) {
      const { value } = await reader.read()
      if (!value || signal.aborted) return
      callOff()
      callOff = world.after(patience, abort)
      yield value
    }
  } catch {
    // offline, refused, timed out, stopped or without a body: all of them are silence
  } finally {
    callOff()
    abort()
  }
}
