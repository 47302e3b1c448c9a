import type { Context } from 'koa'
import type { Configuration, KoaContextWithOIDC, Session } from 'oidc-provider'
import { messageOf } from '../runtime/message-of.ts'
import type { Runtime } from '../runtime/runtime.ts'
import { type SignedIn, signedInOf } from './browser-state.ts'
import type { LogoutPaths } from './logout/logout-http.ts'
import { throughNotices } from './logout/show-frames.ts'
import { isRotatedAnonymous, withholdCookie } from './op-cookie.ts'
import { type SettleLoginsParts, settleLogins } from './settle-logins.ts'
import { showFailure } from './show-error.ts'
import type { EndedOpSession } from './store/contract.ts'
import { keepUserSwitch, type UserSwitchParts } from './user-switch.ts'

/** What it takes to see to a browser after a request of oidc-provider's. */
export interface FollowUpParts extends SettleLoginsParts, UserSwitchParts {
  readonly runtime: Pick<Runtime, 'now'>
  /** The name of the OP cookie. */
  readonly opCookie: string
  readonly rotateBrowserState: (ctx: Context, signedIn: SignedIn) => Promise<string>
  /** In the request at hand: its mount path counts. */
  readonly paths: () => LogoutPaths
  readonly configuration: Configuration
  /** Tells the operator what failed. */
  readonly failed: (ctx: KoaContextWithOIDC, error: Error) => void
}

/** OP sessions that ended inside a request of oidc-provider's: in a user switch. */
const switched: WeakMap<object, readonly EndedOpSession[]> = new WeakMap()

/** Notes that OP sessions of somebody else ended inside this request. */
export function noteUserSwitch(ctx: object | undefined, ended: readonly EndedOpSession[]): void {
  if (ctx) switched.set(ctx, ended)
}

/** What follows for the browser from a request that oidc-provider has answered. */
export async function followUp(ctx: Context, parts: FollowUpParts): Promise<void> {
  const session: Session | undefined = ctx.oidc?.session
  if (!session) return
  const ours = ctx as KoaContextWithOIDC
  withholdCookie(ours, parts.opCookie)
  if (isRotatedAnonymous(ours)) return
  try {
    await settle(ours, session, parts)
  } catch (error) {
    parts.log({ event: 'op_failed', task: 'settle_logins', message: messageOf(error) })
    await showFailure(ours, error, parts.configuration, (each) => parts.failed(ours, each))
  }
}

/** What others began in this browser ends, and their apps that are told in frames are shown on the way. */
async function settle(ctx: KoaContextWithOIDC, session: Session, parts: FollowUpParts): Promise<void> {
  await keepUserSwitch(ctx, session, parts)
  const others = await settleLogins(ctx, parts)
  await parts.rotateBrowserState(ctx, signedInOf(session))
  const framed = [...(switched.get(ctx) ?? []), ...others].filter(({ frames }) => frames.length > 0)
  if (framed.length === 0 || ctx.status !== 303) return // an answer that is a page of its own cannot wait for another
  const notices = {
    logoutIds: framed.map(({ logout }) => logout.id),
    inFrames: true,
    next: ctx.response.get('location'),
  }
  const { paths, sealingKey, runtime } = parts
  ctx.redirect(await throughNotices({ paths: paths(), sealingKey: await sealingKey(), runtime }, notices, undefined))
}
