import { pseudonymOf } from '../pseudonym.ts'
import type { OpIssuerStore } from './contract.ts'
import type { SqliteContext } from './sqlite-context.ts'
import { isModelRefused } from './sqlite-refusals.ts'

/** What is kept for a time only, in SQLite (T30). */
export function sqliteForget(context: SqliteContext): Pick<OpIssuerStore, 'forget'> {
  const { db, issuer } = context
  const attempts = db.prepare<[number, number, number]>(
    `DELETE FROM attempt WHERE (delivery, number) IN
       (SELECT delivery, number FROM attempt WHERE issuer = ? AND finished_at < ? LIMIT ?)`,
  )
  const oldLogouts = db.prepare<[number, number, number], { cursor: number }>(
    `SELECT cursor FROM logout l WHERE issuer = ? AND ended_at < ?
       AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.logout = l.cursor AND d.due_at IS NOT NULL)
     ORDER BY ended_at LIMIT ?`,
  )
  const attemptsOf = db.prepare<[number]>(
    'DELETE FROM attempt WHERE delivery IN (SELECT seq FROM delivery WHERE logout = ?)',
  )
  const deliveriesOf = db.prepare<[number]>('DELETE FROM delivery WHERE logout = ?')
  const logout = db.prepare<[number]>('DELETE FROM logout WHERE cursor = ?')
  const oldJobs = db.prepare<[number, number, number, number], { seq: number }>(
    'SELECT seq FROM end_job WHERE issuer = ? AND finished_at < ? AND needed_until < ? LIMIT ?',
  )
  // What they refuse has expired, but for what never does: without them it would be there again.
  const refusedForEver = db.prepare<[number, number]>(
    `DELETE FROM model WHERE (issuer, kind, handle) IN
       (SELECT m.issuer, m.kind, m.handle FROM model m
        WHERE m.issuer = ? AND m.expires_at IS NULL AND m.account_id IS NOT NULL AND ${isModelRefused} LIMIT ?)`,
  )
  const sparedBy = db.prepare<[number]>('DELETE FROM spared WHERE job = ?')
  const job = db.prepare<[number]>('DELETE FROM end_job WHERE seq = ?')
  // A logout that has its pseudonym needs it: without it the pseudonym would pass for an account.
  const oldErasures = db.prepare<[number, number, number]>(
    `DELETE FROM erasure WHERE seq IN
       (SELECT e.seq FROM erasure e WHERE e.issuer = ? AND e.finished_at < ?
          AND NOT EXISTS (SELECT 1 FROM logout l WHERE l.issuer = e.issuer AND l.account_id = '${pseudonymOf('')}' || e.id)
        LIMIT ?)`,
  )
  const oldUris = db.prepare<[number, number, number]>(
    `DELETE FROM answered_uri WHERE (issuer, client_id, uri) IN
       (SELECT issuer, client_id, uri FROM answered_uri WHERE issuer = ? AND answered_at < ? LIMIT ?)`,
  )
  // of RPs that are owed nothing any more, or that are gone
  const oldTrouble = db.prepare<[number, number]>('DELETE FROM client_trouble WHERE issuer = ? AND since < ?')

  return {
    async forget(before, limit) {
      return context.write(() => {
        const gone = attempts.run(issuer, before.attempts, limit).changes
        const logouts = oldLogouts.all(issuer, before.logouts, limit)
        for (const { cursor } of logouts) {
          attemptsOf.run(cursor)
          deliveriesOf.run(cursor)
          logout.run(cursor)
        }
        const jobs = oldJobs.all(issuer, before.logouts, context.seconds(), limit)
        const refused = jobs.length > 0 ? refusedForEver.run(issuer, limit).changes : 0
        for (const { seq } of refused === limit ? [] : jobs) {
          sparedBy.run(seq)
          job.run(seq)
        }
        const erasures = oldErasures.run(issuer, before.logouts, limit).changes
        const uris = oldUris.run(issuer, before.logouts, limit).changes
        oldTrouble.run(issuer, before.logouts)
        return [gone, logouts.length, refused, jobs.length, erasures, uris].some((count) => count === limit)
      })
    },
  }
}
