import { Readable } from 'node:stream'
import type { Context, Middleware } from 'koa'
import type { SessionEnd } from '../../protocol/session-document.ts'
import type { RpAnswer, RpRequest } from '../http.ts'
import type { Mountable, RelyingParty } from '../relying-party.ts'
import type { RpSession } from '../rp-session.ts'
import { askToLogIn, currentOf } from './guard.ts'
import { fromNode } from './node-http.ts'

/** What {@link auth} puts into `ctx.state`. */
export interface MaybeSignedIn<Data> {
  rpSession?: RpSession<Data>
  rpSessionEnd?: SessionEnd
}

/** What {@link requireLogin} puts into `ctx.state`. */
export interface SignedIn<Data> {
  rpSession: RpSession<Data>
}

/** Answers our routes and sets `ctx.state.rpSession` for every other request. Use it before body parsers. */
export function auth<Data>(rp: Mountable<Data>): Middleware<MaybeSignedIn<Data>> {
  return async (ctx, next) => {
    const request = fromKoa(ctx)
    const answer = await rp.respond(request)
    if (answer) return write(answer, ctx)
    const { current, cookies } = await currentOf(rp, ctx.req, request)
    if (cookies.length > 0) ctx.append('set-cookie', [...cookies])
    if (current.state === 'alive') ctx.state.rpSession = current.session
    if (current.state === 'ended') ctx.state.rpSessionEnd = current.end
    return next()
  }
}

/**
 * Lets only those through who are signed in at this relying party. A page request goes to the login and comes back;
 * anything else gets 401, since a script cannot follow a login.
 */
export function requireLogin<Data>(rp: RelyingParty<Data>): Middleware<SignedIn<Data>> {
  return async (ctx, next) => {
    const request = fromKoa(ctx)
    const { current } = await currentOf(rp, ctx.req, request)
    if (current.state !== 'alive') return write(askToLogIn(rp, request), ctx)
    ctx.state.rpSession = current.session
    return next()
  }
}

type KoaContext = Pick<
  Context,
  'req' | 'res' | 'originalUrl' | 'request' | 'set' | 'append' | 'status' | 'body' | 'onerror'
>

function fromKoa({ req, res, originalUrl, request }: KoaContext): RpRequest {
  // koa-body and @koa/bodyparser keep what they made here; the raw text too, when they have it.
  const { body, rawBody } = request as { body?: unknown; rawBody?: unknown }
  return fromNode(req, res, { url: originalUrl, parsed: typeof rawBody === 'string' ? rawBody : body })
}

/** By Koa's own means, so that middleware around us sees the answer. */
function write({ status, headers, cookies, body }: RpAnswer, ctx: KoaContext): void {
  ctx.status = status
  ctx.set({ ...headers })
  if (cookies.length > 0) ctx.append('set-cookie', [...cookies])
  if (typeof body === 'string') ctx.body = body
  else if (body instanceof Uint8Array) ctx.body = Buffer.from(body)
  else stream(body, ctx)
}

/** Koa takes a stream that nobody reads to its end for an error of the app; of ours, that is how each of them ends. */
function stream(body: AsyncIterable<string>, ctx: KoaContext): void {
  const told = ctx.onerror.bind(ctx)
  const onerror = (error: NodeJS.ErrnoException | null): void => {
    if (error?.code !== 'ERR_STREAM_PREMATURE_CLOSE') told(error as Error)
  }
  Object.assign(ctx, { onerror })
  ctx.body = Readable.from(body)
}
