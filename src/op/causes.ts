import type { EndCause } from './store/contract.ts'

/**
 * Every cause, and whether grants with `offline_access` survive it (T1): only what an End-User does in the course of a day
 * leaves them alone. Whatever may mean that somebody else holds a token revokes them.
 */
const offlineSurvives: Readonly<Record<EndCause, boolean>> = {
  rp_initiated: true,
  op_logout: true,
  user_switch: true,
  expired: true,
  password_change: false,
  email_change: false,
  factor_removed: false,
  account_disabled: false,
  account_deleted: false,
  admin: false,
  upstream_logout: false,
  compromise: false,
}

/** True when an end for this cause revokes grants with `offline_access` too (T1; Back-Channel §2.7). */
export function revokesOffline(cause: EndCause): boolean {
  return !offlineSurvives[cause]
}

/** True for the name of a cause. */
export function isEndCause(value: unknown): value is EndCause {
  return typeof value === 'string' && Object.hasOwn(offlineSurvives, value)
}
