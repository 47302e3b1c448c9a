import { type ClientMetadata, errors } from 'oidc-provider'
import { isEndCause } from '../causes.ts'

/** Client metadata: the Logout Token may carry who and when (see `LogoutDetails`). Only the operator grants it. */
export const LOGOUT_DETAILS = 'lockstep_logout_details'
/** Client metadata: the Logout Token carries `reason`, a code that says why (T30). Only the operator grants it. */
export const LOGOUT_REASON = 'lockstep_logout_reason'
/** Client metadata: a list of causes for which the RP is not told. Only the operator decides that: it mutes logouts. */
export const IGNORED_CAUSES = 'lockstep_ignored_causes'
/** Client metadata: the RP asks to hear when its `offline_access` tokens were revoked too, as Keycloak says it (T1). */
export const REVOKE_OFFLINE = 'lockstep_revoke_offline_access'
/** Client metadata: the RP is the operator's own, and gets a `traceparent` with each Logout Token (T13). Only the operator says so. */
export const FIRST_PARTY = 'lockstep_first_party'

/** The names of Lockstep's own client metadata. */
export const CLIENT_METADATA: readonly string[] = [
  LOGOUT_DETAILS,
  LOGOUT_REASON,
  IGNORED_CAUSES,
  REVOKE_OFFLINE,
  FIRST_PARTY,
]

const operatorOnly: Readonly<Record<string, string>> = {
  [LOGOUT_DETAILS]: 'it names other apps',
  [LOGOUT_REASON]: 'it tells why somebody was signed out',
  [IGNORED_CAUSES]: 'it mutes logouts',
  [FIRST_PARTY]: 'it gives away trace ids',
}

/**
 * Checks one of Lockstep's own client metadata and fills in its default.
 *
 * @param registersItself True for dynamic registration, false for what the operator configures.
 * @throws oidc-provider's InvalidClientMetadata
 */
export function checkClientMetadata(
  registersItself: boolean,
  key: string,
  value: unknown,
  metadata: ClientMetadata,
): void {
  if (key === IGNORED_CAUSES) {
    if (value === undefined) {
      metadata[key] = []
      return
    }
    if (!Array.isArray(value) || !value.every(isEndCause)) {
      throw new errors.InvalidClientMetadata(`${key} must be an array of causes`)
    }
  } else if (value === undefined) {
    metadata[key] = false
    return
  } else if (typeof value !== 'boolean') {
    throw new errors.InvalidClientMetadata(`${key} must be a boolean`)
  }
  const why = operatorOnly[key]
  const isGranted = Array.isArray(value) ? value.length > 0 : value
  if (why !== undefined && isGranted && registersItself) {
    throw new errors.InvalidClientMetadata(`${key} can only be granted by the operator: ${why}`)
  }
}
