import type { RpContext } from './context.ts'
import type { StoredRpSession } from './store/contract.ts'

/** The tokens of an RP session, in the clear. */
export interface RpTokens {
  readonly idToken: string
  readonly accessToken: string
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
