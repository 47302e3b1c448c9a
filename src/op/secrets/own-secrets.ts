import { base64url } from '../../protocol/session-state.ts'
import type { OpIssuerStore } from '../store/contract.ts'
import { type EncryptionKeys, keptSecret } from './encryption.ts'

/** What stays the same from the first start on, beside the keys of `openSecrets`. */
export interface OwnSecrets {
  /** Makes the browser state of an OP session. */
  readonly browserState: string
  /** Seals what travels through the browser from one page to the next; 256 bits. */
  readonly sealing: Uint8Array
  /** Encrypts what clients must show or be shown; 256 bits. Other `encryptionKeys` encrypt it anew, and nothing else. */
  readonly bearers: Uint8Array
}

interface OwnSecretsParts {
  readonly store: OpIssuerStore
  readonly keys: EncryptionKeys
  readonly random: (bytes: number) => Uint8Array
}

/** Reads them when they are first asked for; a store that failed is asked again. */
export function ownSecretsOf({ store, keys, random }: OwnSecretsParts): () => Promise<OwnSecrets> {
  const kept = (name: string): Promise<string> => keptSecret(store, name, { keys, make: () => base64url(random(32)) })
  const read = async (): Promise<OwnSecrets> => {
    const [browserState, sealing, bearers] = await Promise.all([
      kept('browser-state'),
      kept('logout-request'),
      kept('bearers'),
    ])
    return { browserState, sealing: Buffer.from(sealing, 'base64url'), bearers: Buffer.from(bearers, 'base64url') }
  }
  let secrets: Promise<OwnSecrets> | undefined
  return () => {
    secrets ??= read().catch((error: unknown) => {
      secrets = undefined
      throw error
    })
    return secrets
  }
}
