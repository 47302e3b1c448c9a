import type { LogoutTarget } from './contract.ts'

/** Tells subscribers within this process that an RP session may have changed, and nothing more (T18). */
export interface Hints {
  publish(key: string): void
  /** Hints at everything: for when hints may have been lost. */
  publishAll(): void
  /** Tells the watchers alone that hints are being lost. */
  interrupt(): void
  subscribe(key: string, onHint: () => void): () => void
  /** Hears every key that begins so, and of it when some may have been lost. */
  watch(prefix: string, watcher: HintWatcher): void
}

export interface HintWatcher {
  heard(key: string): void
  /** Hints were lost, or may have been. */
  lost(): void
}

export function createHints(): Hints {
  const listeners = new Map<string, Set<() => void>>()
  const watchers = new Map<string, HintWatcher[]>()
  const interrupt = () => {
    for (const group of watchers.values()) for (const watcher of group) watcher.lost()
  }
  return {
    publish(key) {
      for (const listener of listeners.get(key) ?? []) listener()
      for (const [prefix, group] of watchers) {
        if (key.startsWith(prefix)) for (const watcher of group) watcher.heard(key)
      }
    },
    interrupt,
    publishAll() {
      interrupt()
      for (const group of listeners.values()) for (const listener of group) listener()
    },
    subscribe(key, onHint) {
      const listener = () => onHint()
      const group = listeners.get(key) ?? new Set()
      listeners.set(key, group.add(listener))
      return () => {
        group.delete(listener)
        if (group.size === 0 && listeners.get(key) === group) listeners.delete(key)
      }
    },
    watch(prefix, watcher) {
      watchers.set(prefix, [...(watchers.get(prefix) ?? []), watcher])
    },
  }
}

/** The kind and the name by which a logout names RP sessions. */
export function namedBy(target: LogoutTarget): readonly ['sid' | 'sub', string] {
  return 'sid' in target ? ['sid', target.sid] : ['sub', target.sub]
}

/** What a subscription is about, where keys need not be hidden; no handle begins so. */
export function topicOf(to: string | LogoutTarget): string {
  return typeof to === 'string' ? to : `!${namedBy(to).join(':')}`
}
