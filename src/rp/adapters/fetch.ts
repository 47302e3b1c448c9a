import type { CurrentRequest } from '../current-session.ts'
import type { Mountable, RelyingParty } from '../relying-party.ts'
import type { RpSession } from '../rp-session.ts'
import { fromFetch, respondTo, toResponse } from './fetch-http.ts'
import { askToLogIn, currentOf } from './guard.ts'

/**
 * Answers our routes, `Request` in and `Response` out; `undefined` for every other path, which is the app's.
 *
 * Every framework with such handlers stands on it: SvelteKit, React Router, Nitro, Astro, TanStack Start, Deno, Bun.
 *
 * @example
 * ```ts
 * import { createRelyingParty } from 'lockstep/rp'
 * import { auth, requireLogin } from 'lockstep/rp/fetch'
 *
 * const rp = createRelyingParty({ issuer, clientId, clientSecret, appUrl, store })
 * const lockstep = auth(rp)
 * export default {
 *   async fetch(request: Request): Promise<Response> {
 *     const answer = await lockstep(request)
 *     if (answer) return answer
 *     const session = await requireLogin(rp, request)
 *     return session instanceof Response ? session : new Response(`Hello ${session.sub}`)
 *   },
 * }
 * ```
 */
export function auth<Data>(rp: Mountable<Data>): (request: Request) => Promise<Response | undefined> {
  return (request) => respondTo(rp, request)
}

/**
 * Says who is signed in at the browser that made this request, how the RP session ended if it has, and which cookies
 * the answer should set (`set-cookie`, each on its own): they clear a dead one.
 */
export function getRpSession<Data>(rp: RelyingParty<Data>, request: Request): Promise<CurrentRequest<Data>> {
  return currentOf(rp, request, fromFetch(request))
}

/** Finds who is signed in. When nobody is, it gives the answer to return: login for pages, 401 for scripts. */
export async function requireLogin<Data>(
  rp: RelyingParty<Data>,
  request: Request,
): Promise<RpSession<Data> | Response> {
  const asked = fromFetch(request)
  const { current, cookies } = await currentOf(rp, request, asked)
  return current.state === 'alive' ? current.session : toResponse(askToLogIn(rp, asked, cookies))
}
