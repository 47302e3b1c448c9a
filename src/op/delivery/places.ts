import type { Runtime } from '../../runtime/runtime.ts'

/** Milliseconds an attempt may wait, for a look-up or for its RP, before it gives its place to another: waiting is no work. */
const patience = 250
/** Attempts under way at most, those that only wait included, for each place. */
const waitersPerPlace = 8

/**
 * The places of a worker for attempts under way, `concurrency` of them.
 *
 * A place stands for work (signing, sending), so one is held only for a moment from the start, and again from when the POST
 * was let out: RPs that hang, and look-ups of them that do, take no places of those that are well. Times are epoch milliseconds.
 */
export interface Places {
  /** How many attempts can start now. */
  free(now: number): number
  /** When the next place comes free by itself, although no attempt has ended. */
  nextFreeAt(now: number): number | undefined
  take(attempt: object): void
  leave(attempt: object): void
  /** The same runtime for this attempt, which begins now; what is posted by it is the attempt's. */
  watched(runtime: Runtime, attempt: object): Runtime
}

/** Makes the places of a worker. */
export function createPlaces(concurrency: number): Places {
  const taken = new Set<object>()
  /** When each attempt last had work to do, the oldest first. */
  const busy = new Map<object, number>()
  const isFull = (): boolean => taken.size >= concurrency * waitersPerPlace

  return {
    free(now) {
      let waiting = 0
      for (const at of busy.values()) {
        if (now - at < patience) break
        waiting += 1
      }
      return Math.min(concurrency - (taken.size - waiting), concurrency * waitersPerPlace - taken.size)
    },
    nextFreeAt(now) {
      if (isFull()) return undefined
      for (const at of busy.values()) if (now - at < patience) return at + patience
      return undefined
    },
    take: (attempt) => void taken.add(attempt),
    leave(attempt) {
      taken.delete(attempt)
      busy.delete(attempt)
    },
    watched(runtime, attempt) {
      const isAtWork = (): void => {
        busy.delete(attempt) // it goes to the end
        busy.set(attempt, runtime.now())
      }
      isAtWork()
      return {
        ...runtime,
        post(request) {
          const body = (): Promise<string> => {
            isAtWork() // it was let out
            return request.body()
          }
          return runtime.post({ ...request, body })
        },
      }
    },
  }
}
