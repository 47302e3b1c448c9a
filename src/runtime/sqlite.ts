import { closeSync, openSync } from 'node:fs'
import Database from 'better-sqlite3'
import { LockstepError } from '../protocol/errors.ts'

/** A better-sqlite3 database. */
export type Sqlite = Database.Database

/**
 * Opens a SQLite file so that what was committed survives power loss, and reads the settings back. A file that is not there
 * yet is made for this user alone. SQLite's own files beside it take after it.
 *
 * @param file A path, or `:memory:` in tests.
 * @throws LockstepError `store_not_durable` when the file cannot be made durable.
 */
export function openSqlite(file: string): Sqlite {
  if (file !== ':memory:') createPrivately(file)
  const db = new Database(file)
  db.pragma('journal_mode = WAL')
  db.pragma('synchronous = FULL') // better-sqlite3 is compiled with NORMAL, which may lose the last commits
  db.pragma('foreign_keys = ON')
  db.pragma('busy_timeout = 5000')
  const durable = db.pragma('synchronous', { simple: true }) === 2
  const journal = db.pragma('journal_mode', { simple: true })
  if (!durable || (file !== ':memory:' && journal !== 'wal')) {
    db.close()
    throw new LockstepError(
      'store_not_durable',
      `SQLite file ${file} runs with journal_mode=${String(journal)}; Lockstep needs WAL with synchronous=FULL. ` +
        'Put it on a local disk that supports shared memory.',
    )
  }
  return db
}

/**
 * Makes a file for this user alone, where there is none: it will hold keys and sessions (T6). One that is there is not touched:
 * a process that opens and closes a file loses the locks that its own connections have on it.
 */
export function createPrivately(file: string): void {
  try {
    closeSync(openSync(file, 'wx', 0o600))
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error
  }
}
