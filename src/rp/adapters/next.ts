import type { Mountable, RelyingParty } from '../relying-party.ts'
import type { CurrentRpSession } from '../rp-session.ts'
import { isBelow } from '../side-by-side.ts'
import { fromFetch, headerIn, respondTo } from './fetch-http.ts'

type RouteHandler = (request: Request) => Promise<Response>

/**
 * The route handlers of the App Router for `app/auth/[...lockstep]/route.ts`.
 *
 * @example
 * ```ts
 * import { createRelyingParty } from 'lockstep/rp'
 * import { handlers } from 'lockstep/rp/next'
 *
 * const rp = createRelyingParty({ issuer, clientId, clientSecret, appUrl, store })
 * export const { GET, POST } = handlers(rp)
 * ```
 */
export function handlers<Data>(rp: Mountable<Data>): { readonly GET: RouteHandler; readonly POST: RouteHandler } {
  const basePath = rp.home.replace(/\/$/, '')
  const routes: Pick<Mountable, 'respond'> = {
    // Next has cut its basePath off, should there be one. A path that begins like it may still have lost it: `/auth` of `/auth/auth`.
    respond: (asked) => rp.respond(isBelow(asked.url, rp.base) ? asked : { ...asked, url: basePath + asked.url }),
  }
  const respond: RouteHandler = async (request) => {
    if (new URL(request.url).pathname.endsWith('/')) return notFound(slashed)
    return (await respondTo(routes, request)) ?? notFound(`the routes are under ${rp.base}`)
  }
  return { GET: respond, POST: respond }
}

/** An OP follows no redirect, so its Logout Tokens would all be lost. */
const slashed =
  'no route ends with a slash: where next.config says trailingSlash, it must say skipTrailingSlashRedirect too'

/** A mistake of whoever put the folder there or configured Next, and easy to see by this answer. */
function notFound(error_description: string): Response {
  const headers = { 'cache-control': 'no-store' }
  return Response.json({ error: 'not_found', error_description }, { status: 404, headers })
}

/**
 * Says who is signed in, for pages, actions and route handlers: `await getRpSession(rp, headers())`, and how the RP
 * session ended if it has. This is what decides; reading headers also keeps the page out of every cache.
 */
export async function getRpSession<Data>(
  rp: RelyingParty<Data>,
  headers: Pick<Headers, 'get'> | Promise<Pick<Headers, 'get'>>,
): Promise<CurrentRpSession<Data>> {
  return (await rp.current({ header: headerIn(await headers) })).current
}

/**
 * Says whether a browser has a session cookie, for `proxy.ts`: a guess that costs nothing and saves a page from being
 * rendered for nobody. It proves nothing; the page asks {@link getRpSession}.
 */
export function mayBeSignedIn<Data>(rp: RelyingParty<Data>, request: Request): boolean {
  return rp.hasCookie(fromFetch(request))
}
