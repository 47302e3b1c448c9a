import { statement } from '../../runtime/postgres.ts'
import { takeFrom } from './attempt-budget.ts'
import type { OpIssuerStore } from './contract.ts'
import type { PostgresContext } from './postgres-context.ts'

// In one order everywhere, so that nodes which want the same budgets wait for each other and never for good.
const touch = statement(
  'budget_touch',
  `INSERT INTO attempt_budget (issuer, name, taken_until, expires_at)
   SELECT $1, name, 0, $3 FROM unnest($2::text[]) AS wanted (name) ORDER BY name COLLATE "C" ON CONFLICT DO NOTHING`,
)
const lock = statement<{ name: string; taken_until: number }>(
  'budget_lock',
  `SELECT name, taken_until FROM attempt_budget WHERE issuer = $1 AND name = ANY($2::text[]) ORDER BY name FOR UPDATE`,
)
const take = statement(
  'budget_take',
  `UPDATE attempt_budget b SET taken_until = taken.until, expires_at = taken.until / 1000 + $4
   FROM unnest($2::text[], $3::bigint[]) AS taken (name, until) WHERE b.issuer = $1 AND b.name = taken.name`,
)
const answered = statement<{ found: 1 }>(
  'uri_answered',
  'SELECT 1 AS found FROM answered_uri WHERE issuer = $1 AND client_id = $2 AND uri = $3',
)
const noteAnswered = statement(
  'uri_note_answered',
  `INSERT INTO answered_uri (issuer, client_id, uri, answered_at) VALUES ($1, $2, $3, $4)
   ON CONFLICT (issuer, client_id, uri) DO UPDATE SET answered_at = excluded.answered_at`,
)

/** Seconds a budget is kept after it is full again: the nodes' clocks, by which it is cleaned away, may be that far off. */
const margin = 3600

/** Budgets of attempts at URIs that have never answered, in PostgreSQL: one for all nodes, by the clock they share (T8). */
export function postgresBudgets(
  context: PostgresContext,
): Pick<OpIssuerStore, 'takeAttempt' | 'noteAnswered' | 'hasAnswered'> {
  return {
    async takeAttempt(budgets) {
      const clock = await context.clock()
      const names = budgets.map(({ name }) => name)
      return context.writeSoon(async (queries) => {
        await queries.change(touch, names, context.seconds() + margin)
        const rows = await queries.all(lock, names)
        const known = new Map(rows.map(({ name, taken_until }) => [name, taken_until]))
        const taken = budgets.map((budget) => takeFrom(budget, known.get(budget.name), clock.now))
        const waits = taken.flatMap((each) => ('retryAt' in each ? [each.retryAt] : []))
        if (waits.length > 0) return clock.toNode(Math.max(...waits))
        const until = taken.flatMap((each) => ('takenUntil' in each ? [each.takenUntil] : []))
        await queries.change(take, names, until, margin)
        return undefined
      })
    },

    async noteAnswered(clientId, uri) {
      await context.each.change(noteAnswered, clientId, uri, context.now())
    },

    async hasAnswered(clientId, uri) {
      return (await context.each.first(answered, clientId, uri)) !== undefined
    },
  }
}
