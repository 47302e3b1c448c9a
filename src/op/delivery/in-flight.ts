import type { ClaimedDelivery } from '../store/contract.ts'

/** What a worker has in hands at this moment. */
export interface InFlight {
  has(deliveryId: string): boolean
  /** Attempts under way at an RP. */
  at(clientId: string): number
  /** Runs an attempt; whoever listens hears of its end. */
  attempt(delivery: ClaimedDelivery, work: () => Promise<void>): void
  /** Runs something else that must be over before the worker is. */
  beside(work: () => Promise<void>): void
  /** Calls the listener with the delivery of each attempt that ends. Returns the way to stop. */
  onEnd(listener: (deliveryId: string) => void): () => void
  /** Resolves when nothing is under way of what is now. */
  idle(): Promise<void>
}

/** Makes an empty one. What runs in it must not throw. */
export function createInFlight(): InFlight {
  const running = new Set<Promise<void>>()
  const deliveries = new Set<string>()
  const perRp = new Map<string, number>()
  const listeners = new Set<(deliveryId: string) => void>()

  function run(work: Promise<void>): void {
    const done = work.finally(() => running.delete(done))
    running.add(done)
  }

  return {
    has: (deliveryId) => deliveries.has(deliveryId),
    at: (clientId) => perRp.get(clientId) ?? 0,

    attempt({ id, clientId }, work) {
      deliveries.add(id)
      perRp.set(clientId, (perRp.get(clientId) ?? 0) + 1)
      run(
        work().finally(() => {
          deliveries.delete(id)
          const left = (perRp.get(clientId) ?? 1) - 1
          if (left > 0) perRp.set(clientId, left)
          else perRp.delete(clientId)
          for (const tell of listeners) tell(id)
        }),
      )
    },

    beside: (work) => run(work()),

    onEnd(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },

    async idle() {
      await Promise.all(running)
    },
  }
}
