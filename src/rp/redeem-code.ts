import * as oidc from 'openid-client'
import { LockstepError } from '../protocol/errors.ts'
import { checkLoginResponse } from './check-login-response.ts'
import type { RpContext } from './context.ts'
import { signedIdToken } from './decrypt-token.ts'
import { sanitize } from './log.ts'
import type { LoginTransaction } from './login-transaction.ts'
import { whatCameBack } from './op-answer.ts'
import type { LoginClaims } from './options.ts'

/** What a successful Authentication Response was worth. */
export interface Redeemed {
  readonly claims: LoginClaims & { readonly iat: number }
  /** The signed one, also where it came encrypted. */
  readonly idToken: string
  readonly accessToken: string
  /** Seconds, when the OP said it. */
  readonly expiresIn?: number
  readonly refreshToken?: string
  readonly offline: boolean
  readonly sessionState?: string
}

/**
 * Checks an Authentication Response against its transaction (`state`, RFC 9207 `iss`) and redeems its code (PKCE,
 * `nonce`, ID Token validation of Core §3.1.3.7).
 *
 * @throws oidc.AuthorizationResponseError when the OP answered with an error of its own
 * @throws LockstepError `login_response_invalid`, `op_unreachable`, `op_refused` or `op_answer_invalid`
 */
export async function redeemCode<Data>(
  { options, op }: RpContext<Data>,
  transaction: LoginTransaction,
  query: URLSearchParams,
): Promise<Redeemed> {
  const configuration = await op.configuration()
  const { authorization_response_iss_parameter_supported: issRequired = false } = configuration.serverMetadata()
  checkLoginResponse(query, { issuer: options.issuer, issRequired })
  // Built from our own configuration: a Host header decides nothing.
  const url = new URL(`${options.origin}${options.base}/callback?${query}`)
  const tokens = await askOp('Token Endpoint', () =>
    oidc.authorizationCodeGrant(configuration, url, {
      expectedState: transaction.state,
      expectedNonce: transaction.nonce,
      pkceCodeVerifier: transaction.verifier,
      idTokenExpected: true,
      ...(transaction.maxAge === undefined ? {} : { maxAge: transaction.maxAge }),
    }),
  )
  const claims = tokens.claims()
  if (claims === undefined || tokens.id_token === undefined) {
    throw new LockstepError('op_answer_invalid', 'the token response has no ID Token')
  }
  const sessionState = query.get('session_state')
  const scope = tokens.scope ?? options.scope
  return {
    claims,
    idToken: await signedIdToken(tokens.id_token, options.decryptionKeys),
    accessToken: tokens.access_token,
    ...(tokens.expires_in === undefined ? {} : { expiresIn: tokens.expires_in }),
    ...(tokens.refresh_token === undefined ? {} : { refreshToken: tokens.refresh_token }),
    offline: scope.split(' ').includes('offline_access'),
    // Session Management §2: it has no spaces; anything else is no use to the OP iframe.
    ...(sessionState !== null && /^[!-~]{1,1024}$/.test(sessionState) ? { sessionState } : {}),
  }
}

/** Adds what UserInfo says; the ID Token's own claims win. */
export async function withUserInfo<Data>({ op }: RpContext<Data>, redeemed: Redeemed): Promise<LoginClaims> {
  const configuration = await op.configuration()
  if (configuration.serverMetadata().userinfo_endpoint === undefined) return redeemed.claims
  const { accessToken, claims } = redeemed
  const userInfo = await askOp('UserInfo Endpoint', () => oidc.fetchUserInfo(configuration, accessToken, claims.sub))
  return { ...userInfo, ...claims }
}

/** Asks the OP and says in our own words what went wrong. */
export async function askOp<T>(where: string, request: () => Promise<T>): Promise<T> {
  try {
    return await request()
  } catch (cause) {
    if (cause instanceof oidc.AuthorizationResponseError) throw cause
    const unreachable =
      cause instanceof TypeError || (cause instanceof oidc.ClientError && cause.code === 'OAUTH_TIMEOUT')
    const said = { cause: new Error(whatCameBack(cause), { cause }) }
    if (unreachable) throw new LockstepError('op_unreachable', `The OP's ${where} could not be reached`, said)
    if (oauthErrorOf(cause) !== undefined) {
      throw new LockstepError('op_refused', `The OP's ${where} refused what this app asked for`, { cause })
    }
    throw new LockstepError('op_answer_invalid', `The OP's ${where} gave an answer that was refused`, said)
  }
}

/** The `error` with which the OP refused a request, in its body or in a challenge (RFC 6749 §5.2, RFC 6750 §3). */
export function oauthErrorOf(error: unknown): string | undefined {
  if (error instanceof oidc.ResponseBodyError) return sanitize(error.error)
  if (!(error instanceof oidc.WWWAuthenticateChallengeError)) return undefined
  const named = error.cause.map(({ parameters }) => parameters.error).find((one) => one !== undefined)
  return sanitize(named ?? `status ${error.status}`)
}
