import { LockstepError } from './errors.ts'

/** The member of `events` that makes a JWT a Logout Token (Back-Channel §2.4). */
export const BACKCHANNEL_LOGOUT_EVENT = 'http://schemas.openid.net/event/backchannel-logout'

/** The second member of `events`, with the value `true`, by which Keycloak and Lockstep say that `offline_access` tokens are revoked too. */
export const REVOKE_OFFLINE_EVENT = 'revoke_offline_access'

/**
 * What a first-party RP may learn about a logout beside the standard claims: who and when to the millisecond.
 *
 * Sent only to clients the operator marked with `lockstep_logout_details`, since it names another app.
 */
export interface LogoutDetails {
  /** Epoch milliseconds at which the OP session ended. */
  readonly ended_at_ms: number
  /** Name of the app the End-User signed out of; absent when the logout started at the OP. */
  readonly ended_by?: string
}

/** The claims of a Logout Token (Back-Channel §2.4); `toe` is RFC 8417's time of the event, equal on every attempt. */
export interface LogoutTokenClaims {
  readonly iss: string
  readonly aud: string | readonly string[]
  readonly iat: number
  readonly exp: number
  readonly jti: string
  readonly sub?: string
  readonly sid?: string
  readonly toe?: number
  readonly events: Readonly<Record<string, unknown>>
  readonly lockstep_logout_details?: LogoutDetails
  /** A code that says why; only where the operator grants it (`lockstep_logout_reason`). */
  readonly reason?: string
}

/** Which check refused a Logout Token; one name for each claim or rule of Back-Channel §2.6. */
export type LogoutTokenCheck =
  | 'format'
  | 'size'
  | 'encryption'
  | 'alg'
  | 'typ'
  | 'crit'
  | 'key'
  | 'signature'
  | 'iss'
  | 'aud'
  | 'azp'
  | 'iat'
  | 'exp'
  | 'nbf'
  | 'jti'
  | 'replay'
  | 'toe'
  | 'events'
  | 'nonce'
  | 'sub'
  | 'sid'
  | 'sub_or_sid'

/** A Logout Token that Back-Channel §2.6 says to refuse; `check` names the rule. */
export class LogoutTokenError extends LockstepError {
  readonly check: LogoutTokenCheck

  constructor(check: LogoutTokenCheck, message: string, options?: ErrorOptions) {
    super('logout_token_invalid', message, options)
    this.check = check
  }
}
