import type { EndableOpSession, EndCause, EndJob, OpIssuerStore, OpSessionScope, StoreEnding } from './contract.ts'
import { longestRequest } from './longest-request.ts'
import { type ScopeName, scopeName, toScope } from './scope.ts'
import type { SqliteContext } from './sqlite-context.ts'
import type { OpSessionReader } from './sqlite-sessions.ts'

/** A job as its row holds it. */
export interface JobRow extends ScopeName {
  seq: number
  id: string
  at: number
  revoke_offline: 0 | 1
  cause: EndCause
  actor: string | null
  reason: string | null
  total: number
  ended: number
  finished_at: number | null
}

interface NewJob extends ScopeName {
  issuer: number
  id: string
  at: number
  neededUntil: number
  revokeOffline: 0 | 1
  cause: EndCause
  actor: string | null
  reason: string | null
}

type EndAll = Pick<OpIssuerStore, 'endAll' | 'claimEndJob' | 'nextEndJobAt' | 'getEndJob' | 'listEndJobs'>

/** Records a job inside a transaction of the store. */
export type RecordJob = (of: OpSessionScope, ending: StoreEnding, except: readonly string[]) => JobRow

/** The end of all OP sessions of a scope in SQLite. */
export function sqliteEndAll(
  context: SqliteContext,
  { rps }: OpSessionReader,
): EndAll & { readonly recordJob: RecordJob } {
  const { db, issuer } = context
  const insert = db.prepare<[NewJob], { seq: number }>(
    `INSERT INTO end_job
       (issuer, id, scope, name, at, needed_until, revoke_offline, cause, actor, reason, total, due_at)
     VALUES (@issuer, @id, @scope, @name, @at, @neededUntil, @revokeOffline, @cause, @actor, @reason, 0, @at)
     RETURNING seq`,
  )
  // Nothing is kept but names that are known here: the uid of an interaction is a bearer value (T6).
  const spare = db.prepare<[{ seq: number; issuer: number; name: string }]>(
    `INSERT INTO spared (job, name)
       SELECT @seq, uid FROM op_session WHERE issuer = @issuer AND uid = @name
       UNION SELECT @seq, handle FROM model WHERE issuer = @issuer AND kind = 'Interaction' AND handle = @name
       UNION SELECT @seq, grant_id FROM op_session_client
             WHERE issuer = @issuer AND uid = @name AND grant_id IS NOT NULL
     ON CONFLICT DO NOTHING`,
  )
  const lastExpiry = db.prepare<[number], { at: number | null }>(
    'SELECT max(expires_at) AS at FROM model WHERE issuer = ? AND expires_at IS NOT NULL',
  )
  // What a job refuses and has still to end, expired or not.
  const refused: Readonly<Record<ScopeName['scope'], string>> = {
    account: 'FROM op_session s WHERE s.issuer = @issuer AND s.account_id = @name AND s.since <= @at',
    client: `FROM op_session_client s WHERE s.issuer = @issuer AND s.client_id = @name AND s.since <= @at
             AND EXISTS (SELECT 1 FROM op_session o WHERE o.issuer = s.issuer AND o.uid = s.uid AND o.account_id IS NOT NULL)`,
    everyone:
      'FROM op_session s WHERE s.issuer = @issuer AND s.account_id IS NOT NULL AND s.since <= @at AND @name = @name',
  }
  const left = `AND NOT EXISTS (SELECT 1 FROM spared p WHERE p.job = @seq AND p.name = s.uid)`
  type Of = { issuer: number; name: string; at: number; seq: number }
  const prepareNext = (scope: ScopeName['scope']) =>
    db.prepare<[Of & { limit: number }], { uid: string }>(
      `SELECT s.uid ${refused[scope]} ${left} ORDER BY s.since, s.uid LIMIT @limit`,
    )
  const prepareTotal = (scope: ScopeName['scope']) =>
    db.prepare<[Of]>(`UPDATE end_job SET total = (SELECT count(*) ${refused[scope]} ${left}) WHERE seq = @seq`)
  const next = { account: prepareNext('account'), client: prepareNext('client'), everyone: prepareNext('everyone') }
  const total = { account: prepareTotal('account'), client: prepareTotal('client'), everyone: prepareTotal('everyone') }
  const due = db.prepare<[number, number], JobRow>(
    'SELECT * FROM end_job WHERE issuer = ? AND due_at <= ? ORDER BY revoke_offline DESC, due_at, seq LIMIT 1',
  )
  const lease = db.prepare<[number, number]>('UPDATE end_job SET due_at = ? WHERE seq = ?')
  const finish = db.prepare<[number, number], JobRow>(
    'UPDATE end_job SET due_at = NULL, finished_at = ? WHERE seq = ? AND due_at IS NOT NULL RETURNING *',
  )
  const nextDue = db.prepare<[number], { at: number | null }>(
    'SELECT min(due_at) AS at FROM end_job WHERE issuer = ? AND due_at IS NOT NULL',
  )
  const byId = db.prepare<[number, string], JobRow>('SELECT * FROM end_job WHERE issuer = ? AND id = ?')
  const latest = db.prepare<[number, number], JobRow>(
    'SELECT * FROM end_job WHERE issuer = ? ORDER BY seq DESC LIMIT ?',
  )

  const recordJob: RecordJob = (of, { cause, actor, reason, revokeOffline = false }, except) => {
    const at = context.now()
    const { scope, name } = scopeName(of)
    const id = context.newId()
    const { seq } = insert.get({
      issuer,
      id,
      scope,
      name,
      at,
      neededUntil: Math.max(lastExpiry.get(issuer)?.at ?? 0, context.seconds()) + longestRequest,
      revokeOffline: revokeOffline ? 1 : 0,
      cause,
      actor: actor ?? null,
      reason: reason ?? null,
    }) as { seq: number }
    for (const spared of except) spare.run({ seq, issuer, name: spared })
    total[scope].run({ issuer, name, at, seq })
    return byId.get(issuer, id) as JobRow
  }

  return {
    recordJob,
    async endAll(of, ending, except = []) {
      return context.write(() => toJob(recordJob(of, ending, except)))
    },

    async claimEndJob({ limit, lease: duration }) {
      // A lease that is lost with the power is harmless: two work on one batch, and each OP session is found alive by one of them.
      const claimed = context.writeSoon(() => {
        const row = due.get(issuer, context.now())
        if (!row) return undefined
        const { seq, scope, name, at } = row
        const uids = next[scope].all({ issuer, name, at, seq, limit })
        if (uids.length > 0) lease.run(context.now() + duration, seq)
        return { row, next: uids.map(({ uid }): EndableOpSession => ({ uid, rps: rps(uid) })) }
      })
      if (!claimed) return undefined
      if (claimed.next.length > 0) return { job: toJob(claimed.row), next: claimed.next }
      const done = context.write(() => finish.get(context.now(), claimed.row.seq))
      return done && { job: toJob(done), next: [] }
    },

    async nextEndJobAt() {
      return context.read(() => nextDue.get(issuer)?.at ?? undefined)
    },

    async getEndJob(id) {
      return context.read(() => {
        const row = byId.get(issuer, id)
        return row && toJob(row)
      })
    },

    async listEndJobs(limit) {
      return context.read(() => latest.all(issuer, limit).map(toJob))
    },
  }
}

function toJob(row: JobRow): EndJob {
  return {
    id: row.id,
    scope: toScope(row),
    cause: row.cause,
    ...(row.actor !== null && { actor: row.actor }),
    ...(row.reason !== null && { reason: row.reason }),
    notBefore: row.at,
    revokeOffline: row.revoke_offline === 1,
    state: row.finished_at === null ? 'running' : 'done',
    total: row.total,
    ended: row.ended,
    ...(row.finished_at !== null && { finishedAt: row.finished_at }),
  }
}
