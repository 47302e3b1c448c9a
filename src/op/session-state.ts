import { hash } from 'node:crypto'
import type { Context } from 'koa'
import type { KoaContextWithOIDC } from 'oidc-provider'
import { base64url, computeSessionState } from '../protocol/session-state.ts'
import type { Runtime } from '../runtime/runtime.ts'
import { type SignedIn, signedInOf } from './browser-state.ts'
import { isRotatedAnonymous } from './op-cookie.ts'

/** What the `session_state` of an answer is made with. */
export interface SessionStateParts {
  readonly random: Runtime['random']
  readonly rotateBrowserState: (ctx: Context, signedIn: SignedIn) => Promise<string>
}

/**
 * The `session_state` of what an RP is answered (Session §2); `undefined` where it goes to no origin, or where it is not known
 * who the browser belongs to.
 */
export async function sessionStateFor(
  ctx: KoaContextWithOIDC,
  redirectUri: string,
  { random, rotateBrowserState }: SessionStateParts,
): Promise<string | undefined> {
  const clientId = ctx.oidc.client?.clientId
  const { origin } = new URL(redirectUri)
  if (clientId === undefined || origin === 'null' || isRotatedAnonymous(ctx)) return undefined
  const browserState = await rotateBrowserState(ctx, signedInOf(ctx.oidc.session))
  return computeSessionState({ clientId, origin, browserState, salt: base64url(random(16)) }, sha256)
}

/** At once: what is so short takes longer to hand to another thread and back. */
async function sha256(text: string): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(hash('sha256', text, 'buffer'))
}
