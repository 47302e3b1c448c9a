import type { Provider } from 'lockstep/op'
import { type ClientMetadata, errors } from 'oidc-provider'
import type { ServerConfig } from './config.ts'
import { ConfigError } from './config-error.ts'

/**
 * Lets oidc-provider judge each configured client at start instead of at its first login, and finds metadata it would
 * drop without a word: a misspelt `backchannel_logout_uri` is a logout that nobody hears.
 *
 * @throws ConfigError naming client and key.
 */
export async function checkClients(op: Provider, { source, clients }: ServerConfig): Promise<void> {
  for (const metadata of clients) {
    const name = `client "${metadata.client_id}"`
    const known = await metadataOf(op, metadata.client_id).catch((cause: unknown) => {
      if (!(cause instanceof errors.InvalidClientMetadata)) throw cause
      throw new ConfigError(
        `${source}: ${name} is refused: ${cause.error_description ?? cause.message}. Correct its metadata.`,
        { cause },
      )
    })
    const unknown = Object.keys(metadata).find((key) => metadata[key] !== undefined && !(key in known))
    if (unknown !== undefined) {
      throw new ConfigError(
        `${source}: "${unknown}" of ${name} is not client metadata this server knows. Remove it or correct its spelling.`,
      )
    }
  }
}

async function metadataOf(op: Provider, clientId: string): Promise<ClientMetadata> {
  const client = await op.Client.find(clientId)
  if (!client) throw new TypeError(`oidc-provider does not know its static client ${clientId}`)
  return client.metadata()
}
