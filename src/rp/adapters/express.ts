import { once } from 'node:events'
import type { IncomingHttpHeaders } from 'node:http'
import type { NextFunction, Request, RequestHandler, Response } from 'express'
import { LockstepError } from '../../protocol/errors.ts'
import type { SessionEnd } from '../../protocol/session-document.ts'
import { BodyTooLarge, type RpAnswer, type RpRequest } from '../http.ts'
import type { RelyingParty } from '../relying-party.ts'
import type { RpSession } from '../rp-session.ts'

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
export function auth<Data>(rp: RelyingParty<Data>): RequestHandler {
  return async (req, res, next) => {
    const request = fromExpress(req, res)
    const answer = await rp.respond(request)
    if (answer) return write(answer, res)
    const { current, cookies } = await rp.current(request)
    for (const cookie of cookies) res.append('set-cookie', cookie)
    if (current.state === 'alive') req.rpSession = current.session
    if (current.state === 'ended') req.rpSessionEnd = current.end
    next()
  }
}

/**
 * Lets only signed-in browsers through. A page request goes to the login and comes back; anything else gets 401, since
 * a script cannot follow a login.
 */
export function requireLogin<Data>(rp: RelyingParty<Data>): LoginGuard<Data> {
  return (req, res, next) => {
    if (req.rpSession !== undefined) return next()
    const dest = req.headers['sec-fetch-dest']
    const isPage =
      req.method === 'GET' && (dest === 'document' || (dest === undefined && req.accepts('html') === 'html'))
    const headers = { 'cache-control': 'no-store', 'content-type': 'application/json' }
    if (isPage)
      res.writeHead(303, { 'cache-control': 'no-store', location: rp.loginPath(req.originalUrl, 'app') }).end()
    else res.writeHead(401, headers).end(JSON.stringify({ error: 'login_required' }))
  }
}

/**
 * What {@link requireLogin} gives. It asks only for what it uses of Express' request and response: that way TypeScript
 * still infers a route's parameters from its path, and takes from here nothing but whose data `req.rpSession` holds.
 */
export type LoginGuard<Data> = (req: GuardedRequest, res: GuardedResponse<Data>, next: NextFunction) => void

interface GuardedRequest {
  readonly method: string
  readonly originalUrl: string
  readonly headers: IncomingHttpHeaders
  readonly rpSession?: unknown
  accepts(type: string): string | false
}

interface GuardedResponse<Data> {
  readonly locals: SignedIn<Data>
  writeHead(status: number, headers: Record<string, string>): { end(body?: string): unknown }
}

function fromExpress(req: Request, res: Response): RpRequest {
  const gone = new AbortController()
  res.on('close', () => gone.abort())
  return {
    method: req.method,
    url: req.originalUrl,
    header: (name) => [req.headers[name] ?? []].flat().join(', ') || undefined,
    text: (limit) => readText(req, limit),
    signal: gone.signal,
  }
}

/** Reads the raw body. One that a parser has read already is turned back into the form it was. */
async function readText(req: Request, limit: number): Promise<string> {
  const parsed: unknown = req.body
  if (typeof parsed === 'string') return parsed
  if (Buffer.isBuffer(parsed)) return parsed.toString('utf8')
  if (typeof parsed === 'object' && parsed !== null && req.readableEnded) return toForm(parsed)
  if (req.readableEnded) {
    throw new LockstepError('logout_request_invalid', 'the body was read before: mount auth(rp) before body parsers')
  }
  return readRaw(req, limit)
}

// Not `for await`: leaving such a loop early destroys the socket, and the 413 with it.
function readRaw(req: Request, limit: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let length = 0
    const onData = (chunk: Buffer) => {
      length += chunk.length
      chunks.push(chunk)
      if (length <= limit) return
      req.off('data', onData).pause()
      reject(new BodyTooLarge(limit))
    }
    req.on('data', onData)
    req.on('end', () => resolve(Buffer.concat(chunks).toString('utf8')))
    req.on('error', reject)
  })
}

function toForm(body: object): string {
  const pairs = Object.entries(body).flatMap(([name, value]: [string, unknown]) =>
    (Array.isArray(value) ? value : [value]).map((one): [string, string] => [name, String(one)]),
  )
  return new URLSearchParams(pairs).toString()
}

async function write(answer: RpAnswer, res: Response): Promise<void> {
  res.status(answer.status)
  for (const [name, value] of Object.entries(answer.headers)) res.setHeader(name, value)
  for (const cookie of answer.cookies) res.append('set-cookie', cookie)
  if (typeof answer.body === 'string' || answer.body instanceof Uint8Array) {
    res.end(answer.body)
    return
  }
  res.flushHeaders()
  for await (const piece of answer.body) {
    if (!res.write(piece) && !res.closed) await Promise.race([once(res, 'drain'), once(res, 'close')])
  }
  res.end()
}
