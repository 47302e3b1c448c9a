import type { KoaContextWithOIDC, Session } from 'oidc-provider'
import { resumedInteraction } from './provider-seam.ts'
import { seal, unseal } from './secrets/sealed-request.ts'

/*
 * When somebody else signs in, oidc-provider answers with a page that posts to where the old OP session ends. What that needs
 * to know it keeps in the OP session. Another tab may write to the same OP session in between, and get it a new cookie: so the
 * browser keeps it as well, sealed.
 */

/** What the cookie of a user switch is made and read with. */
export interface UserSwitchParts {
  readonly switchCookie: string
  readonly sealingKey: () => Promise<Uint8Array>
  readonly now: () => number
}

/** As the OP cookie, but that it needs no signature: it is sealed. */
const ATTRIBUTES = {
  httpOnly: true,
  overwrite: true,
  path: '/',
  sameSite: 'none',
  secure: true,
  signed: false,
} as const

/** After oidc-provider's page of a user switch: the browser keeps what it is about. After the switch it forgets it. */
export async function keepUserSwitch(ctx: KoaContextWithOIDC, session: Session, parts: UserSwitchParts): Promise<void> {
  if (session.destroyed) {
    if (ctx.cookies.get(parts.switchCookie, { signed: false })) ctx.cookies.set(parts.switchCookie, null, ATTRIBUTES)
    return
  }
  const { uid, state } = session
  const isItsPage = resumedInteraction(ctx) !== undefined && ctx.oidc.result === undefined && ctx.status === 200
  if (!isItsPage || state?.postLogoutRedirectUri === undefined) return
  const sealed = await seal('userSwitch', { uid, state }, await parts.sealingKey(), parts.now())
  ctx.cookies.set(parts.switchCookie, sealed, ATTRIBUTES)
}

/** What the browser keeps of a user switch in this OP session. */
export async function userSwitchIn(
  ctx: KoaContextWithOIDC,
  session: Session,
  parts: UserSwitchParts,
): Promise<Session['state']> {
  const cookie = ctx.cookies.get(parts.switchCookie, { signed: false })
  if (cookie === undefined) return undefined
  const kept = await unseal('userSwitch', cookie, await parts.sealingKey(), parts.now())
  return kept?.uid === session.uid ? kept.state : undefined
}
