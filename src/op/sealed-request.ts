import { EncryptJWT, errors, jwtDecrypt } from 'jose'

/** A logout request between the question and the answer, bound to the OP session that was asked. */
export interface PendingLogout {
  readonly uid: string
  readonly clientId?: string
  readonly postLogoutRedirectUri?: string
  readonly state?: string
}

/** Seconds the user has to answer. */
const LIFETIME = 900

const ENCRYPTION = { alg: 'dir', enc: 'A256GCM' } as const

/**
 * Seals a pending logout, so that it travels through the browser instead of a store: an anonymous request stores nothing
 * (T29), any number of tabs can ask at once, and only a page of this OP session holds a value that opens (CSRF).
 */
export async function seal(pending: PendingLogout, key: Uint8Array, now: number): Promise<string> {
  return new EncryptJWT({ pending })
    .setProtectedHeader(ENCRYPTION)
    .setExpirationTime(Math.floor(now / 1000) + LIFETIME)
    .encrypt(key)
}

/** Opens what {@link seal} made; `undefined` when it is forged, of another OP or too old. */
export async function unseal(sealed: string, key: Uint8Array, now: number): Promise<PendingLogout | undefined> {
  try {
    const { payload } = await jwtDecrypt<{ pending: PendingLogout }>(sealed, key, {
      keyManagementAlgorithms: [ENCRYPTION.alg],
      contentEncryptionAlgorithms: [ENCRYPTION.enc],
      currentDate: new Date(now),
    })
    return payload.pending
  } catch (error) {
    if (error instanceof errors.JOSEError) return undefined
    throw error
  }
}
