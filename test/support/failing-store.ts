import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { Client } from 'pg'
import type { OpStore } from '../../src/op.ts'
import { postgresStore } from '../../src/op-postgres.ts'
import { sqliteStore } from '../../src/op-sqlite.ts'
import { startPostgres } from './postgres.ts'

/** A real store, one of whose statements fails when a test says so: the disk does not answer, or the connection is gone. */
export interface FailingStore {
  readonly store: OpStore
  /** Has the `nth` statement from now on fail, counted from 1, and only that one. */
  failAt(nth: number): void
  /** Lets all succeed again; true when one has failed. */
  heal(): boolean
  close(): Promise<void>
}

/** Counts statements and says which of them is to fail. */
function countdown(): { isNow(): boolean; failAt(nth: number): void; heal(): boolean } {
  let left = 0
  let armed = false
  return {
    isNow: (): boolean => left > 0 && --left === 0,
    failAt(nth: number) {
      left = nth
      armed = true
    },
    heal() {
      const hasFailed = armed && left === 0
      left = 0
      armed = false
      return hasFailed
    },
  }
}

type Method = (this: unknown, ...values: unknown[]) => unknown

/** Puts `instead` in the place of a method; returns the way back. */
function replace(owner: object, name: string, instead: (original: Method) => Method): () => void {
  const original = Reflect.get(owner, name) as Method
  Reflect.set(owner, name, instead(original))
  return () => void Reflect.set(owner, name, original)
}

/** SQLite in a file; a statement fails as one does whose disk fails, BEGIN and COMMIT included. */
export async function failingSqlite(): Promise<FailingStore> {
  const { isNow, failAt, heal } = countdown()
  const folder = await mkdtemp(join(tmpdir(), 'lockstep-failing-'))
  const probe = new Database(':memory:')
  const statements = Object.getPrototypeOf(probe.prepare('SELECT 1')) as object
  probe.close()
  const failing = (original: Method): Method =>
    function (...values) {
      const isUndo = (this as { source?: string }).source === 'ROLLBACK'
      if (!isUndo && isNow()) throw new Database.SqliteError('disk I/O error', 'SQLITE_IOERR')
      return original.apply(this, values)
    }
  const restore = ['run', 'get', 'all', 'iterate'].map((name) => replace(statements, name, failing))
  restore.push(replace(Database.prototype, 'exec', failing))
  const store = sqliteStore(join(folder, 'op.db'))
  return {
    store,
    failAt,
    heal,
    async close() {
      for (const each of restore) each()
      await store.close()
      await rm(folder, { recursive: true })
    },
  }
}

/**
 * PostgreSQL; a statement fails because the server refuses it (`refused`), or because the connection breaks before it is
 * sent (`cut`).
 */
export async function failingPostgres(how: 'refused' | 'cut'): Promise<FailingStore> {
  const { isNow, failAt, heal } = countdown()
  const postgres = await startPostgres()
  const restore = replace(Client.prototype, 'query', (original) => {
    return function (this: unknown, ...values) {
      if (!isNow()) return original.apply(this, values)
      if (how === 'refused') {
        return original.call(this, 'SELECT 1 / 0', ...values.filter((value) => typeof value === 'function'))
      }
      ;(this as { connection: { stream: { destroy(): void } } }).connection.stream.destroy()
      return original.apply(this, values)
    }
  })
  const store = postgresStore({ connectionString: postgres.connectionString })
  return {
    store,
    failAt,
    heal,
    async close() {
      restore()
      await store.close()
      await postgres.close()
    },
  }
}
