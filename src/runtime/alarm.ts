import type { Runtime } from './runtime.ts'

/** A sleep that others can end. A bell that rings while nobody sleeps ends the next sleep at once. */
export interface Alarm {
  ring(): void
  /** Sleeps `ms` milliseconds (also for ever), until the bell rings (then the answer is true), or until `signal` aborts. */
  sleep(ms: number, signal?: AbortSignal): Promise<boolean>
  /** The same until a time in epoch milliseconds. */
  sleepUntil(time: number, signal?: AbortSignal): Promise<boolean>
}

/** The reason of a sleep's end; one for all, since a reason of its own costs more than the rest of a waking. */
const rang = new Error('the bell rang')

/** Makes an alarm for one sleeper. */
export function alarm(runtime: Pick<Runtime, 'now' | 'sleep'>): Alarm {
  let rung = false
  let wake = (): void => undefined

  async function sleep(ms: number, signal?: AbortSignal): Promise<boolean> {
    if (!rung && !signal?.aborted) {
      const over = new AbortController()
      wake = () => over.abort(rang)
      signal?.addEventListener('abort', wake)
      try {
        await pause(runtime, ms, over.signal)
      } finally {
        signal?.removeEventListener('abort', wake)
        wake = () => undefined
      }
    }
    const wasRung = rung
    rung = false
    return wasRung
  }

  return {
    ring() {
      rung = true
      wake()
    },
    sleep,
    sleepUntil: (time, signal) => sleep(Math.max(time - runtime.now(), 0), signal),
  }
}

/** Resolves after `ms` milliseconds, or when the signal aborts. */
export async function pause(runtime: Pick<Runtime, 'sleep'>, ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return
  if (ms === Number.POSITIVE_INFINITY) return untilAborted(signal)
  try {
    await runtime.sleep(ms, signal)
  } catch (error) {
    if (!signal.aborted) throw error
  }
}

function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
}
