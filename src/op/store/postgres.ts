import { openPostgres } from '../../runtime/postgres.ts'
import { type PostgresOptions, resolvePostgresOptions } from '../../runtime/postgres-connection.ts'
import type { OpStore } from './contract.ts'
import { postgresBudgets } from './postgres-budgets.ts'
import { postgresCleaning } from './postgres-cleaning.ts'
import { openContext } from './postgres-context.ts'
import { postgresDeliveries } from './postgres-deliveries.ts'
import { postgresEnd } from './postgres-end.ts'
import { postgresEndAll } from './postgres-end-all.ts'
import { postgresErase } from './postgres-erase.ts'
import { postgresForget } from './postgres-forget.ts'
import { postgresGiveUp } from './postgres-give-up.ts'
import { postgresHasten } from './postgres-hasten.ts'
import { postgresList } from './postgres-list.ts'
import { postgresModels } from './postgres-models.ts'
import { postgresOutbox } from './postgres-outbox.ts'
import { migrate } from './postgres-schema.ts'
import { postgresSessions } from './postgres-sessions.ts'
import { postgresTrouble } from './postgres-trouble.ts'
import { postgresWake } from './postgres-wake.ts'

/** Which PostgreSQL, as `pg` takes it (`connectionString`, `max`, ...), and what is the store's own. */
export interface PostgresStoreOptions extends PostgresOptions {
  /** Name of the schema that holds the tables; made at the first start. Default `lockstep_op`. */
  schema?: string
  /** Epoch milliseconds by which all nodes measure leases; replaced in tests. Default: the database's clock. */
  clock?: () => number
}

/**
 * Opens the OP store for several nodes: they share one PostgreSQL database.
 *
 * Nothing is connected before the first use; `op.ready()` waits for it, and fails with `store_failed` when the database
 * cannot be reached. The schema is made or brought up to date then, by one of the nodes that start at once.
 *
 * Give it a direct connection, or a pooler that keeps sessions: it prepares statements and listens.
 *
 * @throws TypeError naming the option that is wrong; also when the connection leads over the network without TLS (T19).
 *
 * @example
 * ```ts
 * const store = postgresStore({ connectionString: 'postgres://lockstep@localhost/op' })
 * const op = new Provider(issuer, configuration, { store })
 * await op.ready()
 * ```
 */
export function postgresStore({ clock, ...options }: PostgresStoreOptions): OpStore {
  const resolved = resolvePostgresOptions(options, 'lockstep_op')
  const db = openPostgres(resolved)
  const wake = postgresWake(db, resolved.schema)
  let migrated: Promise<void> | undefined
  const ready = (): Promise<void> => {
    migrated ??= migrate(db, resolved).catch((error: unknown) => {
      migrated = undefined // whoever asks next tries again
      throw error
    })
    return migrated
  }
  return {
    forIssuer(issuer, runtime) {
      const context = openContext({ db, ready, clock }, issuer, runtime, postgresCleaning())
      return {
        ...postgresModels(context),
        ...postgresSessions(context),
        ...postgresList(context),
        ...postgresEnd(context, () => wake.ring(issuer)),
        ...postgresEndAll(context),
        ...postgresErase(context),
        ...postgresForget(context),
        ...postgresOutbox(context, () => wake.attend()),
        ...postgresHasten(context),
        ...postgresGiveUp(context),
        ...postgresBudgets(context),
        ...postgresDeliveries(context),
        ...postgresTrouble(context),
        onWake: (listener) => wake.onRing(issuer, listener),
      }
    },
    close: () => db.close(wake.close()),
  }
}
