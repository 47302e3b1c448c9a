import type { LoggedInRp } from './contract.ts'

/** First `sid` and first grant win; that a grant survives logout is remembered for that grant only. */
export function mergeRp(first: LoggedInRp, later: LoggedInRp): LoggedInRp {
  const grantId = first.grantId ?? later.grantId
  const persistsLogout = first.persistsLogout || (later.persistsLogout && later.grantId === grantId)
  if (grantId === first.grantId && persistsLogout === first.persistsLogout) return first
  return { clientId: first.clientId, sid: first.sid, ...(grantId !== undefined && { grantId }), persistsLogout }
}
