import { compactVerify, errors } from 'jose'
import {
  CLOCK_TOLERANCE,
  checkLogoutTokenClaims,
  checkLogoutTokenHeader,
  type LogoutTokenExpectations,
  MAX_AGE,
} from '../protocol/check-logout-token.ts'
import { LockstepError } from '../protocol/errors.ts'
import { type LogoutTokenClaims, LogoutTokenError, REVOKE_OFFLINE_EVENT } from '../protocol/logout-token.ts'
import type { OpConnection } from './connect-op.ts'
import { type DecryptionKey, decryptToken } from './decrypt-token.ts'

/** Longer than any real Logout Token, RSA-4096 signature and many claims included. */
const MAX_TOKEN = 16 * 1024

/** A Logout Token that passed every check. */
export interface ValidLogoutToken {
  readonly claims: LogoutTokenClaims
  /**
   * Epoch seconds until which the same token would pass again, by a clock that differs from ours as far as clocks may: that of
   * the store, which must remember the `jti` until then.
   */
  readonly acceptableUntil: number
  /** True when the OP asks to revoke refresh tokens with `offline_access` too (Keycloak's second event). */
  readonly revokeOffline: boolean
}

/**
 * Validates a Logout Token as Back-Channel §2.6 says, cheapest checks first: what needs no key is refused before any
 * key is fetched, so that nobody makes us knock at the OP.
 *
 * @see {@link https://openid.net/specs/openid-connect-backchannel-1_0.html#Validation | Back-Channel Logout 1.0 §2.6}
 * @throws LogoutTokenError when the token is refused
 * @throws LockstepError when nothing can be said of the token yet: `op_unreachable`, the OP's keys could not be had;
 * `op_key_unknown`, they were fetched a moment ago and may have been rotated since; `op_key_unusable`, the one that the
 * header names is too short, say
 */
export async function validateLogoutToken(
  sent: string,
  expected: LogoutTokenExpectations,
  op: Pick<OpConnection, 'keys'>,
  decryptionKeys: readonly DecryptionKey[] = [],
): Promise<ValidLogoutToken> {
  const token = await decrypted(sent, decryptionKeys)
  const parts = token.split('.')
  if (parts.length !== 3) throw new LogoutTokenError('format', 'a Logout Token is a JWT of three parts')
  checkLogoutTokenHeader(decodePart('header', parts[0] as string), expected)
  const claims = checkLogoutTokenClaims(decodePart('payload', parts[1] as string), expected)
  await verifySignature(token, expected.alg, op)
  return {
    claims,
    acceptableUntil: Math.min(claims.exp + CLOCK_TOLERANCE, claims.iat + MAX_AGE) + CLOCK_TOLERANCE,
    revokeOffline: Object.hasOwn(claims.events, REVOKE_OFFLINE_EVENT) && claims.events[REVOKE_OFFLINE_EVENT] === true,
  }
}

/** Back-Channel §2.6 (1): encrypted exactly when that was negotiated. */
async function decrypted(token: string, keys: readonly DecryptionKey[]): Promise<string> {
  if (token.length > MAX_TOKEN) throw new LogoutTokenError('size', `a Logout Token has at most ${MAX_TOKEN} characters`)
  const isEncrypted = token.split('.').length === 5
  if (isEncrypted && keys.length === 0) {
    throw new LogoutTokenError('encryption', 'encrypted Logout Tokens were not negotiated')
  }
  if (!isEncrypted && keys.length > 0) {
    throw new LogoutTokenError('encryption', 'encrypted Logout Tokens were negotiated')
  }
  if (!isEncrypted) return token
  const inside = await decryptToken(token, keys)
  if ('refused' in inside) throw new LogoutTokenError(inside.refused, inside.because)
  return inside.token
}

const utf8 = new TextDecoder('utf-8', { fatal: true })

function decodePart(name: 'header' | 'payload', part: string): unknown {
  // What is no base64url would be passed over below, and jose might read on where this stops.
  if (!/^[\w-]+$/.test(part)) throw new LogoutTokenError('format', `the ${name} must be JSON in base64url`)
  try {
    return JSON.parse(utf8.decode(Buffer.from(part, 'base64url')))
  } catch (cause) {
    throw new LogoutTokenError('format', `the ${name} must be JSON in base64url`, { cause })
  }
}

async function verifySignature(token: string, alg: string, op: Pick<OpConnection, 'keys'>): Promise<void> {
  const keys = await op.keys()
  try {
    await compactVerify(token, keys, { algorithms: [alg] })
  } catch (cause) {
    if (cause instanceof LockstepError) throw cause
    if (cause instanceof errors.JWKSMultipleMatchingKeys) return verifyWithAny(token, alg, cause)
    if (cause instanceof errors.JWKSNoMatchingKey) {
      throw new LogoutTokenError('key', 'the OP publishes no key that fits the header', { cause })
    }
    if (cause instanceof errors.JWSSignatureVerificationFailed) {
      throw new LogoutTokenError('signature', 'the signature is not of the OP', { cause })
    }
    if (cause instanceof errors.JWSInvalid) {
      throw new LogoutTokenError('format', 'the token is not a valid JWS', { cause })
    }
    throw new LockstepError('op_key_unusable', "The OP's key that fits the header cannot be used", { cause })
  }
}

/** A header may fit several keys: one of them must verify. One that is fit for nothing is in nobody's way. */
async function verifyWithAny(token: string, alg: string, keys: errors.JWKSMultipleMatchingKeys): Promise<void> {
  let cause: unknown
  for await (const key of keys) {
    try {
      await compactVerify(token, key, { algorithms: [alg] })
      return
    } catch (error) {
      cause = error
    }
  }
  throw new LogoutTokenError('signature', 'the signature is not of the OP', { cause })
}
