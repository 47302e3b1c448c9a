import { LockstepError } from '../protocol/errors.ts'

/** What an Authentication Response is held against. */
export interface LoginResponseExpectations {
  readonly issuer: string
  /** The OP says that each of its responses names it (RFC 9207 §3). */
  readonly issRequired: boolean
}

const once = ['code', 'state', 'iss', 'error', 'session_state']

/**
 * Checks the shape of an Authentication Response and who it says it comes from (RFC 9207 §2.4), before anything is asked
 * of the OP: a response that fails here was changed on its way, or is not the OP's.
 *
 * @throws LockstepError `login_response_invalid`
 */
export function checkLoginResponse(query: URLSearchParams, { issuer, issRequired }: LoginResponseExpectations): void {
  const twice = once.find((name) => query.getAll(name).length > 1)
  if (twice !== undefined) throw invalid(`"${twice}" comes more than once`)
  const iss = query.get('iss')
  if (iss === null && issRequired) throw invalid('"iss" is missing')
  if (iss !== null && iss !== issuer) throw invalid('"iss" is not the issuer that was asked')
  if (!query.get('error') && !query.get('code')) throw invalid('"code" is missing')
}

function invalid(what: string): LockstepError {
  return new LockstepError('login_response_invalid', `The answer of the sign-in service cannot be used: ${what}`)
}
