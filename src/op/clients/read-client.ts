import type { Adapter, Client, ClientMetadata, Provider as OidcProvider } from 'oidc-provider'
import { createLatest } from '../latest.ts'
import { clientFrom } from '../provider-seam.ts'

/**
 * Reads a client's registration from what the operator wrote down or the store holds; `undefined` when it is gone.
 *
 * @throws InvalidClientMetadata when the rules refuse it, and whatever the store throws.
 */
export type ReadClient = (clientId: string) => Promise<Client | undefined>

/** Clients that are kept ready: each is some kilobytes. */
const keptReady = 1_000

/**
 * Makes the look-up of clients for logouts and deliveries, which sends no request. oidc-provider's own asks the host of a
 * `sector_identifier_uri` before it gives a client out, and asks again after each failure: a host that hangs would hold up
 * a commit, and one that fails could be asked without a budget (T8). Its answer is about who may register which
 * redirect URIs, was asked for at registration, and is asked for again where somebody signs in.
 *
 * @param written The clients that the operator wrote down.
 * @param stored oidc-provider's adapter for clients.
 */
export function clientReader(
  provider: OidcProvider,
  written: readonly ClientMetadata[],
  stored: Pick<Adapter, 'find'>,
): ReadClient {
  const byId = new Map(written.map((metadata) => [metadata.client_id, structuredClone(metadata)]))
  const ready = createLatest<{ readonly registration: string; readonly client: Client }>(keptReady)

  return async (clientId) => {
    const metadata = byId.get(clientId) ?? (await stored.find(clientId))
    if (!metadata) return undefined
    const registration = JSON.stringify(metadata)
    const known = ready.get(clientId)
    if (known?.registration === registration) return known.client // it keeps what it fetched from its jwks_uri
    const client = clientFrom(provider, metadata)
    ready.set(clientId, { registration, client })
    return client
  }
}
