import type { Context, MiddlewareHandler } from 'hono'
import { createMiddleware } from 'hono/factory'
import type { SessionEnd } from '../../protocol/session-document.ts'
import type { Mountable, RelyingParty } from '../relying-party.ts'
import type { RpSession } from '../rp-session.ts'
import { fromFetch, respondTo, toResponse } from './fetch-http.ts'
import { askToLogIn, currentOf } from './guard.ts'

/** What {@link auth} sets; typed where it is used, never for all of Hono. */
export interface MaybeSignedIn<Data> {
  Variables: { rpSession: RpSession<Data> | undefined; rpSessionEnd: SessionEnd | undefined }
}

/** What {@link requireLogin} sets. */
export interface SignedIn<Data> {
  Variables: { rpSession: RpSession<Data> }
}

/** Answers our routes and sets `c.var.rpSession` for every other request. */
export function auth<Data>(rp: Mountable<Data>): MiddlewareHandler<MaybeSignedIn<Data>> {
  return createMiddleware<MaybeSignedIn<Data>>(async (c, next) => {
    const answer = await respondTo(rp, c.req.raw, () => bodyReadBy(c))
    if (answer) return answer
    const { current, cookies } = await currentOf(rp, c.req.raw, fromFetch(c.req.raw))
    if (current.state === 'alive') c.set('rpSession', current.session)
    if (current.state === 'ended') c.set('rpSessionEnd', current.end)
    await next()
    // Afterwards, since a handler may return a Response of its own.
    for (const cookie of cookies) c.header('set-cookie', cookie, { append: true })
    return undefined
  })
}

/**
 * Lets only those through who are signed in at this relying party. A page request goes to the login and comes back;
 * anything else gets 401, since a script cannot follow a login.
 */
export function requireLogin<Data>(rp: RelyingParty<Data>): MiddlewareHandler<SignedIn<Data>> {
  return createMiddleware<SignedIn<Data>>(async (c, next) => {
    const request = fromFetch(c.req.raw)
    const { current } = await currentOf(rp, c.req.raw, request)
    if (current.state !== 'alive') return toResponse(askToLogIn(rp, request))
    c.set('rpSession', current.session)
    return next()
  })
}

/** A middleware before us may have read the body; Hono keeps what it was read as. */
async function bodyReadBy(c: Context): Promise<string | undefined> {
  const { formData, ...other } = c.req.bodyCache
  if (formData === undefined) return Object.keys(other).length === 0 ? undefined : c.req.text()
  const pairs = [...(await c.req.formData())].filter((pair): pair is [string, string] => typeof pair[1] === 'string')
  return new URLSearchParams(pairs).toString()
}
