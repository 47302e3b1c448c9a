import type { Sealer } from './seal.ts'
import type { Sealed, StoredRpSession } from './store/contract.ts'

/** A refresh token, and the login whose grant it belongs to as far as that can be told. */
export interface GrantedToken {
  readonly refreshToken: string
  /** Absent where nothing tells which other RP sessions have the same grant. */
  readonly login?: Login
}

type Login = Pick<StoredRpSession, 'sub' | 'sid'>

/** As it is sealed; earlier versions sealed a bare string for an RP session. */
type Contents = string | ({ readonly refreshToken: string } & Partial<Login>)

/** Seals the refresh token of an RP session. Without a `sid` the RP sessions in other browsers look the same, so none counts. */
export function sealRefreshToken(sealer: Sealer, refreshToken: string, { sub, sid }: Login): Promise<Sealed> {
  return sealGranted(sealer, sid === undefined ? { refreshToken } : { refreshToken, login: { sub, sid } })
}

/** Seals a refresh token with the login that is known of it. */
export function sealGranted(sealer: Sealer, { refreshToken, login }: GrantedToken): Promise<Sealed> {
  return sealer.seal('refresh-token', { refreshToken, ...login } satisfies Contents)
}

/** `undefined` when no secret opens it any more. */
export async function openRefreshToken(sealer: Sealer, sealed: Sealed): Promise<GrantedToken | undefined> {
  const contents = (await sealer.open('refresh-token', sealed)) as Contents | undefined
  if (contents === undefined) return undefined
  if (typeof contents === 'string') return { refreshToken: contents }
  const { refreshToken, sub, sid } = contents
  return sub === undefined ? { refreshToken } : { refreshToken, login: { sub, ...(sid !== undefined && { sid }) } }
}
