import type { OpIssuerStore } from './contract.ts'
import type { SqliteContext } from './sqlite-context.ts'

/** Which RPs answer nothing, since when, and whether that was told, in SQLite. */
export function sqliteTrouble(context: SqliteContext): Pick<OpIssuerStore, 'noteTrouble' | 'endTrouble'> {
  const { db, issuer } = context
  const note = db.prepare<[{ issuer: number; clientId: string; now: number; before: number }], { since: number }>(
    `INSERT INTO client_trouble (issuer, client_id, since, failed_at) VALUES (@issuer, @clientId, @now, @now)
     ON CONFLICT (issuer, client_id) DO UPDATE SET failed_at = @now,
       since = CASE WHEN failed_at <= @before THEN @now ELSE since END,
       told_at = CASE WHEN failed_at > @before OR failed_at IS NULL THEN told_at END
     RETURNING since`,
  )
  const tell = db.prepare<[number, number, string, number]>(
    'UPDATE client_trouble SET told_at = ? WHERE issuer = ? AND client_id = ? AND told_at IS NULL AND since <= ?',
  )
  const isIn = db.prepare<[number, string], { found: 1 }>(
    'SELECT 1 AS found FROM client_trouble WHERE issuer = ? AND client_id = ?',
  )
  const end = db.prepare<[number, string]>('DELETE FROM client_trouble WHERE issuer = ? AND client_id = ?')
  return {
    async noteTrouble(clientId, { tellAfter, pause }) {
      return context.writeSoon(() => {
        const now = context.now()
        const { since = now } = note.get({ issuer, clientId, now, before: now - pause }) ?? {}
        return { since, isToTell: tell.run(now, issuer, clientId, now - tellAfter).changes > 0 }
      })
    },
    async endTrouble(clientId) {
      const isInTrouble = context.read(() => isIn.get(issuer, clientId) !== undefined)
      if (isInTrouble) context.writeSoon(() => end.run(issuer, clientId)) // as a rule it is not, and a write is dear
    },
  }
}
