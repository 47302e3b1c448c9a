import { openSqlite } from '../../runtime/sqlite.ts'
import type { OpStore } from './contract.ts'
import { sqliteBudgets } from './sqlite-budgets.ts'
import { sqliteCleaning } from './sqlite-cleaning.ts'
import { openContext } from './sqlite-context.ts'
import { sqliteDeliveries } from './sqlite-deliveries.ts'
import { sqliteEnd } from './sqlite-end.ts'
import { sqliteEndAll } from './sqlite-end-all.ts'
import { sqliteErase } from './sqlite-erase.ts'
import { sqliteForget } from './sqlite-forget.ts'
import { sqliteGiveUp } from './sqlite-give-up.ts'
import { sqliteHasten } from './sqlite-hasten.ts'
import { sqliteList } from './sqlite-list.ts'
import { sqliteModels } from './sqlite-models.ts'
import { sqliteOutbox } from './sqlite-outbox.ts'
import { sqliteRefusals } from './sqlite-refusals.ts'
import { migrate } from './sqlite-schema.ts'
import { sqliteSessions } from './sqlite-sessions.ts'
import { sqliteTombstones } from './sqlite-tombstones.ts'
import { sqliteTrouble } from './sqlite-trouble.ts'
import { workerLock } from './sqlite-worker-lock.ts'

/**
 * Opens the embedded OP store: one SQLite file for one OP process.
 *
 * The file is created or brought up to date at once, so that a path that cannot be written fails where it is named. A tool may
 * open it beside the OP (to rotate keys, say); a second OP gets `store_in_use` from `op.ready()`, and delivers nothing.
 *
 * @param file A path on a local disk, or `:memory:` in tests.
 * @throws LockstepError `store_not_durable` when the file cannot be made durable, `store_failed` when it cannot be opened.
 *
 * @example
 * ```ts
 * const op = new Provider(issuer, configuration, { store: sqliteStore('op.db') })
 * ```
 */
export function sqliteStore(file: string): OpStore {
  const db = openSqlite(file)
  try {
    migrate(db)
  } catch (error) {
    db.close()
    throw error
  }
  const lock = workerLock(file)
  const takenOver = new Set<string>()
  return {
    forIssuer(issuer, runtime) {
      const context = openContext(db, issuer, runtime, sqliteCleaning())
      const tombstones = sqliteTombstones(context)
      const refusals = sqliteRefusals(context)
      const { row, rps, toOpSession, ...opSessions } = sqliteSessions(context, tombstones, refusals)
      const reader = { row, rps, toOpSession }
      const outbox = sqliteOutbox(context)
      const { recordJob, ...endAll } = sqliteEndAll(context, reader)
      return {
        ...sqliteModels(context),
        ...opSessions,
        ...sqliteList(context, reader),
        ...sqliteEnd(context, tombstones, reader),
        ...endAll,
        ...sqliteErase(context, tombstones, recordJob),
        ...outbox,
        async takeOver() {
          if (takenOver.has(issuer)) return 0 // what is in flight now belongs to a worker of this process
          lock.take()
          const count = await outbox.takeOver()
          takenOver.add(issuer)
          return count
        },
        ...sqliteHasten(context),
        ...sqliteGiveUp(context),
        ...sqliteBudgets(context),
        ...sqliteDeliveries(context),
        ...sqliteTrouble(context),
        ...sqliteForget(context),
      }
    },
    async close() {
      db.close()
      lock.release()
    },
  }
}
