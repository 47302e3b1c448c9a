import type { IncomingMessage, ServerResponse } from 'node:http'
import type { NextFunction, RequestHandler } from 'express'
import type { SessionEnd } from '../../protocol/session-document.ts'
import type { Mountable, RelyingParty } from '../relying-party.ts'
import type { RpSession } from '../rp-session.ts'
import { askToLogIn, currentOf } from './guard.ts'
import { fromNode, writeNode } from './node-http.ts'

declare const signedIn: unique symbol

/** Marks handlers that run behind {@link requireLogin}, so that TypeScript knows whose data `req.rpSession` holds. */
export interface SignedIn<Data> {
  [signedIn]: Data
}

declare module 'express-serve-static-core' {
  interface Request<P, ResBody, ReqBody, ReqQuery, LocalsObj> {
    /** Who is signed in at this browser. Behind `requireLogin(rp)` it is always there, with the data of its `mapSession`. */
    rpSession: LocalsObj extends SignedIn<infer Data> ? RpSession<Data> : RpSession | undefined
    /** How the RP session ended whose cookie this browser still has. */
    rpSessionEnd?: SessionEnd
  }
}

/** Answers our routes and puts `req.rpSession` on every other request. Mount it before body parsers. */
export function auth<Data>(rp: Mountable<Data>): RequestHandler {
  return async (req, res, next) => {
    const request = fromNode(req, res, { url: req.originalUrl, parsed: req.body })
    const answer = await rp.respond(request)
    if (answer) return writeNode(answer, res)
    const { current, cookies } = await currentOf(rp, req, request)
    for (const cookie of cookies) res.append('set-cookie', cookie)
    if (current.state === 'alive') req.rpSession = current.session
    if (current.state === 'ended') req.rpSessionEnd = current.end
    next()
  }
}

/**
 * Lets only those through who are signed in at this relying party. A page request goes to the login and comes back;
 * anything else gets 401, since a script cannot follow a login.
 */
export function requireLogin<Data>(rp: RelyingParty<Data>): LoginGuard<Data> {
  return async (req, res, next) => {
    const request = fromNode(req, res, { url: req.originalUrl })
    const { current, cookies } = await currentOf(rp, req, request)
    if (current.state !== 'alive') return writeNode(askToLogIn(rp, request, cookies), res)
    req.rpSession = current.session
    next()
  }
}

/**
 * What {@link requireLogin} gives. It asks only for what it uses of Express' request and response: that way TypeScript
 * still infers a route's parameters from its path, and takes from here nothing but whose data `req.rpSession` holds.
 */
export type LoginGuard<Data> = (req: GuardedRequest, res: GuardedResponse<Data>, next: NextFunction) => Promise<void>

interface GuardedRequest extends IncomingMessage {
  readonly originalUrl: string
  rpSession?: unknown
}

interface GuardedResponse<Data> extends ServerResponse {
  readonly locals: SignedIn<Data>
}
