import { statement } from '../../runtime/postgres.ts'
import { pseudonymOf } from '../pseudonym.ts'
import type { OpIssuerStore } from './contract.ts'
import type { PostgresContext } from './postgres-context.ts'
import { isModelRefused } from './postgres-refusals.ts'

const attempts = statement(
  'forget_attempts',
  `DELETE FROM attempt WHERE (delivery, number) IN
     (SELECT delivery, number FROM attempt WHERE issuer = $1 AND finished_at < $2 LIMIT $3 FOR UPDATE SKIP LOCKED)`,
)
// What another node is forgetting at this moment is left to it.
const oldLogouts = statement<{ cursor: number }>(
  'forget_find_logouts',
  `SELECT l.cursor FROM logout l WHERE l.issuer = $1 AND l.ended_at < $2
     AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.logout = l.cursor AND d.due_at IS NOT NULL)
   ORDER BY l.ended_at LIMIT $3 FOR UPDATE SKIP LOCKED`,
)
const attemptsOf = statement(
  'forget_attempts_of',
  `DELETE FROM attempt WHERE delivery IN
     (SELECT seq FROM delivery WHERE issuer = $1 AND logout = ANY ($2::bigint[]))`,
)
const deliveriesOf = statement(
  'forget_deliveries_of',
  'DELETE FROM delivery WHERE issuer = $1 AND logout = ANY ($2::bigint[])',
)
const logouts = statement('forget_logouts', 'DELETE FROM logout WHERE issuer = $1 AND cursor = ANY ($2::bigint[])')
const oldJobs = statement<{ seq: number }>(
  'forget_find_jobs',
  `SELECT seq FROM end_job WHERE issuer = $1 AND finished_at < $2 AND needed_until < $3
   LIMIT $4 FOR UPDATE SKIP LOCKED`,
)
// What they refuse has expired, but for what never does: without them it would be there again.
const refusedForEver = statement(
  'forget_refused',
  `DELETE FROM model WHERE issuer = $1 AND (kind, handle) IN
     (SELECT m.kind, m.handle FROM model m
      WHERE m.issuer = $1 AND m.expires_at IS NULL AND m.account_id IS NOT NULL AND ${isModelRefused} LIMIT $2)`,
)
const jobs = statement('forget_jobs', 'DELETE FROM end_job WHERE issuer = $1 AND seq = ANY ($2::bigint[])')
// A logout that has its pseudonym needs it: without it the pseudonym would pass for an account.
const erasures = statement(
  'forget_erasures',
  `DELETE FROM erasure WHERE seq IN
     (SELECT e.seq FROM erasure e WHERE e.issuer = $1 AND e.finished_at < $2
        AND NOT EXISTS (SELECT 1 FROM logout l WHERE l.issuer = $1 AND l.account_id = '${pseudonymOf('')}' || e.id)
      LIMIT $3 FOR UPDATE SKIP LOCKED)`,
)
const uris = statement(
  'forget_uris',
  `DELETE FROM answered_uri WHERE issuer = $1 AND (client_id, uri) IN
     (SELECT client_id, uri FROM answered_uri WHERE issuer = $1 AND answered_at < $2 LIMIT $3 FOR UPDATE SKIP LOCKED)`,
)
// of RPs that are owed nothing any more, or that are gone
const trouble = statement('forget_trouble', 'DELETE FROM client_trouble WHERE issuer = $1 AND since < $2')

/** What is kept for a time only, in PostgreSQL (T30). */
export function postgresForget(context: PostgresContext): Pick<OpIssuerStore, 'forget'> {
  return {
    async forget(before, limit) {
      const { fromNode } = await context.clock()
      return context.writeSoon(async (queries) => {
        const gone = await queries.change(attempts, before.attempts, limit)
        const cursors = (await queries.all(oldLogouts, before.logouts, limit)).map(({ cursor }) => cursor)
        if (cursors.length > 0) {
          await queries.change(attemptsOf, cursors)
          await queries.change(deliveriesOf, cursors)
          await queries.change(logouts, cursors)
        }
        const done = (await queries.all(oldJobs, fromNode(before.logouts), context.seconds(), limit)).map(
          ({ seq }) => seq,
        )
        const refused = done.length > 0 ? await queries.change(refusedForEver, limit) : 0
        if (refused < limit) await queries.change(jobs, done)
        const erased = await queries.change(erasures, fromNode(before.logouts), limit)
        const silent = await queries.change(uris, before.logouts, limit)
        await queries.change(trouble, fromNode(before.logouts))
        return [gone, cursors.length, refused, done.length, erased, silent].some((count) => count === limit)
      })
    },
  }
}
