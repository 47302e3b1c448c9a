import { setImmediate } from 'node:timers/promises'
import type { Runtime } from '../../src/runtime/runtime.ts'

/** A clock that stands until it is moved, with the sleeps that wait for it. */
export interface VirtualTime extends Omit<Runtime, 'post'> {
  /** Moves it on, by seconds, waking sleepers in order. */
  pass(seconds: number): Promise<void>
  /** How many are asleep. */
  waiting(): number
}

export function createVirtualTime(start: number): VirtualTime {
  let now = start
  const sleepers = new Set<{ readonly at: number; readonly wake: () => void }>()
  return {
    now: () => now,
    random: (bytes) => crypto.getRandomValues(new Uint8Array(bytes)),
    waiting: () => sleepers.size,
    sleep: (ms, signal) =>
      new Promise((resolve, reject) => {
        if (signal?.aborted) return reject(signal.reason)
        const over = (settle: () => void) => () => {
          sleepers.delete(sleeper)
          signal?.removeEventListener('abort', abort)
          settle()
        }
        const abort = over(() => reject(signal?.reason))
        const sleeper = { at: now + ms, wake: over(resolve) }
        sleepers.add(sleeper)
        signal?.addEventListener('abort', abort)
      }),
    async pass(seconds) {
      const end = now + seconds * 1000
      for (;;) {
        await setImmediate() // lets whoever was woken go to sleep again
        const [next] = [...sleepers].filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)
        if (!next) break
        now = Math.max(now, next.at)
        next.wake()
      }
      now = end
      await setImmediate()
    },
  }
}
