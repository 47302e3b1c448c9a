import type { LoggedInRp, PlannedDelivery } from './store/contract.ts'

/** How an RP wants to hear of a logout. */
export interface Receiver {
  readonly backchannelLogoutUri?: string | undefined
}

/**
 * Plans who must hear that an OP session ended, and how: one delivery per logged-in RP with a `backchannel_logout_uri`.
 *
 * An RP whose metadata is not known here (it logged in while they were being read) is planned too: the worker that
 * delivers looks again, and telling it late beats not telling it.
 *
 * @see {@link https://openid.net/specs/openid-connect-backchannel-1_0.html#Backchannel | Back-Channel Logout 1.0 §2.3}
 */
export function planFanOut(
  rps: readonly LoggedInRp[],
  receivers: ReadonlyMap<string, Receiver | undefined>,
): readonly PlannedDelivery[] {
  return rps
    .filter(({ clientId }) => !receivers.has(clientId) || receivers.get(clientId)?.backchannelLogoutUri)
    .map(({ clientId, sid }) => ({ clientId, sid }))
}
