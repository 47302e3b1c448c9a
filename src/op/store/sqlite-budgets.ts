import { takeFrom } from './attempt-budget.ts'
import type { OpIssuerStore } from './contract.ts'
import type { SqliteContext } from './sqlite-context.ts'

/** Budgets of attempts at URIs that have never answered, in SQLite (T8). */
export function sqliteBudgets(
  context: SqliteContext,
): Pick<OpIssuerStore, 'takeAttempt' | 'noteAnswered' | 'hasAnswered'> {
  const { db, issuer } = context
  const takenUntil = db.prepare<[number, string], { taken_until: number }>(
    'SELECT taken_until FROM attempt_budget WHERE issuer = ? AND name = ?',
  )
  const take = db.prepare<[number, string, number, number]>(
    `INSERT INTO attempt_budget (issuer, name, taken_until, expires_at) VALUES (?, ?, ?, ?)
     ON CONFLICT DO UPDATE SET taken_until = excluded.taken_until, expires_at = excluded.expires_at`,
  )
  const answered = db.prepare<[number, string, string], { found: 1 }>(
    'SELECT 1 AS found FROM answered_uri WHERE issuer = ? AND client_id = ? AND uri = ?',
  )
  const noteAnswered = db.prepare<[number, string, string, number]>(
    `INSERT INTO answered_uri (issuer, client_id, uri, answered_at) VALUES (?, ?, ?, ?)
     ON CONFLICT DO UPDATE SET answered_at = excluded.answered_at`,
  )

  return {
    async takeAttempt(budgets) {
      return context.writeSoon(() => {
        const now = context.now()
        const taken = budgets.map((budget) => takeFrom(budget, takenUntil.get(issuer, budget.name)?.taken_until, now))
        const waits = taken.flatMap((each) => ('retryAt' in each ? [each.retryAt] : []))
        if (waits.length > 0) return Math.max(...waits)
        for (const [i, { name }] of budgets.entries()) {
          const each = taken[i]
          if (each && 'takenUntil' in each) take.run(issuer, name, each.takenUntil, Math.ceil(each.takenUntil / 1000))
        }
        return undefined
      })
    },

    async noteAnswered(clientId, uri) {
      context.writeSoon(() => noteAnswered.run(issuer, clientId, uri, context.now()))
    },

    async hasAnswered(clientId, uri) {
      return context.read(() => answered.get(issuer, clientId, uri) !== undefined)
    },
  }
}
