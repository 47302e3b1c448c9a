import type { IncomingMessage, ServerResponse } from 'node:http'
import type { RpRequest } from '../http.ts'
import type { Mountable, RelyingParty } from '../relying-party.ts'
import type { CurrentRpSession, RpSession } from '../rp-session.ts'
import { askToLogIn, currentOf } from './guard.ts'
import { fromNode, writeNode } from './node-http.ts'

/**
 * Answers our routes; `false` for every other path, which is the app's. Call it before anything reads the body.
 *
 * @example
 * ```ts
 * import { createServer } from 'node:http'
 * import { createRelyingParty } from 'lockstep/rp'
 * import { auth, requireLogin } from 'lockstep/rp/node'
 *
 * const lockstep = auth(createRelyingParty({ issuer, clientId, clientSecret, appUrl, store }))
 * createServer(async (req, res) => {
 *   if (await lockstep(req, res)) return
 *   const session = await requireLogin(rp, req, res)
 *   if (session) res.end(`Hello ${session.sub}`)
 * })
 * ```
 */
export function auth<Data>(rp: Mountable<Data>): (req: IncomingMessage, res: ServerResponse) => Promise<boolean> {
  return async (req, res) => {
    const answer = await rp.respond(requestOf(req, res))
    if (answer) await writeNode(answer, res)
    return answer !== undefined
  }
}

/** Says who is signed in at the browser that made this request, and how the RP session ended if it has. */
export async function getRpSession<Data>(
  rp: RelyingParty<Data>,
  req: IncomingMessage,
  res: ServerResponse,
): Promise<CurrentRpSession<Data>> {
  const { current, cookies } = await currentOf(rp, req, requestOf(req, res))
  if (!res.headersSent) for (const cookie of cookies) res.appendHeader('set-cookie', cookie)
  return current
}

/** Finds who is signed in. When nobody is, it answers (login for pages, 401 for scripts) and gives `undefined`. */
export async function requireLogin<Data>(
  rp: RelyingParty<Data>,
  req: IncomingMessage,
  res: ServerResponse,
): Promise<RpSession<Data> | undefined> {
  const request = requestOf(req, res)
  const { current, cookies } = await currentOf(rp, req, request)
  if (current.state === 'alive') return current.session
  await writeNode(askToLogIn(rp, request, cookies), res)
  return undefined
}

// Connect and its kin cut `url` where they mount, and keep the whole one here.
function requestOf(req: IncomingMessage & { originalUrl?: string; body?: unknown }, res: ServerResponse): RpRequest {
  return fromNode(req, res, { url: req.originalUrl, parsed: req.body })
}
