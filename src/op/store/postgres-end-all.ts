import { type Queries, statement } from '../../runtime/postgres.ts'
import type { EndableOpSession, EndCause, EndJob, OpIssuerStore, OpSessionScope, StoreEnding } from './contract.ts'
import { longestRequest } from './longest-request.ts'
import { type PostgresContext, type SharedClock, sharedNow } from './postgres-context.ts'
import { type OpSessionRow, rpsOf, toRp } from './postgres-sessions.ts'
import { ends, lock, type Name } from './postgres-tombstones.ts'
import { type ScopeName, scopeName, toScope } from './scope.ts'

/** A job as its row holds it. */
export interface JobRow extends ScopeName {
  seq: number
  id: string
  at: number
  revoke_offline: boolean
  cause: EndCause
  actor: string | null
  reason: string | null
  total: number
  ended: number
  finished_at: number | null
}

type Left = Pick<OpSessionRow, 'uid' | 'rps'>
type EndAll = Pick<OpIssuerStore, 'endAll' | 'claimEndJob' | 'nextEndJobAt' | 'getEndJob' | 'listEndJobs'>

// Each column by its name: a node of the next version may add some while this one runs.
const columns =
  'j.seq, j.id, j.scope, j.name, j.at, j.revoke_offline, j.cause, j.actor, j.reason, j.total, j.ended, j.finished_at'
const insert = statement<JobRow>(
  'end_job_insert',
  `INSERT INTO end_job AS j (issuer, id, scope, name, at, needed_until, revoke_offline, cause, actor, reason, total, due_at)
   SELECT $1::int, $2, $3, $4, now.at, greatest(coalesce(
       (SELECT max(expires_at) FROM model WHERE issuer = $1 AND expires_at IS NOT NULL), 0), $5::bigint) + ${longestRequest},
     $6::boolean, $7, $8, $9, 0, now.at
   FROM (SELECT ${sharedNow('$10')} AS at) AS now
   RETURNING ${columns}`,
)
// Nothing is kept but names that are known here: the uid of an interaction is a bearer value (T6).
const spare = statement(
  'end_job_spare',
  `INSERT INTO spared (job, name)
     SELECT $2::bigint, s.uid FROM op_session s WHERE s.issuer = $1 AND s.uid = ANY ($3::text[])
     UNION SELECT $2::bigint, m.handle FROM model m
           WHERE m.issuer = $1 AND m.kind = 'Interaction' AND m.handle = ANY ($3::text[])
     UNION SELECT $2::bigint, c.grant_id FROM op_session_client c
           WHERE c.issuer = $1 AND c.uid = ANY ($3::text[]) AND c.grant_id IS NOT NULL
   ON CONFLICT DO NOTHING`,
)
// What a job refuses and has still to end, expired or not.
const refused: Readonly<Record<ScopeName['scope'], string>> = {
  account: 'FROM op_session s WHERE s.issuer = $1 AND s.account_id = $3 AND s.since <= $4',
  client: `FROM op_session_client s WHERE s.issuer = $1 AND s.client_id = $3 AND s.since <= $4
           AND EXISTS (SELECT 1 FROM op_session o WHERE o.issuer = s.issuer AND o.uid = s.uid AND o.account_id IS NOT NULL)`,
  everyone:
    'FROM op_session s WHERE s.issuer = $1 AND s.account_id IS NOT NULL AND s.since <= $4 AND $3::text IS NOT NULL',
}
const left = 'AND NOT EXISTS (SELECT 1 FROM spared p WHERE p.job = $2 AND p.name = s.uid)'
const next = (scope: ScopeName['scope']) =>
  statement<Left>(
    `end_job_next_${scope}`,
    `SELECT s.uid, ${rpsOf('s.issuer', 's.uid')} ${refused[scope]} ${left} ORDER BY s.since, s.uid LIMIT $5`,
  )
const total = (scope: ScopeName['scope']) =>
  statement<JobRow>(
    `end_job_total_${scope}`,
    `UPDATE end_job j SET total = (SELECT count(*) ${refused[scope]} ${left}) WHERE j.seq = $2 RETURNING ${columns}`,
  )
const nexts = { account: next('account'), client: next('client'), everyone: next('everyone') }
const totals = { account: total('account'), client: total('client'), everyone: total('everyone') }
// A job that another node has in its hands at this moment is skipped, not waited for.
const due = statement<JobRow>(
  'end_job_due',
  `SELECT ${columns} FROM end_job j WHERE j.issuer = $1 AND j.due_at <= $2
   ORDER BY j.revoke_offline DESC, j.due_at, j.seq LIMIT 1 FOR UPDATE SKIP LOCKED`,
)
const lease = statement('end_job_lease', 'UPDATE end_job SET due_at = $3 WHERE issuer = $1 AND seq = $2')
const finish = statement<JobRow>(
  'end_job_finish',
  `UPDATE end_job j SET due_at = NULL, finished_at = $3
   WHERE j.issuer = $1 AND j.seq = $2 AND j.due_at IS NOT NULL RETURNING ${columns}`,
)
const nextDue = statement<{ at: number | null }>(
  'end_job_next_due',
  'SELECT min(due_at) AS at FROM end_job WHERE issuer = $1 AND due_at IS NOT NULL',
)
const byId = statement<JobRow>('end_job_by_id', `SELECT ${columns} FROM end_job j WHERE j.issuer = $1 AND j.id = $2`)
const latest = statement<JobRow>(
  'end_job_latest',
  `SELECT ${columns} FROM end_job j WHERE j.issuer = $1 ORDER BY j.seq DESC LIMIT $2`,
)

/** Records a job inside a transaction that has locked nothing yet. */
export async function recordJob(
  queries: Queries,
  context: PostgresContext,
  of: OpSessionScope,
  { cause, actor, reason, revokeOffline = false }: StoreEnding,
  except: readonly string[],
): Promise<JobRow> {
  const { scope, name } = scopeName(of)
  await lock(queries, [ends, ...except.map((spared): Name => ['uid', spared])])
  const job = (await queries.first(
    insert,
    context.newId(),
    scope,
    name,
    context.seconds(),
    revokeOffline,
    cause,
    actor ?? null,
    reason ?? null,
    context.replacedNow(),
  )) as JobRow
  if (except.length > 0) await queries.change(spare, job.seq, except)
  return (await queries.first(totals[scope], job.seq, name, job.at)) as JobRow
}

/**
 * The end of all OP sessions of a scope in PostgreSQL.
 *
 * What others save at the same moment carries its age with it, by the same clock, and is judged by each later read. While a job
 * is recorded no save of an OP session is under way: a job that did not see it would be done before it is there.
 */
export function postgresEndAll(context: PostgresContext): EndAll {
  const { each } = context
  return {
    async endAll(of, ending, except = []) {
      const clock = await context.clock()
      return context.write(async (queries) => toJob(await recordJob(queries, context, of, ending, except), clock))
    },

    async claimEndJob({ limit, lease: duration }) {
      const clock = await context.clock()
      // A lease that is lost with the power is harmless: two work on one batch, and each OP session is found alive by one of them.
      const claimed = await context.writeSoon(async (queries) => {
        const row = await queries.first(due, clock.now)
        if (!row) return undefined
        const { seq, scope, name, at } = row
        const uids = await queries.all(nexts[scope], seq, name, at, limit)
        if (uids.length > 0) await queries.change(lease, seq, clock.now + duration)
        return { row, next: uids.map(({ uid, rps }): EndableOpSession => ({ uid, rps: rps.map(toRp) })) }
      })
      if (!claimed) return undefined
      const { row, next } = claimed
      if (next.length > 0) return { job: toJob(row, clock), next }
      const done = await context.write((queries) => queries.first(finish, row.seq, clock.now))
      return done && { job: toJob(done, clock), next }
    },

    async nextEndJobAt() {
      const at = (await each.first(nextDue))?.at ?? null
      return at === null ? undefined : (await context.clock()).toNode(at)
    },

    async getEndJob(id) {
      const row = await each.first(byId, id)
      return row && toJob(row, await context.clock())
    },

    async listEndJobs(limit) {
      const rows = await each.all(latest, limit)
      const clock = await context.clock()
      return rows.map((row) => toJob(row, clock))
    },
  }
}

function toJob(row: JobRow, { toNode }: SharedClock): EndJob {
  return {
    id: row.id,
    scope: toScope(row),
    cause: row.cause,
    ...(row.actor !== null && { actor: row.actor }),
    ...(row.reason !== null && { reason: row.reason }),
    notBefore: toNode(row.at),
    revokeOffline: row.revoke_offline,
    state: row.finished_at === null ? 'running' : 'done',
    total: row.total,
    ended: row.ended,
    ...(row.finished_at !== null && { finishedAt: toNode(row.finished_at) }),
  }
}
