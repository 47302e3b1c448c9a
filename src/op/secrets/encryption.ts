import { CompactEncrypt, compactDecrypt, errors } from 'jose'
import { LockstepError } from '../../protocol/errors.ts'
import type { OpIssuerStore } from '../store/contract.ts'

/** 256-bit keys: the first encrypts, all decrypt. With none, the text is kept as it is. */
export type EncryptionKeys = readonly Uint8Array[]

/** @throws TypeError naming the option. */
export function checkEncryptionKeys(keys: EncryptionKeys): void {
  if (!Array.isArray(keys) || keys.some((key) => !(key instanceof Uint8Array) || key.length !== 32)) {
    throw new TypeError('encryptionKeys must be Uint8Arrays of 32 bytes')
  }
}

/** Keeps a secret in the store, encrypted under the first of the keys; one that is not is written again. */
export async function keptSecret(
  store: OpIssuerStore,
  name: string,
  { keys, make }: { readonly keys: EncryptionKeys; readonly make: () => string },
): Promise<string> {
  for (;;) {
    const stored = await store.secret(name, () => encrypt(make(), keys))
    const { text, fresh } = await decrypt(stored, keys)
    if (fresh || (await store.replaceSecret(name, stored, await encrypt(text, keys)))) return text
  }
}

const ENCRYPTION = { alg: 'dir', enc: 'A256GCM' } as const
const COMPACT_JWE = /^[\w-]+\.[\w-]*(?:\.[\w-]+){3}$/

/** Encrypts a text that has no such form already (a JWK set, base64url). */
export async function encrypt(text: string, [key]: EncryptionKeys): Promise<string> {
  if (!key) return text
  return new CompactEncrypt(new TextEncoder().encode(text)).setProtectedHeader(ENCRYPTION).encrypt(key)
}

/**
 * Reads what {@link encrypt} wrote; `fresh` when it was written under the first of these keys, and needs no rewriting.
 *
 * @throws LockstepError `secrets_unreadable` when no key fits.
 */
export async function decrypt(stored: string, keys: EncryptionKeys): Promise<{ text: string; fresh: boolean }> {
  if (!COMPACT_JWE.test(stored)) return { text: stored, fresh: keys.length === 0 }
  for (const [index, key] of keys.entries()) {
    try {
      const { plaintext } = await compactDecrypt(stored, key, {
        keyManagementAlgorithms: [ENCRYPTION.alg],
        contentEncryptionAlgorithms: [ENCRYPTION.enc],
      })
      return { text: new TextDecoder().decode(plaintext), fresh: index === 0 }
    } catch (error) {
      if (!(error instanceof errors.JWEDecryptionFailed)) throw error
    }
  }
  throw new LockstepError(
    'secrets_unreadable',
    `The secrets in the store are encrypted and ${keys.length === 0 ? 'no key was given' : 'none of the given keys fits'}: give the encryptionKeys they were written with`,
  )
}
