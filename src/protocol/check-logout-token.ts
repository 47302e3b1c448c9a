import {
  BACKCHANNEL_LOGOUT_EVENT,
  type LogoutTokenCheck,
  type LogoutTokenClaims,
  LogoutTokenError,
} from './logout-token.ts'

/** What a Logout Token is compared with. Times are epoch seconds, durations seconds. */
export interface LogoutTokenExpectations {
  readonly issuer: string
  readonly clientId: string
  /** The registered `id_token_signed_response_alg`. */
  readonly alg: string
  readonly now: number
  /** What this OP may do otherwise than the final spec says. */
  readonly allow?: LogoutTokenAllowances
}

/** Each is named after what it allows. */
export interface LogoutTokenAllowances {
  /** Logout Tokens without `exp`, as in drafts before 2022: they then expire 10 minutes after `iat`. Default false. */
  readonly withoutExp?: boolean
  /**
   * Logout Tokens without `typ` or with `JWT`. Default true, since requiring `logout+jwt` breaks deployed OPs (§4.1); false
   * where the OP is known to send it.
   */
  readonly withoutTyp?: boolean
}

/** Seconds by which two clocks may differ. */
export const CLOCK_TOLERANCE = 60

/** Seconds after which a Logout Token is old however late it says it expires: mod_auth_openidc's slack. */
export const MAX_AGE = 600

/** Longest identifier that is looked at; Core §2 has 255 for `sub`. */
const MAX_ID = 1024

const types = new Set(['logout+jwt', 'application/logout+jwt'])

/**
 * Checks the protected header: nothing here needs a key, so hostile tokens cost no fetch.
 *
 * An absent `typ` and `JWT` are accepted unless `allow` says otherwise; any other type is another kind of token.
 */
export function checkLogoutTokenHeader(
  header: unknown,
  { alg, allow = {} }: Pick<LogoutTokenExpectations, 'alg' | 'allow'>,
): void {
  if (!isObject(header)) throw new LogoutTokenError('format', 'the header must be a JSON object')
  if (header.alg !== alg) throw new LogoutTokenError('alg', `"alg" must be the registered ${alg}`)
  if (Object.hasOwn(header, 'crit')) throw new LogoutTokenError('crit', '"crit" names nothing that is understood')
  const typ = Object.hasOwn(header, 'typ') ? header.typ : 'jwt'
  if (typeof typ !== 'string' || !isAcceptedType(typ.toLowerCase(), allow)) {
    throw new LogoutTokenError('typ', '"typ" must be logout+jwt')
  }
}

/**
 * Checks the claims of a Logout Token by Back-Channel §2.4 and §2.6. The signature is the caller's.
 *
 * @returns the claims, now with their types.
 * @throws LogoutTokenError whose `check` names the first rule that was broken.
 */
export function checkLogoutTokenClaims(claims: unknown, expected: LogoutTokenExpectations): LogoutTokenClaims {
  if (!isObject(claims)) throw new LogoutTokenError('format', 'the payload must be a JSON object')
  if (claims.iss !== expected.issuer) throw new LogoutTokenError('iss', '"iss" must be the issuer, byte for byte')
  checkAudience(claims, expected.clientId)
  const exp = checkTimes(claims, expected)
  checkIdentifier(claims, 'jti')
  if (!isObject(claims.events)) throw new LogoutTokenError('events', '"events" must be an object')
  const event = Object.hasOwn(claims.events, BACKCHANNEL_LOGOUT_EVENT) && claims.events[BACKCHANNEL_LOGOUT_EVENT]
  if (!isObject(event)) {
    throw new LogoutTokenError('events', `"events" must have the member ${BACKCHANNEL_LOGOUT_EVENT}, an object`)
  }
  // Back-Channel §2.6 (7): its presence counts, not its value.
  if (Object.hasOwn(claims, 'nonce')) throw new LogoutTokenError('nonce', '"nonce" is prohibited')
  if (!Object.hasOwn(claims, 'sub') && !Object.hasOwn(claims, 'sid')) {
    throw new LogoutTokenError('sub_or_sid', '"sub" or "sid" must be present')
  }
  if (Object.hasOwn(claims, 'sub')) checkIdentifier(claims, 'sub')
  if (Object.hasOwn(claims, 'sid')) checkIdentifier(claims, 'sid')
  // Every member that the type names was checked just now, except the private one, which its reader checks.
  return { ...(claims as typeof claims & LogoutTokenClaims), exp }
}

function isAcceptedType(typ: string, { withoutTyp = true }: LogoutTokenAllowances): boolean {
  return types.has(typ) || (withoutTyp && typ === 'jwt')
}

function checkAudience(claims: Record<string, unknown>, clientId: string): void {
  const audiences = Array.isArray(claims.aud) ? claims.aud : [claims.aud]
  if (!audiences.includes(clientId)) throw new LogoutTokenError('aud', '"aud" must contain this client')
  // Core §3.1.3.7 (3): further audiences would have to be trusted ones, and there are none.
  if (audiences.some((audience) => audience !== clientId)) {
    throw new LogoutTokenError('aud', '"aud" must not contain others than this client')
  }
  if (Object.hasOwn(claims, 'azp') && claims.azp !== clientId) {
    throw new LogoutTokenError('azp', '"azp" must be this client')
  }
}

/** @returns when the token expires */
function checkTimes(
  claims: Record<string, unknown>,
  { now, allow = {} }: Pick<LogoutTokenExpectations, 'now' | 'allow'>,
): number {
  const { iat, nbf, toe } = claims
  if (!isTime(iat)) throw new LogoutTokenError('iat', '"iat" must be a number')
  if (iat > now + CLOCK_TOLERANCE) throw new LogoutTokenError('iat', '"iat" must not lie in the future')
  if (iat < now - MAX_AGE) throw new LogoutTokenError('iat', `"iat" must not be more than ${MAX_AGE} s ago`)
  const exp = allow.withoutExp && !Object.hasOwn(claims, 'exp') ? iat + MAX_AGE : claims.exp
  if (!isTime(exp)) throw new LogoutTokenError('exp', '"exp" must be a number')
  if (exp <= now - CLOCK_TOLERANCE) throw new LogoutTokenError('exp', 'the token has expired')
  if (nbf !== undefined && !(isTime(nbf) && nbf <= now + CLOCK_TOLERANCE)) {
    throw new LogoutTokenError('nbf', '"nbf" must not lie in the future')
  }
  if (toe !== undefined && !(isTime(toe) && toe <= now + CLOCK_TOLERANCE)) {
    throw new LogoutTokenError('toe', '"toe" must not lie in the future')
  }
  return exp
}

function checkIdentifier(claims: Record<string, unknown>, claim: LogoutTokenCheck & ('jti' | 'sub' | 'sid')): void {
  const value = claims[claim]
  if (typeof value !== 'string' || value === '' || value.length > MAX_ID) {
    throw new LogoutTokenError(claim, `"${claim}" must be a non-empty string of at most ${MAX_ID} characters`)
  }
}

function isTime(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value) && value >= 0
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
