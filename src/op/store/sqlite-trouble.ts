import type { OpIssuerStore } from './contract.ts'
import type { SqliteContext } from './sqlite-context.ts'

/** Which RPs answer nothing, since when, and whether that was told, in SQLite. */
export function sqliteTrouble(context: SqliteContext): Pick<OpIssuerStore, 'noteTrouble' | 'endTrouble'> {
  const { db, issuer } = context
  const begin = db.prepare<[number, string, number]>(
    'INSERT INTO client_trouble (issuer, client_id, since) VALUES (?, ?, ?) ON CONFLICT DO NOTHING',
  )
  const tell = db.prepare<[number, number, string, number], { since: number }>(
    `UPDATE client_trouble SET told_at = ? WHERE issuer = ? AND client_id = ? AND told_at IS NULL AND since <= ?
     RETURNING since`,
  )
  const isIn = db.prepare<[number, string], { found: 1 }>(
    'SELECT 1 AS found FROM client_trouble WHERE issuer = ? AND client_id = ?',
  )
  const end = db.prepare<[number, string]>('DELETE FROM client_trouble WHERE issuer = ? AND client_id = ?')
  return {
    async noteTrouble(clientId, tellAfter) {
      return context.writeSoon(() => {
        const now = context.now()
        begin.run(issuer, clientId, now)
        return tell.get(now, issuer, clientId, now - tellAfter)?.since
      })
    },
    async endTrouble(clientId) {
      const isInTrouble = context.read(() => isIn.get(issuer, clientId) !== undefined)
      if (isInTrouble) context.writeSoon(() => end.run(issuer, clientId)) // as a rule it is not, and a write is dear
    },
  }
}
