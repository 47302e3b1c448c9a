import { pause } from '../../runtime/alarm.ts'
import { type Runtime, world } from '../../runtime/runtime.ts'
import type { Sqlite } from '../../runtime/sqlite.ts'
import { createHints, type Hints } from './hints.ts'

/** Milliseconds between looks at whether another process has written. */
const LOOK = 500

export interface SqliteHints extends Hints {
  /** Stops looking. */
  close(): void
}

/**
 * Hints within this process, and from others on the same file: SQLite tells nobody, but each connection can ask cheaply
 * whether another has committed. What it was is not known, so every subscriber is hinted at; nobody asks while nobody listens.
 */
export function sqliteHints(db: Sqlite, runtime: Pick<Runtime, 'sleep'> = world): SqliteHints {
  const hints = createHints()
  const version = db.prepare('PRAGMA data_version').pluck()
  let seen: unknown
  let subscribed = 0
  let looking: AbortController | undefined

  function look(): void {
    try {
      const now = version.get()
      if (now === seen) return
      seen = now
    } catch {
      // Whoever reads after the hint says what is wrong with the file.
    }
    hints.publishAll()
  }

  async function keepLooking({ signal }: AbortController): Promise<void> {
    for (;;) {
      await pause(runtime, LOOK, signal)
      if (signal.aborted) return
      look()
    }
  }

  return {
    ...hints,
    subscribe(key, onHint) {
      const unsubscribe = hints.subscribe(key, onHint)
      subscribed += 1
      if (looking === undefined) {
        seen = version.get()
        looking = new AbortController()
        void keepLooking(looking)
      }
      let isOver = false
      return () => {
        unsubscribe()
        if (isOver) return
        isOver = true
        subscribed -= 1
        if (subscribed === 0) stop()
      }
    },
    close: stop,
  }

  function stop(): void {
    looking?.abort()
    looking = undefined
  }
}
