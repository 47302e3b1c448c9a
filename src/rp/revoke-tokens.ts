import * as oidc from 'openid-client'
import type { OpConnection } from './connect-op.ts'
import type { ResolvedAppOptions } from './options.ts'
import { type Payer, startPaying } from './pay-owed.ts'
import { type GrantedToken, openRefreshToken } from './refresh-token.ts'
import type { Sealer } from './seal.ts'
import type { RpSessionStore } from './store/contract.ts'

interface Parts {
  readonly store: RpSessionStore
  readonly op: OpConnection
  readonly sealer: Sealer
  readonly options: Pick<ResolvedAppOptions, 'runtime' | 'log'>
}

/** Revokes the refresh tokens that ended RP sessions leave, at the OP (Back-Channel §2.7, T7). */
export function startTokenRevoker({ store, op, sealer, options }: Parts): Payer {
  const { log } = options
  return startPaying(
    { store, options },
    {
      kind: 'revocation',
      route: 'revocation',
      async pay({ debt, attempts }) {
        const token = await openRefreshToken(sealer, debt)
        if (token !== undefined) return revokeUnlessInUse({ store, op }, token)
        log({ event: 'revocation_given_up', attempts, message: 'no secret opens the refresh token any more' })
        return undefined
      },
      failed({ attempts }, message, how) {
        log({ event: how === 'retried' ? 'revocation_failed' : 'revocation_given_up', attempts, message })
      },
    },
  )
}

/**
 * Revokes a refresh token unless a live RP session has the same grant at the OP, such as that of a login since: its tokens
 * would go too, and its own refresh token will be revoked when it ends. This is asked before each attempt. Resolves with
 * what went wrong, also when the store cannot say; with `undefined` when nothing is left to be done.
 */
export async function revokeUnlessInUse(
  { store, op }: Pick<Parts, 'store' | 'op'>,
  { refreshToken, grant }: GrantedToken,
): Promise<unknown> {
  try {
    if (grant !== undefined && (await store.isGrantInUse(grant))) return undefined
  } catch (error) {
    return error
  }
  return revoke(refreshToken, op)
}

/** `undefined` when the token is worthless now, also because this OP revokes nothing or knows it no more. */
async function revoke(token: string, op: OpConnection): Promise<unknown> {
  try {
    const configuration = await op.configuration()
    if (configuration.serverMetadata().revocation_endpoint === undefined) return undefined
    await oidc.tokenRevocation(configuration, token, { token_type_hint: 'refresh_token' })
    return undefined
  } catch (error) {
    // RFC 7009 §2.2: a token that is invalid already is not an error; some OPs say so all the same.
    const isPointless =
      error instanceof oidc.ResponseBodyError && ['invalid_grant', 'invalid_token'].includes(error.error)
    return isPointless ? undefined : error
  }
}
