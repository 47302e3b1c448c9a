import type { Statement } from 'better-sqlite3'
import type { Sqlite } from '../../runtime/sqlite.ts'
import type { OwedKind } from './contract.ts'
import type { SessionRow } from './session-row.ts'

interface OwedRow {
  readonly id: number
  readonly debt: string
  readonly attempts: number
  readonly owed_since: number
}

interface EndRow {
  readonly public_id: string
  readonly ended: string
  readonly revoke_offline: number
}

/** A sid that an RP session has besides that of its login. */
interface FurtherSidRow {
  readonly sid: string
  readonly asked_at: number
  readonly of_grant: number
}

/** Every statement of the RP's SQLite store, prepared once. The first parameter is the client, unless it says otherwise. */
export interface Statements {
  readonly insert: Statement<unknown[]>
  readonly get: Statement<[number, string], SessionRow>
  readonly getEnd: Statement<[number, string, number], EndRow>
  /** idle expiry, session_state, client, handle, now, now */
  readonly update: Statement<[number, string | null, number, string, number, number]>
  readonly furtherSids: Statement<[number, string], FurtherSidRow>
  readonly forgetSids: Statement<[number, string]>
  /** client, handle, sid, when the browser was asked, whether it is of the grant, how many were learnt since */
  readonly addSid: Statement<[number, string, string, number, number, number]>
  /** claimed until, client, handle, now in milliseconds, now, now */
  readonly claimRefresh: Statement<[number, number, string, number, number, number]>
  /** tokens, refresh token, offline, client, handle */
  readonly saveTokens: Statement<[string, string | null, number | null, number, string]>
  readonly remove: Statement<[number, string]>
  /** client, handle, public id, end, expiry, whether refresh tokens with offline_access go too */
  readonly keepEnd: Statement<[number, string, string, string, number, number]>
  /** end, client, handle */
  readonly frame: Statement<[string, number, string]>
  /** client, client, sid, client, sid */
  readonly bySid: Statement<[number, number, string, number, string], SessionRow>
  readonly bySub: Statement<[number, string], SessionRow>
  readonly seenJti: Statement<[number, string, number]>
  readonly claimJti: Statement<[number, string, number]>
  /** client, kind, name, arrival in milliseconds, expiry, watermark */
  readonly mark: Statement<[number, string, string, number, number, number]>
  /** client, sid, sub, now */
  readonly marks: Statement<[number, string | null, string, number], { kind: 'sid' | 'sub'; watermark: number }>
  readonly wasLoggedOut: Statement<[number, string | null, string, number, number]>
  /** client, sid, now */
  readonly logoutOfSid: Statement<[number, string, number], { arrivedAt: number; watermark: number }>
  /** client, kind, debt, now, now */
  readonly owe: Statement<[number, OwedKind, string, number, number]>
  /** lease end, client, kind, now, limit */
  readonly claimOwed: Statement<[number, number, OwedKind, number, number], OwedRow>
  readonly forgetOwed: Statement<[number, number]>
  /** due, client, id */
  readonly putOffOwed: Statement<[number, number, number]>
  readonly nextOwed: Statement<[number, OwedKind], { due_at: number | null }>
  /** client, sid, sub, now, now, client, sid, sub, now, now */
  readonly holdsGrant: Statement<
    [number, string, string, number, number, number, string, string, number, number],
    { found: 1 }
  >
  /** client, sub, now, now */
  readonly holdsAnyGrant: Statement<[number, string, number, number], { found: 1 }>
  /** now in milliseconds, now in milliseconds, until when they expired: what the sweep of RP sessions takes away */
  readonly oweExpired: Statement<[number, number, number]>
  /** until when they expired */
  readonly sweepSessions: Statement<[number]>
  /** now */
  readonly sweep: readonly Statement<[number]>[]
}

export function prepareStatements(db: Sqlite): Statements {
  const expired = (table: string, key: string) =>
    `SELECT ${key} FROM ${table} WHERE expires_at <= ? ORDER BY expires_at, ${key} LIMIT 20`
  const sweep = (table: string, key: string) =>
    db.prepare<[number]>(`DELETE FROM ${table} WHERE (${key}) IN (${expired(table, key)})`)
  const holder = 'refresh_token IS NOT NULL AND idle_expires_at > ? AND expires_at > ?'
  return {
    insert: db.prepare(
      `INSERT INTO rp_session (client, handle, public_id, sub, sid, first_iat, created_at, requested_at, idle_expires_at,
       expires_at, data, session_state, tokens, refresh_token, refresh_offline)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    ),
    get: db.prepare('SELECT * FROM rp_session WHERE client = ? AND handle = ?'),
    getEnd: db.prepare(
      'SELECT public_id, ended, revoke_offline FROM rp_ended WHERE client = ? AND handle = ? AND expires_at > ?',
    ),
    update: db.prepare(
      `UPDATE rp_session SET idle_expires_at = max(idle_expires_at, ?), session_state = coalesce(?, session_state)
       WHERE client = ? AND handle = ? AND idle_expires_at > ? AND expires_at > ?`,
    ),
    furtherSids: db.prepare(
      'SELECT sid, asked_at, of_grant FROM rp_further_sid WHERE client = ? AND handle = ? ORDER BY learnt_since',
    ),
    forgetSids: db.prepare('DELETE FROM rp_further_sid WHERE client = ? AND handle = ?'),
    addSid: db.prepare('INSERT INTO rp_further_sid VALUES (?, ?, ?, ?, ?, ?)'),
    claimRefresh: db.prepare(
      `UPDATE rp_session SET refreshing_until = ?
       WHERE client = ? AND handle = ? AND refreshing_until <= ? AND idle_expires_at > ? AND expires_at > ?`,
    ),
    saveTokens: db.prepare(
      `UPDATE rp_session SET tokens = ?, refresh_token = ?, refresh_offline = ?, refreshing_until = 0
       WHERE client = ? AND handle = ?`,
    ),
    remove: db.prepare('DELETE FROM rp_session WHERE client = ? AND handle = ?'),
    keepEnd: db.prepare('INSERT OR REPLACE INTO rp_ended VALUES (?, ?, ?, ?, ?, ?)'),
    frame: db.prepare('UPDATE rp_session SET idle_expires_at = 0, framed = ? WHERE client = ? AND handle = ?'),
    // Indexes by name: without statistics SQLite goes by the primary key, through all that a client has.
    bySid: db.prepare(
      `SELECT * FROM rp_session WHERE client = ? AND handle IN (
         SELECT handle FROM rp_session INDEXED BY rp_session_sid WHERE client = ? AND sid = ?
         UNION SELECT handle FROM rp_further_sid INDEXED BY rp_further_sid_sid WHERE client = ? AND sid = ?)`,
    ),
    bySub: db.prepare(
      'SELECT * FROM rp_session INDEXED BY rp_session_sub WHERE client = ? AND sub = ? ORDER BY created_at DESC',
    ),
    seenJti: db.prepare('SELECT 1 FROM rp_jti WHERE client = ? AND jti = ? AND expires_at > ?'),
    claimJti: db.prepare('INSERT OR REPLACE INTO rp_jti VALUES (?, ?, ?)'),
    mark: db.prepare(
      `INSERT INTO rp_logged_out VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
       arrived_at = max(arrived_at, excluded.arrived_at), expires_at = max(expires_at, excluded.expires_at),
       watermark = max(watermark, excluded.watermark)`,
    ),
    marks: db.prepare(
      `SELECT kind, watermark FROM rp_logged_out
       WHERE client = ? AND ((kind = 'sid' AND value = ?) OR (kind = 'sub' AND value = ?)) AND expires_at > ?`,
    ),
    wasLoggedOut: db.prepare(
      `SELECT 1 FROM rp_logged_out WHERE client = ? AND ((kind = 'sid' AND value = ?) OR (kind = 'sub' AND value = ?))
       AND arrived_at > ? AND expires_at > ?`,
    ),
    logoutOfSid: db.prepare(
      `SELECT arrived_at AS arrivedAt, watermark FROM rp_logged_out
       WHERE client = ? AND kind = 'sid' AND value = ? AND expires_at > ?`,
    ),
    owe: db.prepare('INSERT INTO rp_owed (client, kind, debt, owed_since, attempts, due_at) VALUES (?, ?, ?, ?, 0, ?)'),
    claimOwed: db.prepare(
      `UPDATE rp_owed SET due_at = ?, attempts = attempts + 1
       WHERE id IN (SELECT id FROM rp_owed WHERE client = ? AND kind = ? AND due_at <= ? ORDER BY due_at LIMIT ?)
       RETURNING id, debt, attempts, owed_since`,
    ),
    forgetOwed: db.prepare('DELETE FROM rp_owed WHERE client = ? AND id = ?'),
    putOffOwed: db.prepare('UPDATE rp_owed SET due_at = ? WHERE client = ? AND id = ?'),
    nextOwed: db.prepare('SELECT min(due_at) AS due_at FROM rp_owed WHERE client = ? AND kind = ?'),
    holdsGrant: db.prepare(
      `SELECT 1 AS found FROM rp_session INDEXED BY rp_session_sid WHERE client = ? AND sid = ? AND sub = ? AND ${holder}
       UNION ALL SELECT 1 FROM rp_further_sid AS further INDEXED BY rp_further_sid_sid
       CROSS JOIN rp_session USING (client, handle)
       WHERE client = ? AND further.sid = ? AND further.of_grant = 1 AND sub = ? AND ${holder} LIMIT 1`,
    ),
    holdsAnyGrant: db.prepare(
      `SELECT 1 AS found FROM rp_session INDEXED BY rp_session_sub WHERE client = ? AND sub = ? AND ${holder} LIMIT 1`,
    ),
    oweExpired: db.prepare(
      `INSERT INTO rp_owed (client, kind, debt, owed_since, attempts, due_at)
       SELECT client, 'revocation', refresh_token, ?, 0, ? FROM rp_session
       WHERE (client, handle) IN (${expired('rp_session', 'client, handle')}) AND refresh_offline = 0`,
    ),
    sweepSessions: sweep('rp_session', 'client, handle'),
    sweep: [
      sweep('rp_ended', 'client, handle'),
      sweep('rp_logged_out', 'client, kind, value'),
      sweep('rp_jti', 'client, jti'),
    ],
  }
}
