import type { OpIssuerStore } from './contract.ts'
import { type DeliveryRow, deliveryColumns, toDelivery } from './delivery-row.ts'
import { outcomeAtHorizon, rowsToLookAt } from './give-up.ts'
import type { SqliteContext } from './sqlite-context.ts'

/** Gives up what nobody would try before its horizon is over, in SQLite. */
export function sqliteGiveUp(context: SqliteContext): Pick<OpIssuerStore, 'giveUp'> {
  const { db, issuer } = context
  const waiting = db.prepare<[number, string, number, number], DeliveryRow & { due_at: number }>(
    `SELECT ${deliveryColumns} FROM delivery d JOIN logout l ON l.cursor = d.logout
     WHERE d.issuer = ? AND d.client_id = ? AND d.due_at IS NOT NULL AND (d.due_at, d.seq) > (?, ?)
     ORDER BY d.due_at, d.seq LIMIT ${rowsToLookAt}`,
  )
  const giveUp = db.prepare<[number, string, number]>(
    `UPDATE delivery SET state = 'dead', due_at = NULL, final_at = ?, last_outcome = ? WHERE seq = ?`,
  )
  return {
    async giveUp(clientId, begun, cursor = { dueAt: -1, seq: -1 }) {
      return context.writeSoon(() => {
        const rows = waiting.all(issuer, clientId, cursor.dueAt, cursor.seq)
        const deliveries = rows.flatMap((row) => {
          const outcome = outcomeAtHorizon(row, begun)
          if (!outcome) return []
          const gone = {
            state: 'dead',
            due_at: null,
            final_at: context.now(),
            last_outcome: JSON.stringify(outcome),
          } as const
          giveUp.run(gone.final_at, gone.last_outcome, row.seq)
          return [toDelivery({ ...row, ...gone })]
        })
        const end = rows.length === rowsToLookAt ? rows.at(-1) : undefined
        return { deliveries, ...(end && { cursor: { dueAt: end.due_at, seq: end.seq } }) }
      })
    },
  }
}
