/** Tells subscribers within this process that an RP session may have changed, and nothing more (T18). */
export interface Hints {
  publish(handle: string): void
  /** Hints at everything: for when hints may have been lost. */
  publishAll(): void
  subscribe(handle: string, onHint: () => void): () => void
}

export function createHints(): Hints {
  const listeners = new Map<string, Set<() => void>>()
  return {
    publish(handle) {
      for (const listener of listeners.get(handle) ?? []) listener()
    },
    publishAll() {
      for (const group of listeners.values()) for (const listener of group) listener()
    },
    subscribe(handle, onHint) {
      const listener = () => onHint()
      const group = listeners.get(handle) ?? new Set()
      listeners.set(handle, group.add(listener))
      return () => {
        group.delete(listener)
        if (group.size === 0 && listeners.get(handle) === group) listeners.delete(handle)
      }
    },
  }
}
