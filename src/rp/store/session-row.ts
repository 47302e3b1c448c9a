import type { SessionEnd } from '../../protocol/session-document.ts'
import type { StoredRpSession } from './contract.ts'
import type { KeptRpSession } from './rules.ts'

/** A row of `rp_session`, in SQLite and in PostgreSQL. */
export interface SessionRow {
  readonly handle: string
  readonly public_id: string
  readonly sub: string
  readonly sid: string | null
  readonly first_iat: number
  readonly created_at: number
  readonly requested_at: number
  readonly idle_expires_at: number
  readonly expires_at: number
  readonly data: string
  readonly session_state: string | null
  readonly tokens: string
  readonly refresh_token: string | null
  readonly refresh_offline: number | boolean | null
  /** How the front channel ended it, as JSON. */
  readonly framed: string | null
}

export function toSession(row: SessionRow): StoredRpSession {
  return {
    handle: row.handle,
    publicId: row.public_id,
    sub: row.sub,
    ...(row.sid === null ? {} : { sid: row.sid }),
    firstIat: row.first_iat,
    createdAt: row.created_at,
    requestedAt: row.requested_at,
    idleExpiresAt: row.idle_expires_at,
    expiresAt: row.expires_at,
    data: row.data,
    ...(row.session_state === null ? {} : { sessionState: row.session_state }),
    tokens: row.tokens,
    ...(row.refresh_token === null
      ? {}
      : { refreshToken: { sealed: row.refresh_token, offline: Boolean(row.refresh_offline) } }),
  }
}

export function toKept(row: SessionRow): KeptRpSession {
  return { ...toSession(row), ...(row.framed === null ? {} : { framed: JSON.parse(row.framed) as SessionEnd }) }
}
