import * as oidc from 'openid-client'
import type { OpConnection } from './connect-op.ts'
import type { ResolvedAppOptions } from './options.ts'
import { type Payer, startPaying } from './pay-owed.ts'
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
        const token = await sealer.open('refresh-token', debt)
        if (typeof token === 'string') return revoke(token, op)
        const message = 'no secret opens the refresh token any more'
        log({ event: 'revocation_given_up', attempts, message })
        return undefined
      },
      failed({ attempts }, message, how) {
        log({ event: how === 'retried' ? 'revocation_failed' : 'revocation_given_up', attempts, message })
      },
    },
  )
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
