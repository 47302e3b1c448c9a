import type { Runtime } from '../../src/runtime/runtime.ts'

/** Time as it is, of which a test can skip some. */
export interface SkippingTime {
  readonly runtime: Pick<Runtime, 'now' | 'sleep'>
  /** So many milliseconds are over at once: who slept until then wakes up. */
  skip(milliseconds: number): void
}

/** Makes a clock that a whole OP can run on, with real stores and real connections. */
export function skippingTime(): SkippingTime {
  let skipped = 0
  const sleepers = new Set<() => void>()
  const now = (): number => Date.now() + skipped
  return {
    runtime: {
      now,
      sleep: (ms, signal) =>
        new Promise((resolve, reject) => {
          const end = now() + ms
          let timer: NodeJS.Timeout
          const stop = (): void => {
            clearTimeout(timer)
            sleepers.delete(look)
            signal?.removeEventListener('abort', cut)
          }
          const cut = (): void => {
            stop()
            reject(signal?.reason)
          }
          const look = (): void => {
            clearTimeout(timer)
            if (now() < end) {
              timer = setTimeout(look, end - now())
              return
            }
            stop()
            resolve()
          }
          if (signal?.aborted) return reject(signal.reason)
          signal?.addEventListener('abort', cut, { once: true })
          sleepers.add(look)
          look()
        }),
    },
    skip(milliseconds) {
      skipped += milliseconds
      for (const look of sleepers) look()
    },
  }
}
