import { type Client, errors } from 'oidc-provider'
import { messageOf, sanitize } from '../../runtime/message-of.ts'
import type { OpLog } from '../log.ts'
import type { ReadClient } from './read-client.ts'

/** Finds a client's registration; `undefined` when it is gone, or cannot be read now. */
export type FindClient = (clientId: string) => Promise<Client | undefined>

/**
 * Finds clients where a logout must not fail for one of them: its registration may be one that the rules refuse. Then the
 * operator hears of it, and the client is one that is not known.
 */
export function findClientOf(readClient: ReadClient, log: OpLog): FindClient {
  return async (clientId) => {
    try {
      return await readClient(clientId)
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
