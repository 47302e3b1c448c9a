import { type Client, errors, type Provider as OidcProvider } from 'oidc-provider'
import { messageOf, sanitize } from '../../runtime/message-of.ts'
import type { OpLog } from '../log.ts'

/** Finds a client's registration; `undefined` when it is gone, or cannot be read now. */
export type FindClient = (clientId: string) => Promise<Client | undefined>

/**
 * Finds clients where a logout must not wait for one of them: what a registration refers to (its `sector_identifier_uri`)
 * may be down just now. Then the operator hears of it, and the client is one that is not known.
 */
export function findClientOf(provider: OidcProvider, log: OpLog): FindClient {
  return async (clientId) => {
    try {
      return await provider.Client.find(clientId)
    } catch (error) {
      log({ event: 'op_failed', task: 'client', clientId, message: clientTrouble(error) })
      return undefined
    }
  }
}

/** Why a registration cannot be read, for the operator: oidc-provider says which member is wrong beside the message. */
export function clientTrouble(error: unknown): string {
  const isRefused = error instanceof errors.InvalidClientMetadata && error.error_description !== undefined
  return isRefused ? sanitize(`${messageOf(error)} (${error.error_description})`) : messageOf(error)
}
