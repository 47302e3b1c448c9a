import type { Runtime } from '../../runtime/runtime.ts'

/** Milliseconds an RP may take to answer before its attempt gives its place to another: waiting takes a socket, no work. */
const patience = 250
/** Attempts under way at most, those that only wait included, for each place. */
const waitersPerPlace = 8

/**
 * The places of a worker for attempts under way, `concurrency` of them.
 *
 * A place stands for work (signing, sending), so one is held only until the RP has had a moment to answer: RPs that hang
 * take sockets until their time-out, and not the places of those that are well. Times are epoch milliseconds.
 */
export interface Places {
  /** How many attempts can start now. */
  free(now: number): number
  /** When the next place comes free by itself, although no attempt has ended. */
  nextFreeAt(now: number): number | undefined
  take(attempt: object): void
  leave(attempt: object): void
  /** The same runtime; what is posted by it is this attempt's, which waits from then on. */
  watched(runtime: Runtime, attempt: object): Runtime
}

/** Makes the places of a worker. */
export function createPlaces(concurrency: number): Places {
  const taken = new Set<object>()
  /** When the POST of each attempt went out, the oldest first. */
  const posted = new Map<object, number>()
  const isFull = (): boolean => taken.size >= concurrency * waitersPerPlace

  return {
    free(now) {
      let waiting = 0
      for (const at of posted.values()) {
        if (now - at < patience) break
        waiting += 1
      }
      return Math.min(concurrency - (taken.size - waiting), concurrency * waitersPerPlace - taken.size)
    },
    nextFreeAt(now) {
      if (isFull()) return undefined
      for (const at of posted.values()) if (now - at < patience) return at + patience
      return taken.size > posted.size ? now + patience : undefined // those still at work post in a moment
    },
    take: (attempt) => void taken.add(attempt),
    leave(attempt) {
      taken.delete(attempt)
      posted.delete(attempt)
    },
    watched: (runtime, attempt) => ({
      ...runtime,
      post(request) {
        const begin = (): void => {
          posted.delete(attempt) // it goes to the end
          posted.set(attempt, runtime.now())
        }
        begin()
        const body = (): Promise<string> => {
          begin() // it was let out: from here on it is work
          return request.body()
        }
        return runtime.post({ ...request, body })
      },
    }),
  }
}
