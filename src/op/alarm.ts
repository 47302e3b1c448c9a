import type { Runtime } from '../runtime/runtime.ts'

/** A sleep that others can end. */
export interface Alarm {
  /** Sleeps until then (epoch milliseconds), or until the bell rings; at once when it rang since the last sleep. */
  sleepUntil(time: number): Promise<void>
  ring(): void
}

/** Makes an alarm for one sleeper. */
export function alarm(runtime: Pick<Runtime, 'now' | 'sleep'>): Alarm {
  let bell = new AbortController()
  return {
    async sleepUntil(time) {
      await pause(runtime, Math.max(time - runtime.now(), 0), bell.signal)
      if (bell.signal.aborted) bell = new AbortController()
    },
    ring: () => bell.abort(),
  }
}

/** Resolves after `ms` milliseconds, or when the signal aborts. */
export async function pause(runtime: Pick<Runtime, 'sleep'>, ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return
  try {
    await runtime.sleep(ms, signal)
  } catch (error) {
    if (!signal.aborted) throw error
  }
}
