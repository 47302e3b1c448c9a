import { compactDecrypt, decodeProtectedHeader, errors } from 'jose'
import { LockstepError } from '../protocol/errors.ts'
import { LogoutTokenError } from '../protocol/logout-token.ts'

/** A private key of this client, for what the OP encrypts to it (the client's `jwks` has the public half). */
export interface DecryptionKey {
  readonly key: CryptoKey
  /** The registered `id_token_encrypted_response_alg`, such as `RSA-OAEP-256` or `ECDH-ES`; nothing else is accepted. */
  readonly alg: string
  readonly kid?: string
}

/** What an OP may encrypt the content with; all that jose knows. */
export const CONTENT_ENCRYPTION: readonly string[] = [
  'A128CBC-HS256',
  'A192CBC-HS384',
  'A256CBC-HS512',
  'A128GCM',
  'A192GCM',
  'A256GCM',
]

/**
 * The signed ID Token inside an encrypted one: only that is an `id_token_hint` (Core §3.1.2.1). A plain one is refused where
 * encryption was negotiated (Core §3.1.3.7 (1)), as a Logout Token is.
 *
 * @throws LockstepError `op_answer_invalid`
 */
export async function signedIdToken(idToken: string, keys: readonly DecryptionKey[]): Promise<string> {
  if (keys.length === 0) return idToken
  if (idToken.split('.').length === 5) return decryptToken(idToken, keys)
  throw new LockstepError('op_answer_invalid', 'The ID Token is not encrypted, as was negotiated')
}

/**
 * Takes the encryption off a token of the OP, a Logout Token (Back-Channel §2.6 (1)) or an ID Token; what is inside is still
 * to be validated.
 *
 * @throws LogoutTokenError `encryption` when the token is not encrypted to one of these keys
 */
export async function decryptToken(token: string, keys: readonly DecryptionKey[]): Promise<string> {
  const { alg, kid, zip } = headerOf(token)
  // A compressed token could unfold into anything.
  if (zip !== undefined) throw new LogoutTokenError('encryption', '"zip" is not accepted')
  const fitting = keys.filter(
    (one) => one.alg === alg && (kid === undefined || one.kid === undefined || one.kid === kid),
  )
  for (const { key, alg: only } of fitting) {
    try {
      const { plaintext } = await compactDecrypt(token, key, {
        keyManagementAlgorithms: [only],
        contentEncryptionAlgorithms: [...CONTENT_ENCRYPTION],
      })
      return new TextDecoder().decode(plaintext)
    } catch (error) {
      if (!(error instanceof errors.JOSEError)) throw error
    }
  }
  throw new LogoutTokenError('encryption', 'no key of this client decrypts the token')
}

function headerOf(token: string): Record<string, unknown> {
  try {
    return decodeProtectedHeader(token)
  } catch (cause) {
    throw new LogoutTokenError('format', 'the header must be JSON in base64url', { cause })
  }
}
