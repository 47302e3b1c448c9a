import type { Sealer } from './seal.ts'
import type { Grant, Sealed } from './store/contract.ts'

/** A refresh token, and its grant at the OP as far as that can be told. */
export interface GrantedToken {
  readonly refreshToken: string
  /**
   * Absent where nothing tells which other RP sessions have the same grant. One without `sids` is taken for that of any RP
   * session of its End-User.
   */
  readonly grant?: Grant
}

/** More than this no grant is remembered by: the `sid` of the login, and what its latest tokens said. */
const MOST_SIDS = 9

/** Seals the refresh token of an RP session. Without a `sid` the RP sessions in other browsers look the same, so none counts. */
export function sealRefreshToken(sealer: Sealer, refreshToken: string, { sub, sids }: Grant): Promise<Sealed> {
  return sealGranted(sealer, sids.length === 0 ? { refreshToken } : { refreshToken, grant: { sub, sids } })
}

/** Seals a refresh token with what is known of its grant. */
export function sealGranted(sealer: Sealer, token: GrantedToken): Promise<Sealed> {
  return sealer.seal('refresh-token', token)
}

/** As it was sealed before grants were; a bare string earlier still. */
type Earlier = string | { readonly refreshToken: string; readonly sub: string; readonly sid?: string }

/** `undefined` when no secret opens it any more. */
export async function openRefreshToken(sealer: Sealer, sealed: Sealed): Promise<GrantedToken | undefined> {
  const token = (await sealer.open('refresh-token', sealed)) as GrantedToken | Earlier | undefined
  if (typeof token === 'string') return { refreshToken: token }
  if (token === undefined || !('sub' in token)) return token
  return { refreshToken: token.refreshToken, grant: grantOf(token.sub, token.sid) }
}

/** The grant of a login, by what its ID Token said. */
export function grantOf(sub: string, sid: unknown): Grant {
  return { sub, sids: isSid(sid) ? [sid] : [] }
}

/** The grant after its tokens were refreshed: the same, unless the OP knows it by another `sid` now. */
export function grantAfter(grant: Grant, sid: unknown): Grant {
  if (!isSid(sid) || grant.sids.includes(sid)) return grant
  const [ofLogin, ...later] = [...grant.sids, sid]
  return { sub: grant.sub, sids: [ofLogin ?? sid, ...later.slice(1 - MOST_SIDS)] }
}

function isSid(sid: unknown): sid is string {
  return typeof sid === 'string' && sid !== ''
}
