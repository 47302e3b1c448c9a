import { statement } from '../../runtime/postgres.ts'
import type { PostgresContext } from './postgres-context.ts'

/** Seconds between two turns of cleaning. */
const every = 60
/** Rows of one table that one turn takes away: a request that happens to pay for it pays a few milliseconds. */
const rows = 200
/** Seconds an expired OP session stays: a request that loaded it in time finds it expired rather than gone. */
const grace = 86_400

// Rows that another node has in its hands are left to it.
const some = (table: string, key: string, which = ''): string =>
  `SELECT ${key} FROM ${table} WHERE issuer = $1 AND expires_at <= $2 ${which} LIMIT ${rows} FOR UPDATE SKIP LOCKED`
const models = statement(
  'clean_models',
  `DELETE FROM model WHERE issuer = $1 AND (kind, handle) IN (${some('model', 'kind, handle')})`,
)
const tombstones = statement(
  'clean_tombstones',
  `DELETE FROM tombstone WHERE issuer = $1 AND (kind, name) IN (${some('tombstone', 'kind, name')})`,
)
const budgets = statement(
  'clean_budgets',
  `DELETE FROM attempt_budget WHERE issuer = $1 AND name IN (${some('attempt_budget', 'name')})`,
)
const opSessions = statement<{ uid: string }>(
  'clean_op_sessions',
  `DELETE FROM op_session WHERE issuer = $1 AND uid IN (${some('op_session', 'uid', 'AND account_id IS NULL')}) RETURNING uid`,
)
const handles = statement('clean_handles', 'DELETE FROM op_session_handle WHERE issuer = $1 AND uid = ANY($2::text[])')
const rps = statement('clean_clients', 'DELETE FROM op_session_client WHERE issuer = $1 AND uid = ANY($2::text[])')
// Logins that were recorded for an OP session which was then never saved: its browser went away in between.
const pending = statement<{ uid: string }>(
  'clean_pending',
  `DELETE FROM op_session_pending WHERE issuer = $1 AND uid IN (${some('op_session_pending', 'uid')}) RETURNING uid`,
)

/**
 * Takes away what has expired, a little at a time. The outbox and its facts stay, and so do OP sessions in which somebody is
 * signed in, however long ago they expired: those are ended, and their RPs told.
 */
export function postgresCleaning(): (context: PostgresContext) => Promise<void> {
  let next = 0
  return async (context) => {
    const now = context.seconds()
    if (now < next) return
    next = now + every // requests that come while this turn is under way do not begin another
    if (await turn(context, now)) next = now
  }
}

/** One turn as one transaction; its answer says whether there is more to take away. */
async function turn(context: PostgresContext, now: number): Promise<boolean> {
  return context.writeSoon(async (queries) => {
    const gone = await queries.all(opSessions, now - grace)
    const unsaved = await queries.all(pending, now)
    const uids = [...gone, ...unsaved].map(({ uid }) => uid)
    if (uids.length > 0) {
      await queries.change(handles, uids)
      await queries.change(rps, uids)
    }
    const counts = [
      gone.length,
      unsaved.length,
      await queries.change(models, now),
      await queries.change(tombstones, now),
      await queries.change(budgets, now),
    ]
    return counts.some((count) => count === rows)
  })
}
