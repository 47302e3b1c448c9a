import type { Mountable, RelyingParty } from '../relying-party.ts'
import type { CurrentRpSession } from '../rp-session.ts'
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
  const respond: RouteHandler = async (request) =>
    (await respondTo(rp, request)) ??
    // The folder is not where `prefix` says: a mistake of whoever put it there, and easy to see by this answer.
    Response.json({ error: 'not_found', error_description: `the routes are under ${rp.base}` }, { status: 404 })
  return { GET: respond, POST: respond }
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
