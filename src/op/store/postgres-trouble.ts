import { statement } from '../../runtime/postgres.ts'
import type { OpIssuerStore } from './contract.ts'
import type { PostgresContext } from './postgres-context.ts'

const begin = statement(
  'trouble_begin',
  'INSERT INTO client_trouble (issuer, client_id, since) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING',
)
const tell = statement<{ since: number }>(
  'trouble_tell',
  `UPDATE client_trouble SET told_at = $3
   WHERE issuer = $1 AND client_id = $2 AND told_at IS NULL AND since <= $4 RETURNING since`,
)
const end = statement('trouble_end', 'DELETE FROM client_trouble WHERE issuer = $1 AND client_id = $2')

/** Which RPs answer nothing, since when, and whether that was told, in PostgreSQL. */
export function postgresTrouble(context: PostgresContext): Pick<OpIssuerStore, 'noteTrouble' | 'endTrouble'> {
  return {
    async noteTrouble(clientId, tellAfter) {
      const { now, toNode } = await context.clock()
      return context.writeSoon(async (queries) => {
        await queries.change(begin, clientId, now)
        const told = await queries.first(tell, clientId, now, now - Math.ceil(tellAfter))
        return told && toNode(told.since)
      })
    },
    async endTrouble(clientId) {
      await context.each.change(end, clientId) // asked at each answer, so one round trip; as a rule there is nothing to delete
    },
  }
}
