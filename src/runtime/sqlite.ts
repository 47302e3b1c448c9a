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
 * @throws LockstepError `store_not_durable` when the file cannot be made durable, `store_failed` when it cannot be opened.
 */
export function openSqlite(file: string): Sqlite {
  const db = openPrivately(file)
  try {
    db.pragma('busy_timeout = 5000')
    db.pragma('journal_mode = WAL')
    db.pragma('synchronous = FULL') // better-sqlite3 is compiled with NORMAL, which may lose the last commits
    db.pragma('foreign_keys = ON')
    refuseUnlessDurable(db)
    return db
  } catch (error) {
    db.close()
    throw error
  }
}

/**
 * Reads back what makes commits survive the loss of power.
 *
 * @throws LockstepError `store_not_durable` when one of them is otherwise.
 */
export function refuseUnlessDurable(db: Sqlite): void {
  const synchronous = ['OFF', 'NORMAL', 'FULL', 'EXTRA'][db.pragma('synchronous', { simple: true }) as number]
  const journal = db.pragma('journal_mode', { simple: true })
  if (synchronous === 'FULL' && (db.name === ':memory:' || journal === 'wal')) return
  throw new LockstepError(
    'store_not_durable',
    `SQLite file ${db.name} runs with journal_mode=${String(journal)} and synchronous=${synchronous}; Lockstep needs WAL with ` +
      'synchronous=FULL. Put it on a local disk that supports shared memory.',
  )
}

/**
 * Opens a file that is this user's alone, or `:memory:`, with no wait for locks of others.
 *
 * @throws LockstepError `store_failed` when it cannot be opened.
 */
export function openPrivately(file: string): Sqlite {
  try {
    if (file !== ':memory:') createPrivately(file)
    return new Database(file, { timeout: 0 })
  } catch (cause) {
    throw cannotOpen(file, cause)
  }
}

/** What an operator is told of a file that cannot be opened, or only to be read. */
export function cannotOpen(file: string, cause: unknown): LockstepError {
  const code = cause instanceof Error && 'code' in cause ? cause.code : undefined
  return new LockstepError(
    'store_failed',
    `SQLite file ${file} cannot be opened (${String(code)}): it and its folder must be there, and the user of this process ` +
      'must be allowed to read and write both',
    { cause },
  )
}

/**
 * Makes a file for this user alone, where there is none: it will hold keys and sessions (T6). One that is there is not touched:
 * a process that opens and closes a file loses the locks that its own connections have on it.
 */
function createPrivately(file: string): void {
  try {
    closeSync(openSync(file, 'wx', 0o600))
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error
  }
}
