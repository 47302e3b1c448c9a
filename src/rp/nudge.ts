import type { Runtime } from '../runtime/runtime.ts'

/** A sleep that can be cut short. A nudge that comes while nobody sleeps ends the next sleep at once. */
export interface Nudge {
  nudge(): void
  /** Resolves after `ms` milliseconds, at a nudge (then with true), or when `signal` aborts. */
  sleep(ms: number, signal: AbortSignal): Promise<boolean>
}

export function createNudge(runtime: Pick<Runtime, 'sleep'>): Nudge {
  let nudged = false
  let wake = (): void => undefined
  return {
    nudge() {
      nudged = true
      wake()
    },
    async sleep(ms, signal) {
      if (!nudged && !signal.aborted) {
        const over = new AbortController()
        wake = () => over.abort()
        signal.addEventListener('abort', wake)
        try {
          if (ms === Number.POSITIVE_INFINITY) await untilAborted(over.signal)
          else await runtime.sleep(ms, over.signal).catch((error) => ignoreAbort(over.signal, error))
        } finally {
          signal.removeEventListener('abort', wake)
          wake = () => undefined
        }
      }
      const wasNudged = nudged
      nudged = false
      return wasNudged
    },
  }
}

function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
}

function ignoreAbort(signal: AbortSignal, error: unknown): void {
  if (!signal.aborted) throw error
}
