import type { AdapterPayload } from 'oidc-provider'
import { decrypt, encrypt } from './secrets/encryption.ts'

/** True for the kinds of models that have something to encrypt. */
export function keepsBearers(kind: string): boolean {
  return kind === 'Client' || kind === 'BackchannelAuthenticationRequest'
}

/**
 * Encrypts what a model must have back in clear, and a thief of the store must not have: the secret of a client that
 * registered itself, and the token with which a CIBA client is called back (T6). Everything else that is worth something
 * to its bearer is kept as a hash.
 *
 * @param key 256 bits; `undefined` when the OP was given no `encryptionKeys`.
 * @throws TypeError naming `encryptionKeys` when there is something to encrypt and no key.
 */
export async function sealBearers(kind: string, payload: AdapterPayload, key: BearerKey): Promise<AdapterPayload> {
  return changeBearers(kind, payload, async (value) => {
    const secret = await key?.()
    if (!secret) throw new TypeError(`encryptionKeys are missing: a ${kind} with a secret cannot be stored without`)
    return encrypt(value, [secret])
  })
}

/**
 * Undoes {@link sealBearers}; what was stored before there was a key comes as it is.
 *
 * @throws LockstepError `secrets_unreadable` when it was encrypted under another key.
 */
export async function openBearers(kind: string, payload: AdapterPayload, key: BearerKey): Promise<AdapterPayload> {
  return changeBearers(kind, payload, async (value) => {
    const secret = await key?.()
    return (await decrypt(value, secret ? [secret] : [])).text
  })
}

/** Gets the key when something is to be encrypted or read. */
export type BearerKey = (() => Promise<Uint8Array>) | undefined

async function changeBearers(
  kind: string,
  payload: AdapterPayload,
  change: (value: string) => Promise<string>,
): Promise<AdapterPayload> {
  if (kind === 'Client') {
    const { client_secret: secret } = payload
    return typeof secret === 'string' ? { ...payload, client_secret: await change(secret) } : payload
  }
  if (kind === 'BackchannelAuthenticationRequest') {
    const token = payload.params?.client_notification_token
    if (typeof token !== 'string') return payload
    return { ...payload, params: { ...payload.params, client_notification_token: await change(token) } }
  }
  return payload
}
