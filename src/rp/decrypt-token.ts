import { compactDecrypt, decodeProtectedHeader, errors } from 'jose'
import { LockstepError } from '../protocol/errors.ts'

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
  if (idToken.split('.').length !== 5) {
    throw new LockstepError('op_answer_invalid', 'The ID Token is not encrypted, as was negotiated')
  }
  const decrypted = await decryptToken(idToken, keys)
  if ('refused' in decrypted) throw new LockstepError('op_answer_invalid', `The ID Token: ${decrypted.because}`)
  return decrypted.token
}

/** What is inside, still to be validated, or why nobody looks: it is no JWE, or none that one of these keys opens. */
export type Decrypted =
  | { readonly token: string }
  | { readonly refused: 'format' | 'encryption'; readonly because: string }

/** Takes the encryption off a token of the OP, a Logout Token (Back-Channel §2.6 (1)) or an ID Token. */
export async function decryptToken(token: string, keys: readonly DecryptionKey[]): Promise<Decrypted> {
  const header = headerOf(token)
  if (header === undefined) return { refused: 'format', because: 'the header must be JSON in base64url' }
  const { alg, kid, zip } = header
  // A compressed token could unfold into anything.
  if (zip !== undefined) return { refused: 'encryption', because: '"zip" is not accepted' }
  const fitting = keys.filter(
    (one) => one.alg === alg && (kid === undefined || one.kid === undefined || one.kid === kid),
  )
  for (const { key, alg: only } of fitting) {
    try {
      const { plaintext } = await compactDecrypt(token, key, {
        keyManagementAlgorithms: [only],
        contentEncryptionAlgorithms: [...CONTENT_ENCRYPTION],
      })
      return { token: new TextDecoder().decode(plaintext) }
    } catch (error) {
      if (!(error instanceof errors.JOSEError)) throw error
    }
  }
  return { refused: 'encryption', because: 'no key of this client decrypts the token' }
}

function headerOf(token: string): Readonly<Record<string, unknown>> | undefined {
  try {
    return decodeProtectedHeader(token)
  } catch {
    return undefined // it throws for whatever has none
  }
}
