import { type Statement, statement } from '../../runtime/postgres.ts'
import type { SessionRow } from './session-row.ts'

/** A row of a function that says what happened; `handle` is null where there is no RP session in it. */
export type OutcomeRow = { readonly outcome: string } & (SessionRow | { readonly handle: null })

interface FoundRow {
  /** Epoch milliseconds. */
  readonly now: number
  readonly ended_public_id: string | null
  readonly ended: string | null
  readonly ended_expires_at: number | null
}

interface OwedRow {
  readonly id: number
  readonly token: string
  readonly attempts: number
  /** For how many milliseconds it has been owed. */
  readonly age: number
}

// The first value is the client; the last is the time in epoch milliseconds, or null for the database's own.

export const findClient: Statement<{ id: number }> = statement(
  'rp_client',
  'SELECT id FROM rp_client WHERE issuer = $1 AND client_id = $2',
)
export const addClient: Statement<never> = statement(
  'rp_client_add',
  'INSERT INTO rp_client (issuer, client_id) VALUES ($1, $2) ON CONFLICT DO NOTHING',
)

export const now: Statement<{ now: number }> = statement('rp_now', 'SELECT rp_now($1) AS now')

export const create: Statement<OutcomeRow> = statement(
  'rp_create',
  `SELECT outcome, (found).*
   FROM rp_create($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)`,
)

export const get: Statement<FoundRow & (SessionRow | { readonly handle: null })> = statement(
  'rp_get',
  `SELECT rp_now($3) AS now, s.*, e.public_id AS ended_public_id, e.ended, e.expires_at AS ended_expires_at
   FROM (VALUES (1)) AS one
   LEFT JOIN rp_session s ON s.client = $1 AND s.handle = $2
   LEFT JOIN rp_ended e ON e.client = $1 AND e.handle = $2`,
)

/** handle, idle expiry, session_state */
export const update: Statement<never> = statement(
  'rp_update',
  `UPDATE rp_session
   SET idle_expires_at = greatest(idle_expires_at, $3), session_state = coalesce($4, session_state)
   WHERE client = $1 AND handle = $2 AND idle_expires_at > rp_now($5) / 1000.0 AND expires_at > rp_now($5) / 1000.0`,
)

/** handle, lease */
export const claimRefresh: Statement<{ claimed: boolean }> = statement(
  'rp_claim_refresh',
  'SELECT rp_claim_refresh($1, $2, $3, $4) AS claimed',
)

/** handle, tokens, refresh token, offline */
export const saveTokens: Statement<{ saved: boolean }> = statement(
  'rp_save_tokens',
  'SELECT rp_save_tokens($1, $2, $3, $4, $5, $6) AS saved',
)

export const remove: Statement<SessionRow> = statement('rp_delete', 'SELECT * FROM rp_delete($1, $2, $3, $4)')

export const endBy: Statement<OutcomeRow> = statement(
  'rp_end_by',
  'SELECT outcome, (found).* FROM rp_end_by($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, p_sid_reused => $11, p_now => $12)',
)

export const removeBySid: Statement<SessionRow> = statement(
  'rp_delete_by_sid',
  'SELECT * FROM rp_delete_by_sid($1, $2, $3, $4)',
)

export const listBySub: Statement<SessionRow> = statement(
  'rp_list_by_sub',
  `SELECT * FROM rp_session WHERE client = $1 AND sub_key = $2
   AND idle_expires_at > rp_now($3) / 1000.0 AND expires_at > rp_now($3) / 1000.0 ORDER BY created_at DESC`,
)

/** limit, lease */
export const claimOwed: Statement<OwedRow> = statement(
  'rp_claim_owed',
  `UPDATE rp_owed SET due_at = rp_now($4) + $3, attempts = attempts + 1
   WHERE id IN (SELECT id FROM rp_owed WHERE client = $1 AND due_at <= (SELECT rp_now($4)) ORDER BY due_at LIMIT $2
                FOR UPDATE SKIP LOCKED)
   RETURNING id, token, attempts, rp_now($4) - owed_since AS age`,
)
export const forgetOwed: Statement<never> = statement(
  'rp_forget_owed',
  'DELETE FROM rp_owed WHERE client = $1 AND id = $2',
)
/** id, milliseconds from now */
export const putOffOwed: Statement<never> = statement(
  'rp_put_off_owed',
  'UPDATE rp_owed SET due_at = rp_now($4) + $3 WHERE client = $1 AND id = $2',
)
export const nextOwed: Statement<{ wait: number | null }> = statement(
  'rp_next_owed',
  'SELECT min(due_at) - rp_now($2) AS wait FROM rp_owed WHERE client = $1',
)

export const notify: Statement<never> = statement(
  'rp_notify',
  'SELECT pg_notify($1, payload) FROM unnest($2::text[]) AS payload',
)
