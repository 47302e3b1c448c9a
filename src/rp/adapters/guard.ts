import type { AppRequest, CurrentRequest } from '../current-session.ts'
import { answer, json, type RpAnswer, type RpRequest } from '../http.ts'
import type { Mountable, RelyingParty } from '../relying-party.ts'

/** Who a guard judges. */
export type GuardedRequest = Pick<RpRequest, 'method' | 'url' | 'header'>

/** Who keeps no RP sessions finds none. */
const nobody: Promise<CurrentRequest<never>> = Promise.resolve({ current: { state: 'none' }, cookies: [] })

/** A framework's own request objects, each with what was found for it, by relying party. */
const found = new WeakMap<object, Map<object, Promise<CurrentRequest<unknown>>>>()

/**
 * Finds who is signed in at this relying party, once per request of the framework (`key`).
 *
 * An app may have several relying parties: the RP session of one never opens what another guards.
 */
export function currentOf<Data>(rp: Mountable<Data>, key: object, request: AppRequest): Promise<CurrentRequest<Data>> {
  const known = found.get(key) ?? new Map<object, Promise<CurrentRequest<unknown>>>()
  found.set(key, known)
  // What was kept under a relying party was made by it, so it has its data.
  const current = (known.get(rp) as Promise<CurrentRequest<Data>> | undefined) ?? rp.current?.(request) ?? nobody
  known.set(rp, current)
  return current
}

/**
 * Answers a request that nobody is signed in for. A page request goes to the login and comes back; anything else gets
 * 401, since a script cannot follow a login.
 */
export function askToLogIn<Data>(
  rp: RelyingParty<Data>,
  request: GuardedRequest,
  cookies: readonly string[] = [],
): RpAnswer {
  const dest = request.header('sec-fetch-dest')
  const wantsHtml = request.header('accept')?.includes('text/html') === true
  const isPage = request.method === 'GET' && (dest === 'document' || (dest === undefined && wantsHtml))
  return isPage
    ? answer(303, '', { location: rp.loginPath(request.url, 'app') }, cookies)
    : json(401, { error: 'login_required' })
}
