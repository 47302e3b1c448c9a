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
import type { SqliteContext } from './sqlite-context.ts'
import type { RecordJob } from './sqlite-end-all.ts'
import { isModelRefused } from './sqlite-refusals.ts'
import type { SqliteTombstones } from './sqlite-tombstones.ts'

type Running = ErasureRow & { account_id: string }

/** The erasure of accounts in SQLite (T30). */
export function sqliteErase(context: SqliteContext, tombstones: SqliteTombstones, recordJob: RecordJob): ErasureStore {
  const { db, issuer } = context
  const insert = db.prepare<[number, string, string, string, number, number], ErasureRow>(
    `INSERT INTO erasure (issuer, id, job_id, account_id, at, after_kind, after_handle, due_at)
     VALUES (?, ?, ?, ?, ?, '', '', ?) RETURNING *`,
  )
  const due = db.prepare<[number, number], Running>(
    'SELECT * FROM erasure WHERE issuer = ? AND due_at <= ? ORDER BY due_at, seq LIMIT 1',
  )
  const walked = db.prepare<[string | null, string, number]>(
    'UPDATE erasure SET after_kind = ?, after_handle = ? WHERE seq = ?',
  )
  const walkAgain = db.prepare<[number, number]>(
    `UPDATE erasure SET after_kind = '', after_handle = '', walk_at = ? WHERE seq = ?`,
  )
  const again = db.prepare<[number, number]>('UPDATE erasure SET due_at = ? WHERE seq = ?')
  const finish = db.prepare<[number, number], ErasureRow>(
    'UPDATE erasure SET account_id = NULL, due_at = NULL, finished_at = ? WHERE seq = ? RETURNING *',
  )
  const nextDue = db.prepare<[number], { at: number | null }>(
    'SELECT min(due_at) AS at FROM erasure WHERE issuer = ? AND due_at IS NOT NULL',
  )
  const byId = db.prepare<[number, string], ErasureRow>('SELECT * FROM erasure WHERE issuer = ? AND id = ?')
  const latest = db.prepare<[number, number], ErasureRow>(
    'SELECT * FROM erasure WHERE issuer = ? ORDER BY seq DESC LIMIT ?',
  )
  const endOfPart = db.prepare<[number, string | null, string], { kind: string; handle: string }>(
    `SELECT kind, handle FROM model WHERE issuer = ? AND (kind, handle) > (?, ?)
     ORDER BY kind, handle LIMIT 1 OFFSET ${modelsAtOnce - 1}`,
  )
  type Part = { issuer: number; kind: string | null; handle: string; toKind: string; toHandle: string }
  const ofAccount = db.prepare<[Part & { account: string }], { kind: string; handle: string; grant_id: string | null }>(
    `SELECT m.kind, m.handle, CASE WHEN m.kind <> 'Interaction' THEN m.grant_id END AS grant_id FROM model m
     WHERE m.issuer = @issuer AND (m.kind, m.handle) > (@kind, @handle) AND (m.kind, m.handle) <= (@toKind, @toHandle)
       AND m.account_id = @account AND ${isModelRefused}`,
  )
  const removeModel = db.prepare<[number, string, string]>(
    'DELETE FROM model WHERE issuer = ? AND kind = ? AND handle = ?',
  )
  const removeGrant = db.prepare<[number, string]>('DELETE FROM model WHERE issuer = ? AND grant_id = ?')
  const settled = db.prepare<[number, string, number], { cursor: number }>(
    `SELECT cursor FROM logout l WHERE issuer = ? AND account_id = ?
       AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.logout = l.cursor AND d.due_at IS NOT NULL) LIMIT ?`,
  )
  const rename = db.prepare<{ cursor: number; account: string; pseudonym: string }>(
    `UPDATE logout SET account_id = @pseudonym, actor = CASE actor WHEN @account THEN @pseudonym ELSE actor END
     WHERE cursor = @cursor`,
  )
  const attempts = db.prepare<[number]>(
    'DELETE FROM attempt WHERE delivery IN (SELECT seq FROM delivery WHERE logout = ?)',
  )
  const inWords = db.prepare<[number], { seq: number; last_outcome: string }>(
    `SELECT seq, last_outcome FROM delivery WHERE logout = ? AND last_outcome LIKE '%errorDescription%'`,
  )
  const keepOutcome = db.prepare<[string, number]>('UPDATE delivery SET last_outcome = ? WHERE seq = ?')
  const named = db.prepare<[number, string], { found: 1 }>(
    'SELECT 1 AS found FROM logout WHERE issuer = ? AND account_id = ? LIMIT 1',
  )
  const jobRuns = db.prepare<[number, string], { found: 1 }>(
    `SELECT 1 AS found FROM end_job WHERE issuer = ? AND scope = 'account' AND name = ? AND finished_at IS NULL LIMIT 1`,
  )
  const youngestJob = db.prepare<[number, string], { at: number | null }>(
    `SELECT max(at) AS at FROM end_job WHERE issuer = ? AND scope = 'account' AND name = ?`,
  )
  const renameJobs = db.prepare<{ issuer: number; account: string; pseudonym: string }>(
    `UPDATE end_job SET name = @pseudonym, actor = CASE actor WHEN @account THEN @pseudonym ELSE actor END
     WHERE issuer = @issuer AND scope = 'account' AND name = @account`,
  )

  /** Removes the account's models that are refused in the next part of all; true while there are more parts. */
  function eraseModels({ seq, account_id: account, after_kind: kind, after_handle: handle }: Running): boolean {
    if (kind === null) return false
    const end = endOfPart.get(issuer, kind, handle)
    const { kind: toKind, handle: toHandle } = end ?? { kind: lastKind, handle: '' }
    const found = ofAccount.all({ issuer, kind, handle, toKind, toHandle, account })
    const grants = new Set(found.flatMap(({ grant_id: grant }) => (grant === null ? [] : [grant])))
    tombstones.put('grant', [...grants], 0)
    for (const grant of grants) removeGrant.run(issuer, grant)
    for (const model of found) removeModel.run(issuer, model.kind, model.handle)
    walked.run(end ? toKind : null, toHandle, seq)
    return true
  }

  /** Renames the account in logouts that owe nothing; true when there may be more of them. */
  function eraseLogouts({ id, account_id: account }: Running, limit: number): boolean {
    const found = settled.all(issuer, account, limit)
    for (const { cursor } of found) {
      rename.run({ cursor, account, pseudonym: pseudonymOf(id) })
      attempts.run(cursor)
      for (const { seq, last_outcome } of inWords.all(cursor)) keepOutcome.run(withoutWords(last_outcome), seq)
    }
    return found.length === limit
  }

  /** What comes next when there is nothing more to erase at this moment. */
  function next(row: Running, now: number): LastStep {
    const { account_id: account } = row
    if (named.get(issuer, account) || jobRuns.get(issuer, account)) return 'wait'
    return lastStep(row, youngestJob.get(issuer, account)?.at ?? null, now)
  }

  return {
    async eraseAccount(accountId, ending) {
      return context.write(() => {
        const job = recordJob({ accountId }, ending, [])
        const row = insert.get(issuer, context.newId(), job.id, accountId, job.at, job.at)
        return toErasure(row as ErasureRow)
      })
    },

    async eraseSome({ limit, pause, wait }) {
      return context.write(() => {
        const now = context.now()
        const row = due.get(issuer, now)
        if (!row) return undefined
        const step = eraseModels(row) || eraseLogouts(row, limit) ? 'go on' : next(row, now)
        if (step === 'finish') {
          renameJobs.run({ issuer, account: row.account_id, pseudonym: pseudonymOf(row.id) })
          return toErasure(finish.get(now, row.seq) as ErasureRow)
        }
        if (step === 'walk') walkAgain.run(now, row.seq)
        again.run(now + Math.ceil(step === 'wait' ? wait : pause), row.seq)
        return toErasure(row)
      })
    },

    async nextErasureAt() {
      return context.read(() => nextDue.get(issuer)?.at ?? undefined)
    },

    async getErasure(id) {
      return context.read(() => {
        const row = byId.get(issuer, id)
        return row && toErasure(row)
      })
    },

    async listErasures(limit) {
      return context.read(() => latest.all(issuer, limit).map((row) => toErasure(row)))
    },
  }
}
