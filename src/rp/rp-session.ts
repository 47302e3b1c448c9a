import type { SessionEnd } from '../protocol/session-document.ts'
import type { StoredRpSession } from './store/contract.ts'

/** An RP session as the app sees it: who is signed in at this browser. Times are epoch seconds. */
export interface RpSession<Data = unknown> {
  /** Public name of this RP session; fit for logs and pages, worthless as a credential. */
  readonly id: string
  readonly sub: string
  /** That of the login; the OP may know this RP session by others, too, since then. */
  readonly sid?: string
  /** What `mapSession` made at login. */
  readonly data: Data
  /** `iat` of the first ID Token: what a logout by `sub` is held against. */
  readonly firstIat: number
  readonly createdAt: number
  /** When it ends unless it is used before. */
  readonly expiresAt: number
}

/** What a request's cookie stands for. `end` says how an RP session ended whose cookie the browser still has. */
export type CurrentRpSession<Data> =
  | { readonly state: 'alive'; readonly session: RpSession<Data> }
  | { readonly state: 'ended'; readonly end: SessionEnd }
  | { readonly state: 'none' }

/** Shows a stored RP session to the app. `Data` is what its own `mapSession` made before it went into the store. */
export function showRpSession<Data>(stored: StoredRpSession): RpSession<Data> {
  return {
    id: stored.publicId,
    sub: stored.sub,
    ...(stored.sid === undefined ? {} : { sid: stored.sid }),
    data: JSON.parse(stored.data).value as Data,
    firstIat: stored.firstIat,
    createdAt: stored.createdAt,
    expiresAt: expiryOf(stored),
  }
}

/** Epoch seconds at which an RP session ends by itself. */
export function expiryOf(stored: Pick<StoredRpSession, 'idleExpiresAt' | 'expiresAt'>): number {
  return Math.min(stored.idleExpiresAt, stored.expiresAt)
}
