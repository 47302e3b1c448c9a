import type { RpContext } from './context.ts'
import type { StoredRpSession } from './store/contract.ts'

/** The tokens of an RP session, in the clear. */
export interface RpTokens {
  readonly idToken: string
  readonly accessToken: string
  /** Epoch seconds at which the access token expires and at which it is time for a new one, when the OP said it. */
  readonly accessTokenLife?: { readonly expiresAt: number; readonly refreshAt: number }
}

/** Seconds before its expiry at which an access token is refreshed: what a request to an API may take. */
const MARGIN = 30

/** The life of an access token that was just had. Of a short one the last quarter is the margin. */
export function lifeOf(expiresIn: number | undefined, now: number): Pick<RpTokens, 'accessTokenLife'> {
  if (expiresIn === undefined) return {}
  const expiresAt = now + expiresIn
  return { accessTokenLife: { expiresAt, refreshAt: expiresAt - Math.min(MARGIN, expiresIn / 4) } }
}

/** Opens a session's tokens; `undefined` (and a line in the log) when no secret opens them any more. */
export async function openTokens<Data>(
  { sealer, options }: RpContext<Data>,
  session: StoredRpSession,
): Promise<RpTokens | undefined> {
  const tokens = (await sealer.open('tokens', session.tokens)) as RpTokens | undefined
  if (tokens === undefined) {
    options.log({
      event: 'tokens_unreadable',
      message: 'no secret opens the tokens of an RP session; was it replaced?',
    })
  }
  return tokens
}
