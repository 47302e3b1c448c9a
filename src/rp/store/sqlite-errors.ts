import Database from 'better-sqlite3'
import { LockstepError } from '../../protocol/errors.ts'
import type { RpSessionStore } from './contract.ts'

/** SQLite's own errors get the code that callers know. */
export function named<Result>(work: () => Result): Result {
  try {
    return work()
  } catch (error) {
    throw rename(error)
  }
}

/** The same for each method of a store. */
export function naming(store: RpSessionStore): RpSessionStore {
  return new Proxy(store, {
    get(target, name: keyof RpSessionStore) {
      const method: ((...args: never[]) => Promise<unknown>) | undefined = target[name]
      if (method === undefined) return undefined // what is awaited is asked for `then`
      return async (...args: never[]) => {
        try {
          return await method(...args)
        } catch (error) {
          throw rename(error)
        }
      }
    },
  })
}

function rename(cause: unknown): unknown {
  if (!(cause instanceof Database.SqliteError)) return cause
  const what = `the RP's SQLite store failed with ${cause.code}: ${cause.message}`
  return new LockstepError('store_failed', what, { cause })
}
