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

/** A refresh token of a login that came to nothing, as it is owed to the OP. */
export interface Discarded {
  readonly refreshToken: string
  readonly sub: string
  readonly sid?: string
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
        const owed = (await sealer.open('refresh-token', debt)) as string | Discarded | undefined
        if (typeof owed === 'string') return revoke(owed, op)
        if (owed !== undefined) return (await isGrantInUse(store, owed)) ? undefined : revoke(owed.refreshToken, op)
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

/** Whether an RP session is alive that may have the grant of the login that came to nothing. */
export async function isGrantInUse(store: RpSessionStore, { sub, sid }: Discarded): Promise<boolean> {
  const alive = await store.listBySub(sub)
  return alive.some((session) => sid === undefined || session.sid === sid)
}

/** `undefined` when the token is worthless now, also because this OP revokes nothing or knows it no more. */
export async function revoke(token: string, op: OpConnection): Promise<unknown> {
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
