import { createHmac } from 'node:crypto'
import { CompactEncrypt, compactDecrypt, errors } from 'jose'
import type { Sealed } from './store/contract.ts'

/** What a sealed text is for; one purpose's text cannot be opened as another's. */
export type SealPurpose = 'tokens' | 'refresh-token' | 'login' | 'logout'

/** Encrypts what leaves this process: tokens into the store, transactions into cookies (T6, T29). */
export interface Sealer {
  seal(purpose: SealPurpose, value: unknown): Promise<Sealed>
  /** `undefined` when it was not sealed here, for this purpose, with one of the secrets. */
  open(purpose: SealPurpose, text: string): Promise<unknown>
}

/** Makes a sealer: JWE, `dir` with A256GCM. The first secret seals; all of them open, so that secrets can be rotated. */
export function createSealer(secrets: readonly string[]): Sealer {
  const key = (secret: string, purpose: SealPurpose) =>
    Uint8Array.from(createHmac('sha256', secret).update(`lockstep rp ${purpose}`).digest())
  return {
    seal: (purpose, value) =>
      new CompactEncrypt(new TextEncoder().encode(JSON.stringify(value)))
        .setProtectedHeader({ alg: 'dir', enc: 'A256GCM' })
        .encrypt(key(secrets[0] as string, purpose)),
    open: async (purpose, text) => {
      for (const secret of secrets) {
        try {
          const { plaintext } = await compactDecrypt(text, key(secret, purpose), {
            keyManagementAlgorithms: ['dir'],
            contentEncryptionAlgorithms: ['A256GCM'],
          })
          return JSON.parse(new TextDecoder().decode(plaintext))
        } catch (error) {
          if (!(error instanceof errors.JOSEError)) throw error
        }
      }
      return undefined
    },
  }
}
