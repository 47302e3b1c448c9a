import type { Provider as OidcProvider } from 'oidc-provider'
import type { LogoutDetails } from '../protocol/logout-token.ts'
import { base64url } from '../protocol/session-state.ts'
import type { Runtime } from '../runtime/runtime.ts'
import { LOGOUT_DETAILS } from './configuration.ts'
import { nameOf } from './logout-endpoint.ts'
import { mintLogoutToken } from './provider-seam.ts'
import type { ClaimedDelivery } from './store/contract.ts'

/** What the outbox asks about an RP: where it listens, and a Logout Token for this attempt. */
export interface ReceiverParts {
  findReceiver(clientId: string): Promise<{ readonly url: string } | undefined>
  mint(delivery: ClaimedDelivery): Promise<string>
}

/** Answers the outbox's questions from oidc-provider's clients and keys, as they are at the time of the attempt. */
export function receiverOf(provider: OidcProvider, runtime: Pick<Runtime, 'random'>): ReceiverParts {
  return {
    async findReceiver(clientId) {
      const client = await provider.Client.find(clientId)
      return client?.backchannelLogoutUri === undefined ? undefined : { url: client.backchannelLogoutUri }
    },
    async mint(delivery) {
      const client = await provider.Client.find(delivery.clientId)
      if (!client) throw new Error(`client ${delivery.clientId} is gone`)
      const details = client[LOGOUT_DETAILS] === true ? await detailsOf(provider, delivery) : undefined
      return mintLogoutToken(provider, client, delivery, base64url(runtime.random(16)), details)
    },
  }
}

async function detailsOf(provider: OidcProvider, { logout }: ClaimedDelivery): Promise<LogoutDetails> {
  const initiator = logout.initiator === undefined ? undefined : await provider.Client.find(logout.initiator)
  return { ended_at_ms: logout.endedAt, ...(initiator ? { ended_by: nameOf(initiator) } : {}) }
}
