import type { SqliteContext } from './sqlite-context.ts'

/** Seconds between two turns of cleaning. */
const every = 60
/** Rows of one table that one turn takes away: a request that happens to pay for it pays a few milliseconds. */
const rows = 200
/** Seconds an expired OP session stays in the file: a request that loaded it in time finds it expired rather than gone. */
const grace = 86_400

/**
 * Takes away what has expired, a little at a time. The outbox and its facts stay, and so do OP sessions in which somebody is
 * signed in, however long ago they expired: those are ended, and their RPs told.
 */
export function sqliteCleaning(): (context: SqliteContext) => void {
  let next = 0
  let turn: ((now: number) => boolean) | undefined
  return (context) => {
    const now = context.seconds()
    if (now < next) return
    turn ??= prepareTurn(context)
    const more = turn(now)
    next = more ? now : now + every
  }
}

/** One turn as one transaction; its answer says whether there is more to take away. */
function prepareTurn({ db, issuer }: SqliteContext): (now: number) => boolean {
  const models = db.prepare<[number, number, number]>(
    `DELETE FROM model WHERE (issuer, kind, handle) IN
       (SELECT issuer, kind, handle FROM model WHERE issuer = ? AND expires_at <= ? LIMIT ?)`,
  )
  const tombstones = db.prepare<[number, number, number]>(
    `DELETE FROM tombstone WHERE (issuer, kind, name) IN
       (SELECT issuer, kind, name FROM tombstone WHERE issuer = ? AND expires_at <= ? LIMIT ?)`,
  )
  const budgets = db.prepare<[number, number, number]>(
    `DELETE FROM attempt_budget WHERE (issuer, name) IN
       (SELECT issuer, name FROM attempt_budget WHERE issuer = ? AND expires_at <= ? LIMIT ?)`,
  )
  const opSessions = db.prepare<[number, number, number], { uid: string }>(
    `DELETE FROM op_session WHERE rowid IN
       (SELECT rowid FROM op_session WHERE issuer = ? AND expires_at <= ? AND account_id IS NULL LIMIT ?) RETURNING uid`,
  )
  const handles = db.prepare<[number, string]>('DELETE FROM op_session_handle WHERE issuer = ? AND uid = ?')
  const rps = db.prepare<[number, string]>('DELETE FROM op_session_client WHERE issuer = ? AND uid = ?')
  // Logins that were recorded for an OP session which was then never saved: its browser went away in between.
  const pending = db.prepare<[number, number, number], { uid: string }>(
    `DELETE FROM op_session_pending WHERE (issuer, uid) IN
       (SELECT issuer, uid FROM op_session_pending WHERE issuer = ? AND expires_at <= ? LIMIT ?) RETURNING uid`,
  )
  return (now) =>
    db
      .transaction(() => {
        const gone = opSessions.all(issuer, now - grace, rows)
        for (const { uid } of gone) {
          handles.run(issuer, uid)
          rps.run(issuer, uid)
        }
        const unsaved = pending.all(issuer, now, rows)
        for (const { uid } of unsaved) rps.run(issuer, uid)
        const counts = [
          gone.length,
          unsaved.length,
          models.run(issuer, now, rows).changes,
          tombstones.run(issuer, now, rows).changes,
          budgets.run(issuer, now, rows).changes,
        ]
        return counts.some((count) => count === rows)
      })
      .immediate()
}
