import { pause } from './alarm.ts'
import type { Runtime } from './runtime.ts'

/** What did not come in time. */
const late = Symbol('late')

/**
 * What `work` comes to. It cannot be told to stop, so when it is late it goes on and nobody listens.
 *
 * @param ms Milliseconds it may take.
 * @param signal Ends the wait before that. Default: nothing does.
 * @throws Error naming `what` when it is late, and the signal's reason when that aborts.
 */
export async function inTime<T>(
  runtime: Pick<Runtime, 'sleep'>,
  { ms, what, signal }: { readonly ms: number; readonly what: string; readonly signal?: AbortSignal },
  work: () => Promise<T>,
): Promise<T> {
  const over = new AbortController()
  const end = (): void => over.abort()
  signal?.throwIfAborted()
  signal?.addEventListener('abort', end, { once: true })
  try {
    const done = await Promise.race([work(), pause(runtime, ms, over.signal).then(() => late)])
    if (done !== late) return done as T
    signal?.throwIfAborted()
    throw new Error(what)
  } finally {
    signal?.removeEventListener('abort', end)
    end()
  }
}
