import { createHash } from 'node:crypto'
import { CLOCK_TOLERANCE } from '../protocol/check-logout-token.ts'
import { LockstepError } from '../protocol/errors.ts'
import type { SessionDocument, SessionEnd } from '../protocol/session-document.ts'
import { connectOp, type OpConnection } from './connect-op.ts'
import { seconds } from './context.ts'
import { isForeign, json, type RpAnswer, type RpRequest, refusal } from './http.ts'
import { messageOf } from './log.ts'
import {
  type KeptClaims,
  type LogoutReceiverOptions,
  type ResolvedReceiverOptions,
  resolveReceiverOptions,
} from './logout-receiver-options.ts'
import { receiveLogoutToken } from './receive-backchannel.ts'
import { framedSid, signedOutFrame } from './receive-frontchannel.ts'
import type { Mountable } from './relying-party.ts'
import { type RouteTable, refusalFor, routeOf, serve } from './routes.ts'
import { createStreamRegistry, type StreamRegistry, streamOf } from './session-events.ts'
import { serveSessionMonitor } from './session-monitor-file.ts'
import { takePlace } from './side-by-side.ts'
import type { OutsideLogin, RpSessionStore } from './store/contract.ts'
import { LATE_LOGIN } from './store/rules.ts'
import { whoIsUnknown } from './store-failure.ts'

/** Hears logouts for an app that keeps its sessions in cookies of its own. */
export interface LogoutReceiver extends Pick<Mountable, 'respond' | 'home' | 'base' | 'close'> {
  /**
   * Says whether the session with these claims was logged out, or is older than `sessionLifetime`. Ask it with every
   * request: it answers from memory as long as this node hears of every logout, and reads the store when in doubt.
   *
   * @throws LockstepError `store_failed` when it is in doubt and the store cannot be read. Let nobody in then; Express,
   * Fastify and Koa answer 503 by themselves, since the error has that `status`.
   * @throws TypeError when the claims are not those of an ID Token of this OP
   */
  isLoggedOut(claims: KeptClaims): Promise<boolean>
}

/**
 * Makes logouts reach an app whose sessions are cookies that only it can read (iron-session, next-auth and the like).
 *
 * There is nothing to delete for such an app, so it remembers who was logged out (the watermarks of Back-Channel §2.7's
 * RP sessions) for as long as a session may live, and says so when it is asked.
 *
 * @example
 * ```ts
 * import { createLogoutReceiver } from 'lockstep/rp'
 * import { auth } from 'lockstep/rp/express'
 * import { redisStore } from 'lockstep/rp/redis'
 *
 * const logouts = createLogoutReceiver({ issuer, clientId, appUrl, store: redisStore('redis://localhost') })
 * app.use(auth(logouts))
 * app.get('/me', async (req, res) => {
 *   const claims = await readMyCookie(req)
 *   if (!claims || (await logouts.isLoggedOut(claims))) return res.redirect('/login')
 *   res.send(claims.sub)
 * })
 * ```
 *
 * @throws TypeError naming the option that is wrong
 */
export function createLogoutReceiver(options: LogoutReceiverOptions): LogoutReceiver {
  const resolved = resolveReceiverOptions(options)
  const store = resolved.store.forClient(resolved, resolved.runtime)
  const context: ReceiverContext = {
    options: resolved,
    store,
    op: connectOp(resolved),
    streams: createStreamRegistry(resolved.runtime),
  }
  const routes = routesFor(resolved)
  const leavePlace = takePlace(resolved)
  return {
    async respond(request) {
      const name = routeOf(resolved, request)
      if (name === undefined || !routes.has(name)) return undefined // such as the app's own login beside ours
      return serve(routes, context, request, (route, error) => refusalFor(resolved, route, error))
    },
    home: resolved.home,
    base: resolved.base,
    async isLoggedOut(claims) {
      const login = loginOf(context, claims)
      try {
        return (await endOf(context, login)) !== undefined
      } catch (cause) {
        throw whoIsUnknown(context, 'isLoggedOut', cause)
      }
    },
    async close() {
      leavePlace()
      context.streams.closeAll()
    },
  }
}

interface ReceiverContext {
  readonly options: ResolvedReceiverOptions
  readonly store: RpSessionStore
  readonly op: OpConnection
  readonly streams: StreamRegistry
}

function routesFor({ readSession, clearSession }: ResolvedReceiverOptions): RouteTable<ReceiverContext> {
  const get = (route: (context: ReceiverContext, request: RpRequest) => Promise<RpAnswer>) => new Map([['GET', route]])
  return new Map([
    ['backchannel-logout', new Map([['POST', rememberLogout]])],
    ...(readSession && clearSession ? ([['frontchannel-logout', get(clearInFrame)]] as const) : []),
    ...(readSession
      ? ([
          ['session', get(showSession)],
          ['session/events', get(streamSession)],
          ['session-monitor.js', get((_context, request) => serveSessionMonitor(request))],
        ] as const)
      : []),
  ])
}

function rememberLogout({ options, op, store }: ReceiverContext, request: RpRequest): Promise<RpAnswer> {
  const remembered = options.sessionLifetime + LATE_LOGIN
  return receiveLogoutToken(
    { options, op, remembered, countsSessions: false, end: (target, notice) => store.endBy(target, notice) },
    request,
  )
}

/**
 * Clears the app's cookie when the OP's logout page frames this URL, if the browser sends the cookie along and it is of
 * the `sid` that is named. Nothing is remembered: anybody could ask (T4). So browsers that keep cookies out of frames
 * of other sites, and cookies that are not `SameSite=None`, are out of reach for the front channel.
 */
async function clearInFrame(context: ReceiverContext, request: RpRequest): Promise<RpAnswer> {
  const { clearSession, log } = context.options
  const sid = framedSid(context, request)
  const login = await keptLogin(context, request)
  const isMeant = login !== undefined && login.sid === sid
  log({ event: 'frontchannel_logout_received', ended: isMeant ? 1 : 0 })
  return signedOutFrame(context, isMeant ? clearSession?.(request) : [])
}

async function showSession(context: ReceiverContext, request: RpRequest): Promise<RpAnswer> {
  if (isForeign(request)) return refusal(403, 'invalid_request', 'only this app may ask')
  const login = await keptLogin(context, request)
  const document: SessionDocument = login ? await documentOf(context, login) : { state: 'none' }
  return json(document.state === 'alive' ? 200 : 401, document)
}

async function streamSession(context: ReceiverContext, request: RpRequest): Promise<RpAnswer> {
  if (isForeign(request)) return refusal(403, 'invalid_request', 'only this app may listen')
  const login = await keptLogin(context, request)
  if (!login) return json(401, { state: 'none' } satisfies SessionDocument)
  const { store } = context
  const watched = {
    name: nameOf(context, login),
    read: () => documentOf(context, login),
    async subscribe(onHint: () => void) {
      const bySub = await store.subscribe({ sub: login.sub }, onHint)
      if (login.sid === undefined) return bySub
      const bySid = await store.subscribe({ sid: login.sid }, onHint).catch((error: unknown) => {
        bySub()
        throw error
      })
      return () => {
        bySub()
        bySid()
      }
    },
  }
  return streamOf(watched, context, request)
}

/** @throws LockstepError `session_unreadable` when the app's `readSession` fails or gives claims that are no login's */
async function keptLogin(context: ReceiverContext, request: RpRequest): Promise<OutsideLogin | undefined> {
  try {
    const claims = await context.options.readSession?.(request)
    return claims && loginOf(context, claims)
  } catch (cause) {
    throw new LockstepError('session_unreadable', `readSession: ${messageOf(cause)}`, { cause })
  }
}

async function documentOf(context: ReceiverContext, login: OutsideLogin): Promise<SessionDocument> {
  const { clientId, sessionLifetime } = context.options
  const session = nameOf(context, login)
  const ended = await endOf(context, login)
  if (ended) return { state: 'ended', session, ended }
  const expires_at = Math.floor(login.firstIat + sessionLifetime)
  return { state: 'alive', session, sub: login.sub, client_id: clientId, expires_at }
}

/** How the session of a login ended, if it has. What is older than every remembered logout is over too. */
async function endOf(context: ReceiverContext, login: OutsideLogin): Promise<SessionEnd | undefined> {
  const { sessionLifetime, allow } = context.options
  const expiresAt = Math.floor(login.firstIat + sessionLifetime)
  if (seconds(context) >= expiresAt) return { cause: 'expired', at: expiresAt }
  const at = await context.store.loggedOutAt(login, { sidReused: allow.sidReused })
  return at === undefined ? undefined : { cause: 'logout_token', at: Math.floor(at) }
}

function loginOf(context: ReceiverContext, claims: KeptClaims): OutsideLogin {
  const { issuer } = context.options
  const { iss = issuer, sub, sid, iat } = claims
  if (iss !== issuer) throw new TypeError('the claims are of another issuer: ask the receiver that is for it')
  if (typeof sub !== 'string' || sub === '') throw new TypeError('the claims must have the sub of the ID Token')
  if (typeof iat !== 'number' || !Number.isFinite(iat))
    throw new TypeError('the claims must have the iat of the ID Token')
  // Every logout would be older than it, and the session would live for ever.
  if (iat > seconds(context) + CLOCK_TOLERANCE)
    throw new TypeError('the iat lies in the future: it must be that of the ID Token, in seconds')
  return { sub, firstIat: iat, ...(sid === undefined || sid === '' ? {} : { sid }) }
}

/** A name that is equal in all tabs of a session and worthless as a credential. */
function nameOf({ options }: ReceiverContext, { sid = '', sub, firstIat }: OutsideLogin): string {
  const login = JSON.stringify([options.issuer, options.clientId, sid, sub, firstIat])
  return createHash('sha256').update(`kept:${login}`).digest().subarray(0, 16).toString('base64url')
}
