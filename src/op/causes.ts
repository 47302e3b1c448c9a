import type { EndCause } from './store/contract.ts'

/** What goes for an end for one cause. */
interface CauseRule {
  /**
   * Whether grants with `offline_access` survive (T1): only what an End-User does in the course of a day leaves them alone.
   * Whatever may mean that somebody else holds a token revokes them.
   */
  readonly offlineSurvives: boolean
  /** Whether it comes from the browser, which can then be shown the frames. */
  readonly inTheBrowser: boolean
}

const inTheBrowser: CauseRule = { offlineSurvives: true, inTheBrowser: true }
const inTheCourseOfADay: CauseRule = { offlineSurvives: true, inTheBrowser: false }
const suspicious: CauseRule = { offlineSurvives: false, inTheBrowser: false }

/** Every cause. */
const rules: Readonly<Record<EndCause, CauseRule>> = {
  rp_initiated: inTheBrowser,
  op_logout: inTheBrowser,
  user_switch: inTheBrowser,
  expired: inTheCourseOfADay,
  password_change: suspicious,
  email_change: suspicious,
  factor_removed: suspicious,
  account_disabled: suspicious,
  account_deleted: suspicious,
  admin: suspicious,
  upstream_logout: suspicious,
  compromise: suspicious,
}

/** True when an end for this cause revokes grants with `offline_access` too (T1; Back-Channel §2.7). */
export function revokesOffline(cause: EndCause): boolean {
  return !rules[cause].offlineSurvives
}

/** True when an end for this cause comes from the End-User's browser, unless somebody else is named as its actor. */
export function comesFromBrowser(cause: EndCause): boolean {
  return rules[cause].inTheBrowser
}

/** True for the name of a cause. */
export function isEndCause(value: unknown): value is EndCause {
  return typeof value === 'string' && Object.hasOwn(rules, value)
}
