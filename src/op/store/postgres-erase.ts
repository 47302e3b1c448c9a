import { type Queries, statement } from '../../runtime/postgres.ts'
import { pseudonymOf } from '../pseudonym.ts'
import type { ErasureStore } from './contract.ts'
import {
  type ErasureRow,
  type LastStep,
  lastKind,
  lastStep,
  modelsAtOnce,
  toErasure,
  withoutWords,
} from './erasure-row.ts'
import type { PostgresContext } from './postgres-context.ts'
import { recordJob } from './postgres-end-all.ts'
import { isModelRefused } from './postgres-refusals.ts'
import { bury, lock, type Name } from './postgres-tombstones.ts'

type Running = ErasureRow & { account_id: string }

const columns = 'e.seq, e.id, e.job_id, e.account_id, e.at, e.after_kind, e.after_handle, e.walk_at, e.finished_at'
const insert = statement<ErasureRow>(
  'erasure_insert',
  `INSERT INTO erasure AS e (issuer, id, job_id, account_id, at, after_kind, after_handle, due_at)
   VALUES ($1, $2, $3, $4, $5, '', '', $5) RETURNING ${columns}`,
)
// One that another node has in its hands at this moment is skipped, not waited for.
const due = statement<Running>(
  'erasure_due',
  `SELECT ${columns} FROM erasure e WHERE e.issuer = $1 AND e.due_at <= $2
   ORDER BY e.due_at, e.seq LIMIT 1 FOR UPDATE SKIP LOCKED`,
)
const walked = statement(
  'erasure_walked',
  'UPDATE erasure SET after_kind = $3, after_handle = $4 WHERE issuer = $1 AND seq = $2',
)
const walkAgain = statement(
  'erasure_walk_again',
  `UPDATE erasure SET after_kind = '', after_handle = '', walk_at = $3 WHERE issuer = $1 AND seq = $2`,
)
const again = statement('erasure_again', 'UPDATE erasure SET due_at = $3 WHERE issuer = $1 AND seq = $2')
const finish = statement<ErasureRow>(
  'erasure_finish',
  `UPDATE erasure e SET account_id = NULL, due_at = NULL, finished_at = $3
   WHERE e.issuer = $1 AND e.seq = $2 RETURNING ${columns}`,
)
const nextDue = statement<{ at: number | null }>(
  'erasure_next_due',
  'SELECT min(due_at) AS at FROM erasure WHERE issuer = $1 AND due_at IS NOT NULL',
)
const byId = statement<ErasureRow>(
  'erasure_by_id',
  `SELECT ${columns} FROM erasure e WHERE e.issuer = $1 AND e.id = $2`,
)
const latest = statement<ErasureRow>(
  'erasure_latest',
  `SELECT ${columns} FROM erasure e WHERE e.issuer = $1 ORDER BY e.seq DESC LIMIT $2`,
)
const endOfPart = statement<{ kind: string; handle: string }>(
  'erase_end_of_part',
  `SELECT kind, handle FROM model WHERE issuer = $1 AND (kind, handle) > ($2, $3)
   ORDER BY kind, handle LIMIT 1 OFFSET ${modelsAtOnce - 1}`,
)
const ofAccount = statement<{ kind: string; handle: string; grant_id: string | null }>(
  'erase_find_models',
  `SELECT m.kind, m.handle, CASE WHEN m.kind <> 'Interaction' THEN m.grant_id END AS grant_id FROM model m
   WHERE m.issuer = $1 AND (m.kind, m.handle) > ($2, $3) AND (m.kind, m.handle) <= ($4, $5) AND m.account_id = $6
     AND ${isModelRefused}`,
)
const removeModels = statement(
  'erase_models',
  'DELETE FROM model WHERE issuer = $1 AND (kind, handle) IN (SELECT * FROM unnest($2::text[], $3::text[]))',
)
const removeGrants = statement('erase_grants', 'DELETE FROM model WHERE issuer = $1 AND grant_id = ANY ($2::text[])')
const settled = statement<{ cursor: number }>(
  'erase_find_logouts',
  `SELECT l.cursor FROM logout l WHERE l.issuer = $1 AND l.account_id = $2
     AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.logout = l.cursor AND d.due_at IS NOT NULL) LIMIT $3`,
)
const rename = statement(
  'erase_logouts',
  `UPDATE logout SET account_id = $4, actor = CASE actor WHEN $3 THEN $4 ELSE actor END
   WHERE issuer = $1 AND cursor = ANY ($2::bigint[])`,
)
const attempts = statement(
  'erase_attempts',
  `DELETE FROM attempt WHERE delivery IN
     (SELECT seq FROM delivery WHERE issuer = $1 AND logout = ANY ($2::bigint[]))`,
)
const inWords = statement<{ seq: number; last_outcome: string }>(
  'erase_find_words',
  `SELECT seq, last_outcome FROM delivery
   WHERE issuer = $1 AND logout = ANY ($2::bigint[]) AND last_outcome LIKE '%errorDescription%'`,
)
const keepOutcomes = statement(
  'erase_words',
  `UPDATE delivery d SET last_outcome = kept.outcome FROM unnest($2::bigint[], $3::text[]) AS kept (seq, outcome)
   WHERE d.issuer = $1 AND d.seq = kept.seq`,
)
const isLeft = statement<{ found: 1 }>(
  'erase_left',
  `SELECT 1 AS found WHERE EXISTS (SELECT 1 FROM logout WHERE issuer = $1 AND account_id = $2)
     OR EXISTS (SELECT 1 FROM end_job
                WHERE issuer = $1 AND scope = 'account' AND name = $2 AND finished_at IS NULL)`,
)
const youngestJob = statement<{ at: number | null }>(
  'erase_youngest_job',
  `SELECT max(at) AS at FROM end_job WHERE issuer = $1 AND scope = 'account' AND name = $2`,
)
const renameJobs = statement(
  'erase_jobs',
  `UPDATE end_job SET name = $3, actor = CASE actor WHEN $2 THEN $3 ELSE actor END
   WHERE issuer = $1 AND scope = 'account' AND name = $2`,
)

/** The erasure of accounts in PostgreSQL (T30). */
export function postgresErase(context: PostgresContext): ErasureStore {
  /** Removes the account's models that are refused in the next part of all; true while there are more parts. */
  async function eraseModels(queries: Queries, row: Running): Promise<boolean> {
    const { seq, account_id: account, after_kind: kind, after_handle: handle } = row
    if (kind === null) return false
    const end = await queries.first(endOfPart, kind, handle)
    const { kind: toKind, handle: toHandle } = end ?? { kind: lastKind, handle: '' }
    const found = await queries.all(ofAccount, kind, handle, toKind, toHandle, account)
    const grants = [...new Set(found.flatMap(({ grant_id: grant }) => (grant === null ? [] : [grant])))]
    const names = grants.map((grant): Name => ['grant', grant])
    await lock(queries, names)
    await bury(queries, context, names, 0)
    await queries.change(removeGrants, grants)
    await queries.change(
      removeModels,
      found.map((model) => model.kind),
      found.map((model) => model.handle),
    )
    await queries.change(walked, seq, end ? toKind : null, toHandle)
    return true
  }

  /** Renames the account in logouts that owe nothing; true when there may be more of them. */
  async function eraseLogouts(queries: Queries, { id, account_id: account }: Running, limit: number): Promise<boolean> {
    const cursors = (await queries.all(settled, account, limit)).map(({ cursor }) => cursor)
    if (cursors.length === 0) return false
    await queries.change(rename, cursors, account, pseudonymOf(id))
    await queries.change(attempts, cursors)
    const found = await queries.all(inWords, cursors)
    await queries.change(
      keepOutcomes,
      found.map(({ seq }) => seq),
      found.map(({ last_outcome }) => withoutWords(last_outcome)),
    )
    return cursors.length === limit
  }

  /** What comes next when there is nothing more to erase at this moment. */
  async function next(queries: Queries, row: Running, now: number): Promise<LastStep> {
    const { account_id: account } = row
    if (await queries.first(isLeft, account)) return 'wait'
    return lastStep(row, (await queries.first(youngestJob, account))?.at ?? null, now)
  }

  return {
    async eraseAccount(accountId, ending) {
      const clock = await context.clock()
      const id = context.newId()
      return context.write(async (queries) => {
        const job = await recordJob(queries, context, { accountId }, ending, [])
        return toErasure((await queries.first(insert, id, job.id, accountId, job.at)) as ErasureRow, clock.toNode)
      })
    },

    async eraseSome({ limit, pause, wait }) {
      const clock = await context.clock()
      return context.write(async (queries) => {
        const row = await queries.first(due, clock.now)
        if (!row) return undefined
        const isMore = (await eraseModels(queries, row)) || (await eraseLogouts(queries, row, limit))
        const step = isMore ? 'go on' : await next(queries, row, clock.now)
        if (step === 'finish') {
          await queries.change(renameJobs, row.account_id, pseudonymOf(row.id))
          return toErasure((await queries.first(finish, row.seq, clock.now)) as ErasureRow, clock.toNode)
        }
        if (step === 'walk') await queries.change(walkAgain, row.seq, clock.now)
        await queries.change(again, row.seq, clock.now + Math.ceil(step === 'wait' ? wait : pause))
        return toErasure(row, clock.toNode)
      })
    },

    async nextErasureAt() {
      const at = (await context.each.first(nextDue))?.at ?? null
      return at === null ? undefined : (await context.clock()).toNode(at)
    },

    async getErasure(id) {
      const row = await context.each.first(byId, id)
      return row && toErasure(row, (await context.clock()).toNode)
    },

    async listErasures(limit) {
      const rows = await context.each.all(latest, limit)
      const { toNode } = await context.clock()
      return rows.map((row) => toErasure(row, toNode))
    },
  }
}
