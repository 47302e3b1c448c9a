import { realpathSync } from 'node:fs'
import Database from 'better-sqlite3'
import { LockstepError } from '../../protocol/errors.ts'
import { cannotOpen, openPrivately, type Sqlite } from '../../runtime/sqlite.ts'

/** The right to deliver what a file owes: one store's at a time. */
export interface WorkerLock {
  /**
   * @throws LockstepError `store_in_use` when another store, of this process or another, has it, `store_failed` when nobody can
   *   tell.
   */
  take(): void
  release(): void
}

/**
 * Makes the lock of a store's file, `FILE-worker` beside it. It is SQLite's own lock on that empty file, held as long as the
 * store is open: the kernel takes it back from a process that dies, however it dies, so that a restart finds it free.
 */
export function workerLock(file: string): WorkerLock {
  let held: Sqlite | undefined
  return {
    take() {
      if (held || file === ':memory:') return
      const beside = `${realpathSync(file)}-worker`
      const lock = openPrivately(beside)
      try {
        lock.exec('BEGIN EXCLUSIVE')
      } catch (cause) {
        lock.close()
        if (!(cause instanceof Database.SqliteError) || cause.code !== 'SQLITE_BUSY') throw cannotOpen(beside, cause)
        throw new LockstepError(
          'store_in_use',
          `SQLite file ${file} is in use by another OP: one process at a time delivers its logouts. Stop the other first, or ` +
            'give several processes a PostgreSQL store',
          { cause },
        )
      }
      held = lock
    },
    release() {
      held?.close()
      held = undefined
    },
  }
}
