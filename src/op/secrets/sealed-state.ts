import { createHmac } from 'node:crypto'
import { EncryptJWT, errors, jwtDecrypt } from 'jose'

const ENCRYPTION = { alg: 'dir', enc: 'A256GCM' } as const

/**
 * Seals what oidc-provider keeps in an OP session between two requests under the value of the OP cookie, which the store
 * does not have: in a user switch it names the new user's interaction, which is worth a login to who steals it (T6).
 */
export async function sealState(state: Record<string, unknown>, cookie: string): Promise<string> {
  return new EncryptJWT({ state }).setProtectedHeader(ENCRYPTION).encrypt(keyOf(cookie))
}

/** Opens what {@link sealState} made; `undefined` when it was sealed under another value of the OP cookie. */
export async function unsealState(sealed: string, cookie: string): Promise<Record<string, unknown> | undefined> {
  try {
    const { payload } = await jwtDecrypt<{ state: Record<string, unknown> }>(sealed, keyOf(cookie), {
      keyManagementAlgorithms: [ENCRYPTION.alg],
      contentEncryptionAlgorithms: [ENCRYPTION.enc],
    })
    return payload.state
  } catch (error) {
    if (error instanceof errors.JWEDecryptionFailed) return undefined
    throw error
  }
}

function keyOf(cookie: string): Uint8Array {
  return createHmac('sha256', cookie).update('state of the OP session').digest()
}
