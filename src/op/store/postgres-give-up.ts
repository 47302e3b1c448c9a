import { statement } from '../../runtime/postgres.ts'
import type { OpIssuerStore } from './contract.ts'
import { type DeliveryRow, deliveryColumns, toDelivery } from './delivery-row.ts'
import { outcomeAtHorizon, rowsToLookAt } from './give-up.ts'
import type { PostgresContext } from './postgres-context.ts'

interface WaitingRow extends DeliveryRow {
  due_at: number
}

const waiting = statement<WaitingRow>(
  'give_up_waiting',
  `SELECT ${deliveryColumns} FROM delivery d JOIN logout l ON l.cursor = d.logout
   WHERE d.issuer = $1 AND d.client_id = $2 AND d.due_at IS NOT NULL AND (d.due_at, d.seq) > ($3, $4)
   ORDER BY d.due_at, d.seq LIMIT ${rowsToLookAt}`,
)
// What another node has taken meanwhile, or holds in its hands at this moment, is left to it.
const giveUp = statement<{ seq: number }>(
  'give_up',
  `UPDATE delivery SET state = 'dead', due_at = NULL, final_at = $2, last_outcome = gone.outcome
   FROM (SELECT d.seq, wanted.outcome FROM unnest($3::bigint[], $4::int[], $5::text[]) AS wanted (seq, fence, outcome)
         JOIN delivery d ON d.seq = wanted.seq
         WHERE d.issuer = $1 AND d.state = 'due' AND d.fence = wanted.fence FOR UPDATE OF d SKIP LOCKED) AS gone
   WHERE delivery.seq = gone.seq RETURNING delivery.seq`,
)

/** Gives up what nobody would try before its horizon is over, in PostgreSQL. */
export function postgresGiveUp(context: PostgresContext): Pick<OpIssuerStore, 'giveUp'> {
  return {
    async giveUp(clientId, begun, cursor = { dueAt: -1, seq: -1 }) {
      const { toNode } = await context.clock()
      const now = context.now()
      const rows = await context.each.all(waiting, clientId, cursor.dueAt, cursor.seq)
      const overdue = rows.flatMap((row) => {
        const outcome = outcomeAtHorizon(row, begun)
        return outcome
          ? [{ ...row, state: 'dead' as const, due_at: null, final_at: now, last_outcome: JSON.stringify(outcome) }]
          : []
      })
      const values = [
        overdue.map(({ seq }) => seq),
        overdue.map(({ fence }) => fence),
        overdue.map(({ last_outcome }) => last_outcome),
      ]
      const given =
        overdue.length === 0 ? [] : await context.writeSoon((queries) => queries.all(giveUp, now, ...values))
      const gone = new Set(given.map(({ seq }) => seq))
      const end = rows.length === rowsToLookAt ? rows.at(-1) : undefined
      return {
        deliveries: overdue.filter(({ seq }) => gone.has(seq)).map((row) => toDelivery(row, toNode)),
        ...(end && { cursor: { dueAt: end.due_at, seq: end.seq } }),
      }
    },
  }
}
