import type { Context } from 'koa'
import type { KoaContextWithOIDC } from 'oidc-provider'

/** True for prompt=none, which asks whether somebody is there: it changes nobody, and keeps nobody alive by asking (T11). */
export function isBackgroundCheck(ctx: KoaContextWithOIDC | undefined): boolean {
  const prompt = ctx?.oidc?.params?.prompt
  return typeof prompt === 'string' && prompt.split(' ').includes('none')
}

/**
 * Whether the browser says that nobody sees this request: it is for a frame or a script. At the top level the user sees who asks;
 * native apps and old browsers do not say, nor does any on plain http.
 */
export function isUnseen(ctx: Context): boolean {
  return !['', 'document'].includes(ctx.get('sec-fetch-dest'))
}

/** True where nobody can be said to use the OP: a background check, and what a page loads in a frame without asking anybody (T11). */
export function isUnattended(ctx: KoaContextWithOIDC | undefined): boolean {
  return (
    ctx !== undefined && (isBackgroundCheck(ctx) || (isUnseen(ctx) && ctx.oidc?.entities.Interaction === undefined))
  )
}

/**
 * True for a client that knows nothing of who is signed in: it has no grant in this OP session, and never had one. One whose
 * consent has expired is no stranger: `login_required` would be a logout to it, and nobody has logged out.
 */
export function isStranger({ oidc: { client, session } }: KoaContextWithOIDC): boolean {
  return !client || session?.authorizations?.[client.clientId]?.grantId === undefined // an existing grant was noted there
}

/**
 * True for a silent check that is answered `login_required`, whoever is there: a stranger asks, and nobody sees it (T33). Who is there is
 * not even looked up for it, since a look-up that fails would tell.
 */
export function isUnseenProbe(ctx: KoaContextWithOIDC): boolean {
  return isBackgroundCheck(ctx) && isUnseen(ctx) && isStranger(ctx)
}

/** What may lead to a login or a silent check: pages, frames, and requests of scripts. */
const MAY_ASK: ReadonlySet<string> = new Set(['', 'document', 'iframe', 'frame', 'empty'])

/** Whether a request is for an image, a style sheet or the like: any page of any site can make it, and nobody logs in by it (T29). */
export function isSubresource(ctx: Context): boolean {
  return !MAY_ASK.has(ctx.get('sec-fetch-dest'))
}
