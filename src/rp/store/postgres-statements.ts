import { type Statement, statement } from '../../runtime/postgres.ts'
import type { AddSidResult, OwedKind, SaveTokensResult } from './contract.ts'
import type { SessionRow } from './session-row.ts'

/** A row of a function that says what happened; `handle` is null where there is no RP session in it. */
export type OutcomeRow = { readonly outcome: string } & (SessionRow | { readonly handle: null })

interface FoundRow {
  /** The handle that was asked for. */
  readonly asked: string
  /** Epoch milliseconds. */
  readonly now: number
  readonly ended_public_id: string | null
  readonly ended: string | null
  readonly ended_expires_at: number | null
}

interface OwedRow {
  readonly id: number
  readonly debt: string
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

/** handles */
export const get: Statement<FoundRow & (SessionRow | { readonly handle: null })> = statement(
  'rp_get',
  `SELECT asked.handle AS asked, clock.now, s.*, e.public_id AS ended_public_id, e.ended, e.expires_at AS ended_expires_at
   FROM (SELECT rp_now($3) AS now) AS clock, unnest($2::text[]) AS asked (handle)
   LEFT JOIN rp_session s ON s.client = $1 AND s.handle = asked.handle
   LEFT JOIN rp_ended e ON e.client = $1 AND e.handle = asked.handle`,
)

/** handle, idle expiry, session_state */
export const update: Statement<never> = statement(
  'rp_update',
  `UPDATE rp_session s
   SET idle_expires_at = greatest(idle_expires_at, $3), session_state = coalesce($4, session_state)
   WHERE client = $1 AND handle = $2 AND rp_is_live(s, rp_now($5))`,
)

/** handle, key of the sid, when it was asked for, whether it is of the grant, whether a sid is reused */
export const addSid: Statement<{ outcome: AddSidResult }> = statement(
  'rp_add_sid',
  'SELECT rp_add_sid($1, $2, $3, $4, $5, $6, $7) AS outcome',
)

/** handle, lease */
export const claimRefresh: Statement<{ claimed: boolean }> = statement(
  'rp_claim_refresh',
  'SELECT rp_claim_refresh($1, $2, $3, $4) AS claimed',
)

/** handle, tokens, refresh token, offline, the refresh token that was used */
export const saveTokens: Statement<{ outcome: SaveTokensResult }> = statement(
  'rp_save_tokens',
  'SELECT rp_save_tokens($1, $2, $3, $4, $5, $6, $7) AS outcome',
)

export const remove: Statement<SessionRow> = statement('rp_delete', 'SELECT * FROM rp_delete($1, $2, $3, $4, $5)')

export const endBy: Statement<OutcomeRow> = statement(
  'rp_end_by',
  'SELECT outcome, (found).* FROM rp_end_by($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)',
)

export const removeBySid: Statement<SessionRow> = statement(
  'rp_delete_by_sid',
  'SELECT * FROM rp_delete_by_sid($1, $2, $3, $4)',
)

export const listBySub: Statement<SessionRow> = statement(
  'rp_list_by_sub',
  `SELECT * FROM rp_session s WHERE client = $1 AND sub_key = $2 AND rp_is_live(s, rp_now($3))
   ORDER BY created_at DESC`,
)

/**
 * key of the sub, keys of the sids
 *
 * A login that is not committed yet is not seen, nor is one that the OP has answered and the store has not heard of. No lock
 * could change that, as the OP is told later still: then that login's refresh is refused, and no token is left alive.
 */
export const isGrantInUse: Statement<{ found: boolean }> = statement(
  'rp_is_grant_in_use',
  `SELECT EXISTS (SELECT FROM rp_session s WHERE client = $1 AND sub_key = $2 AND handle = ANY (ARRAY(
     SELECT handle FROM rp_session WHERE client = $1 AND sid_key = ANY ($3)
     UNION ALL SELECT handle FROM rp_further_sid WHERE client = $1 AND sid_key = ANY ($3) AND of_grant
     UNION ALL SELECT handle FROM rp_session WHERE client = $1 AND sub_key = $2 AND cardinality($3::text[]) = 0))
   AND refresh_token IS NOT NULL AND rp_is_live(s, rp_now($4))) AS found`,
)

interface MarkRow {
  readonly kind: 'sid' | 'sub'
  readonly name_key: string
}

/** The logouts that named a sid or a sub. */
export const marks: Statement<MarkRow & { watermark: number }> = statement(
  'rp_marks',
  `SELECT kind, name_key, watermark FROM rp_logged_out
   WHERE client = $1 AND ((kind = 'sid' AND name_key = $2) OR (kind = 'sub' AND name_key = $3))
     AND expires_at > rp_now($4) / 1000.0`,
)
/** The latest logouts since a time, up to a limit. */
export const arrivals: Statement<MarkRow & { arrived_at: number }> = statement(
  'rp_arrivals',
  `SELECT kind, name_key, arrived_at FROM rp_logged_out WHERE client = $1 AND arrived_at >= $2
   ORDER BY arrived_at DESC LIMIT $3`,
)

/** refresh token */
export const oweToken: Statement<never> = statement('rp_owe_token', 'SELECT rp_owe($1, $2, rp_now($3))')

/** Statements on what is owed. */
export interface OwedStatements {
  /** limit, lease */
  readonly claim: Statement<OwedRow>
  readonly forget: Statement<never>
  /** id, milliseconds from now */
  readonly putOff: Statement<never>
  readonly next: Statement<{ wait: number | null }>
}

function owedStatements(table: string, debt: string): OwedStatements {
  return {
    claim: statement(
      `${table}_claim`,
      `UPDATE ${table} SET due_at = rp_now($4) + $3, attempts = attempts + 1
       WHERE id IN (SELECT id FROM ${table} WHERE client = $1 AND due_at <= (SELECT rp_now($4)) ORDER BY due_at LIMIT $2
                    FOR UPDATE SKIP LOCKED)
       RETURNING id, ${debt} AS debt, attempts, rp_now($4) - owed_since AS age`,
    ),
    forget: statement(`${table}_forget`, `DELETE FROM ${table} WHERE client = $1 AND id = $2`),
    putOff: statement(`${table}_put_off`, `UPDATE ${table} SET due_at = rp_now($4) + $3 WHERE client = $1 AND id = $2`),
    next: statement(`${table}_next`, `SELECT min(due_at) - rp_now($2) AS wait FROM ${table} WHERE client = $1`),
  }
}

export const owed: Readonly<Record<OwedKind, OwedStatements>> = {
  revocation: owedStatements('rp_owed', 'token'),
  downstream: owedStatements('rp_owed_downstream', 'debt'),
}

export const notify: Statement<never> = statement(
  'rp_notify',
  'SELECT pg_notify($1, payload) FROM unnest($2::text[]) AS payload',
)
