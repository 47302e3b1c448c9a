import Database from 'better-sqlite3'
import { LockstepError } from '../../protocol/errors.ts'
import { base64url } from '../../protocol/session-state.ts'
import type { Runtime } from '../../runtime/runtime.ts'
import type { Sqlite } from '../../runtime/sqlite.ts'

/** What each part of the SQLite OP store works with: the file as one issuer sees it. */
export interface SqliteContext {
  readonly db: Sqlite
  /** The issuer's row number, first column of every table. */
  readonly issuer: number
  /** Epoch milliseconds. */
  now(): number
  /** Epoch seconds. */
  seconds(): number
  newId(): string
  /** Runs one method of the store as one transaction, after a turn of cleaning. */
  write<Result>(work: () => Result): Result
  /** As `write`, for what is one statement: that is a transaction by itself. */
  writeOne(work: () => unknown): void
  /**
   * As `write`, without waiting for the disk: a loss of power may undo it, whole, but nothing that `write` did before or
   * does after. For what is harmless to lose, such as the note that an attempt was made: the attempt is made again.
   */
  writeSoon<Result>(work: () => Result): Result
  /** Runs one method of the store that changes nothing. */
  read<Result>(work: () => Result): Result
}

/** Opens the file for one issuer; `clean` runs before a write, in a transaction of its own. */
export function openContext(
  db: Sqlite,
  issuer: string,
  runtime: Pick<Runtime, 'now' | 'random'>,
  clean: (context: SqliteContext) => void,
): SqliteContext {
  const id = named(() => {
    db.prepare('INSERT INTO issuer (url) VALUES (?) ON CONFLICT DO NOTHING').run(issuer)
    return db.prepare<[string], { id: number }>('SELECT id FROM issuer WHERE url = ?').get(issuer)?.id as number
  })
  const transaction = db.transaction((work: () => unknown) => work()) // made once: making one costs as much as a read
  const context: SqliteContext = {
    db,
    issuer: id,
    now: () => Math.floor(runtime.now()),
    seconds: () => Math.floor(runtime.now() / 1000),
    newId: () => base64url(runtime.random(16)),
    write: (work) =>
      named(() => {
        clean(context)
        return transaction.immediate(work) as ReturnType<typeof work>
      }),
    writeOne: (work) => {
      named(() => {
        clean(context)
        work()
      })
    },
    writeSoon: (work) =>
      named(() => {
        db.exec('PRAGMA synchronous = NORMAL')
        try {
          return transaction.immediate(work) as ReturnType<typeof work>
        } finally {
          db.exec('PRAGMA synchronous = FULL')
        }
      }),
    read: named,
  }
  return context
}

/** SQLite's own errors get the code callers know; whatever else is thrown inside (by `plan`, say) stays what it is. */
function named<Result>(work: () => Result): Result {
  try {
    return work()
  } catch (error) {
    if (!(error instanceof Database.SqliteError)) throw error
    throw new LockstepError('store_failed', `the OP's SQLite store failed with ${error.code}: ${error.message}`, {
      cause: error,
    })
  }
}
