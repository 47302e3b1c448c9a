import type { ClientMetadata } from 'oidc-provider'
import type { OpLog } from '../log.ts'
import type { OpIssuerStore } from '../store/contract.ts'
import { clientTrouble } from './find-client.ts'

/** What the look through the stored clients works with. */
export interface StoredClientsParts {
  readonly store: Pick<OpIssuerStore, 'listModels'>
  /** Holds a client's metadata against Lockstep's rules; throws where one refuses it. */
  readonly check: (metadata: ClientMetadata) => void
  readonly log: OpLog
}

/** Clients read at once. */
const PART = 100
/** Clients that are named one by one; of more only the number is said. */
const NAMED = 20

/**
 * Looks once through the clients in the store: one that was stored before Lockstep, or by a tool, may have a logout URI that its rules
 * refuse. Such a client holds up no logout, but nobody signs in at it; the operator is to learn that at the start, and not
 * from its users.
 *
 * @returns what looks at the next part; it answers whether there are more.
 */
export function storedClientsLook({ store, check, log }: StoredClientsParts): () => Promise<boolean> {
  let after: string | undefined = ''
  let refused = 0

  return async () => {
    if (after === undefined) return false
    const part = await store.listModels('Client', { after, limit: PART })
    for (const { payload } of part) {
      const message = whyRefused({ ...payload, client_id: String(payload.client_id) })
      if (message === undefined) continue
      refused += 1
      if (refused <= NAMED) log({ event: 'client_refused', clientId: String(payload.client_id), message })
    }
    after = part.length === PART ? part.at(-1)?.handle : undefined
    if (after === undefined && refused > NAMED) log({ event: 'clients_refused', count: refused })
    return after !== undefined
  }

  function whyRefused(metadata: ClientMetadata): string | undefined {
    try {
      check(structuredClone(metadata)) // the rules fill in defaults
      return undefined
    } catch (error) {
      return clientTrouble(error)
    }
  }
}
