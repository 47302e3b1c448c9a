import type { Client, Provider as OidcProvider } from 'oidc-provider'
import type { LogoutDetails } from '../../protocol/logout-token.ts'
import { base64url } from '../../protocol/session-state.ts'
import type { Runtime } from '../../runtime/runtime.ts'
import type { BackchannelReceiver } from '../backchannel.ts'
import { revokesOffline } from '../causes.ts'
import {
  FIRST_PARTY,
  IGNORED_CAUSES,
  LOGOUT_DETAILS,
  LOGOUT_REASON,
  REVOKE_OFFLINE,
} from '../clients/client-metadata.ts'
import { nameOf } from '../clients/client-name.ts'
import type { ReadClient } from '../clients/read-client.ts'
import type { Receiver } from '../fan-out.ts'
import { mintLogoutToken } from '../provider-seam.ts'
import { erasureIn } from '../pseudonym.ts'
import type { ClaimedDelivery, OpIssuerStore } from '../store/contract.ts'

/** What the outbox asks about an RP: where it listens, and a Logout Token for this attempt. */
export interface ReceiverParts {
  findReceiver(clientId: string): Promise<BackchannelReceiver | undefined>
  mint(delivery: ClaimedDelivery): Promise<string>
}

/** What the answers come from. */
export interface ReceiverSources {
  readonly runtime: Pick<Runtime, 'random'>
  readonly store: Pick<OpIssuerStore, 'getErasure'>
  readonly readClient: ReadClient
  /**
   * The ids of the clients that the operator wrote down. All others registered themselves, but for those that the operator has
   * marked as first-party in the store: no client can take that mark for itself (T13).
   */
  readonly written: ReadonlySet<string>
}

/** Answers the outbox's questions from the registrations and oidc-provider's keys, as they are at the time of the attempt. */
export function receiverOf(
  provider: OidcProvider,
  { runtime, store, readClient, written }: ReceiverSources,
): ReceiverParts {
  async function isErased(accountId: string): Promise<boolean> {
    const id = erasureIn(accountId)
    return id !== undefined && (await store.getErasure(id)) !== undefined
  }

  return {
    async findReceiver(clientId) {
      const client = await readClient(clientId)
      if (client?.backchannelLogoutUri === undefined) return undefined
      return {
        url: client.backchannelLogoutUri,
        isRegistered: !written.has(clientId) && client[FIRST_PARTY] !== true,
        isFirstParty: client[FIRST_PARTY] === true,
      }
    },
    async mint(delivery) {
      const client = await readClient(delivery.clientId)
      if (!client) throw new Error(`client ${delivery.clientId} is gone`)
      const { accountId, cause, reason = cause } = delivery.logout
      return mintLogoutToken(provider, client, delivery, {
        jti: base64url(runtime.random(16)),
        ...(client[LOGOUT_DETAILS] === true && { details: await detailsOf(readClient, delivery) }),
        ...(client[LOGOUT_REASON] === true && { reason }),
        revokeOffline: client[REVOKE_OFFLINE] === true && revokesOffline(cause),
        isErased: await isErased(accountId),
      })
    },
  }
}

/** How a client wants to hear of logouts, as it is registered now. */
export async function wishesOf(readClient: ReadClient, clientId: string): Promise<Receiver | undefined> {
  const client = await readClient(clientId)
  if (!client) return undefined
  const { backchannelLogoutUri, [IGNORED_CAUSES]: ignored } = client
  return { backchannelLogoutUri, frontchannelLogoutUri: frontchannelLogoutUriOf(client), [IGNORED_CAUSES]: ignored }
}

/** Where a client's front-channel logout is; oidc-provider hands members it does not know through by their wire names. */
export function frontchannelLogoutUriOf(client: Client): string | undefined {
  const uri = client.frontchannel_logout_uri
  return typeof uri === 'string' ? uri : undefined
}

async function detailsOf(readClient: ReadClient, { logout }: ClaimedDelivery): Promise<LogoutDetails> {
  const initiator = logout.initiator === undefined ? undefined : await readClient(logout.initiator)
  return { ended_at_ms: logout.endedAt, ...(initiator ? { ended_by: nameOf(initiator) } : {}) }
}
