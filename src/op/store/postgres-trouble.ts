import { statement } from '../../runtime/postgres.ts'
import type { OpIssuerStore } from './contract.ts'
import type { PostgresContext } from './postgres-context.ts'

const note = statement<{ since: number }>(
  'trouble_note',
  `INSERT INTO client_trouble AS known (issuer, client_id, since, failed_at) VALUES ($1, $2, $3, $3)
   ON CONFLICT (issuer, client_id) DO UPDATE SET failed_at = $3,
     since = CASE WHEN known.failed_at <= $4 THEN $3 ELSE known.since END,
     told_at = CASE WHEN known.failed_at > $4 OR known.failed_at IS NULL THEN known.told_at END
   RETURNING since`,
)
const tell = statement<{ told: 1 }>(
  'trouble_tell',
  `UPDATE client_trouble SET told_at = $3
   WHERE issuer = $1 AND client_id = $2 AND told_at IS NULL AND since <= $4 RETURNING 1 AS told`,
)
const end = statement('trouble_end', 'DELETE FROM client_trouble WHERE issuer = $1 AND client_id = $2')

/** Which RPs answer nothing, since when, and whether that was told, in PostgreSQL. */
export function postgresTrouble(context: PostgresContext): Pick<OpIssuerStore, 'noteTrouble' | 'endTrouble'> {
  return {
    async noteTrouble(clientId, { tellAfter, pause }) {
      const { now, toNode } = await context.clock()
      return context.writeSoon(async (queries) => {
        const { since = now } = (await queries.first(note, clientId, now, now - Math.ceil(pause))) ?? {}
        const told = await queries.first(tell, clientId, now, now - Math.ceil(tellAfter))
        return { since: toNode(since), isToTell: told !== undefined }
      })
    },
    async endTrouble(clientId) {
      await context.each.change(end, clientId) // asked at each answer, so one round trip; as a rule there is nothing to delete
    },
  }
}
