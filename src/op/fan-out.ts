import { IGNORED_CAUSES } from './clients/client-metadata.ts'
import type { EndCause, LoggedInRp, PlannedDelivery } from './store/contract.ts'

/** How an RP wants to hear of a logout. */
export interface Receiver {
  readonly backchannelLogoutUri?: string | undefined
  readonly frontchannelLogoutUri?: string | undefined
  /** Causes of which the operator keeps this RP ignorant. */
  readonly [IGNORED_CAUSES]?: unknown
}

/**
 * Plans who must hear that an OP session ended, and how: a Logout Token for each logged-in RP with a
 * `backchannel_logout_uri`, a frame for those that have only a `frontchannel_logout_uri`, and nothing where the operator
 * keeps an RP ignorant of this cause.
 *
 * An RP that has both gets the Logout Token: it is answered, sent again, and needs no cookie that a browser may withhold.
 * An RP whose metadata is not known here (it logged in while they were being read) is planned too: the worker that
 * delivers looks again, and telling it late beats not telling it.
 *
 * @see {@link https://openid.net/specs/openid-connect-backchannel-1_0.html#Backchannel | Back-Channel Logout 1.0 §2.3}
 * @see {@link https://openid.net/specs/openid-connect-frontchannel-1_0.html#OPLogout | Front-Channel Logout 1.0 §3}
 */
export function planFanOut(
  rps: readonly LoggedInRp[],
  receivers: ReadonlyMap<string, Receiver | undefined>,
  cause: EndCause,
): readonly PlannedDelivery[] {
  return rps.flatMap(({ clientId, sid }): PlannedDelivery[] => {
    const receiver = receivers.get(clientId)
    if (!receivers.has(clientId)) return [{ clientId, sid, mechanism: 'backchannel' }]
    const ignored = receiver?.[IGNORED_CAUSES]
    if (Array.isArray(ignored) && ignored.includes(cause)) return []
    if (receiver?.backchannelLogoutUri) return [{ clientId, sid, mechanism: 'backchannel' }]
    return receiver?.frontchannelLogoutUri ? [{ clientId, sid, mechanism: 'frontchannel' }] : []
  })
}
