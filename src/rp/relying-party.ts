import { createTokenRefresher } from './access-token.ts'
import { startCascade } from './cascade.ts'
import { connectOp } from './connect-op.ts'
import type { RpContext } from './context.ts'
import { readSessionCookie } from './cookies.ts'
import { type AppRequest, type CurrentRequest, currentSession } from './current-session.ts'
import { endSessionsOf, sessionsOf } from './end-sessions.ts'
import type { RpAnswer, RpRequest } from './http.ts'
import type { RelyingPartyOptions } from './options.ts'
import { resolveRpOptions } from './resolve-options.ts'
import { startTokenRevoker } from './revoke-tokens.ts'
import { respond } from './routes.ts'
import type { RpSession } from './rp-session.ts'
import { createSealer } from './seal.ts'
import { createStreamRegistry } from './session-events.ts'
import { takePlace } from './side-by-side.ts'

/** One app's side of login and logout. Adapters such as `lockstep/rp/express` put it into a framework. */
export interface RelyingParty<Data = unknown> {
  /** Answers a request to one of our own routes; `undefined` for every other path. */
  respond(request: RpRequest): Promise<RpAnswer | undefined>
  /** Finds who is signed in at the browser that made an app's request, and counts it as use of the RP session. */
  current(request: AppRequest): Promise<CurrentRequest<Data>>
  /** Path of the app's start page, as `appUrl` says: `/` for most. */
  readonly home: string
  /** Path all of our routes begin with: `prefix` behind the path of `appUrl`. */
  readonly base: string
  /** Says whether a request has a session cookie that may be worth something. A guess that costs nothing. */
  hasCookie(request: Pick<RpRequest, 'header'>): boolean
  /**
   * The access token of whoever is signed in at the browser that sent this `Cookie` header, refreshed when it is about to
   * expire: once, however many requests and processes ask. `undefined` when nobody is signed in or no valid one can be
   * had any more; a new login brings one.
   *
   * @throws LockstepError `op_unreachable` or `op_answer_invalid` when it had to be refreshed and could not be
   */
  accessToken(cookie: string | null | undefined): Promise<string | undefined>
  /**
   * The live RP sessions of an End-User, newest first: for a page that shows where he is signed in, or a broker that asks
   * whether one is still there.
   *
   * @throws LockstepError `store_failed`, with `status` 503
   */
  sessionsOf(sub: string): Promise<readonly RpSession<Data>[]>
  /**
   * Ends RP sessions because the app wants so: all of an End-User's, or those that are meant, such as the one that he picked
   * on that page. Their tabs hear it, their refresh tokens are revoked, and `onSessionEnded` runs with the cause `admin`. His
   * login at the OP goes on, and the next one in such a browser asks him once more. One that is under way just now may
   * come through: refuse in `mapSession` whom you would not let in (`login_refused`). Resolves with those that ended.
   *
   * @throws LockstepError `store_failed`, with `status` 503, when one could not be ended; the others have been all the same
   */
  endSessions(sub: string, isMeant?: (session: RpSession<Data>) => boolean): Promise<readonly RpSession<Data>[]>
  /**
   * Path and query at which a login begins that comes back to `returnTo` (a path in this app). Say `by: 'app'` when the
   * app sends the browser there unasked, as `requireLogin` does: who has just signed out of this app then sees that,
   * instead of being signed in again without a word. Default `user`.
   */
  loginPath(returnTo?: string, by?: 'user' | 'app'): string
  /** Ends open streams and stops background work, so that a server can close. The store stays the caller's. */
  close(): Promise<void>
}

/** What an adapter puts into a framework: a relying party, or a {@link LogoutReceiver}, which signs nobody in. */
export interface Mountable<Data = unknown>
  extends Pick<RelyingParty<Data>, 'respond' | 'home' | 'base' | 'close'>,
    Partial<Pick<RelyingParty<Data>, 'current'>> {}

/**
 * Makes an app a Relying Party: login, callback, RP sessions, logout endpoints and live events.
 *
 * It returns at once; the first use discovers the OP, so that an OP that is down does not stop the app from starting.
 *
 * @example
 * ```ts
 * import { createRelyingParty } from 'lockstep/rp'
 * import { auth, requireLogin } from 'lockstep/rp/express'
 * import { sqliteStore } from 'lockstep/rp/sqlite'
 *
 * const rp = createRelyingParty({
 *   issuer, clientId, clientSecret, appUrl, store: sqliteStore('app.db'),
 *   mapSession: (claims) => ({ name: claims.name }),
 * })
 * app.use(auth(rp))
 * app.get('/', requireLogin(rp), (req, res) => res.send(req.rpSession.data.name))
 * ```
 *
 * @throws TypeError naming the option that is wrong
 */
export function createRelyingParty<Data = undefined>(options: RelyingPartyOptions<Data>): RelyingParty<Data> {
  const resolved = resolveRpOptions(options)
  const store = resolved.store.forClient(resolved, resolved.runtime)
  const op = connectOp(resolved)
  const sealer = createSealer(resolved.secrets)
  const revoker = startTokenRevoker({ store, op, sealer, options: resolved })
  const { endDownstream } = resolved
  const cascade = endDownstream && startCascade({ store, options: resolved, endDownstream })
  const streams = createStreamRegistry(resolved.runtime)
  const context: RpContext<Data> = { options: resolved, store, op, sealer, revoker, cascade, streams }
  const refresher = createTokenRefresher(context)
  const leavePlace = takePlace(resolved)
  return {
    respond: (request) => respond(context, request),
    current: (request) => currentSession(context, request),
    home: resolved.home,
    base: resolved.base,
    accessToken: (cookie) => refresher.accessToken(cookie ?? undefined),
    hasCookie: (request) => readSessionCookie(request, resolved) !== undefined,
    sessionsOf: (sub) => sessionsOf(context, sub),
    endSessions: (sub, isMeant = () => true) => endSessionsOf(context, sub, isMeant),
    loginPath(returnTo, by = 'user') {
      const query = new URLSearchParams(returnTo === undefined ? {} : { return_to: returnTo })
      if (by === 'app') query.set('by', by)
      return `${resolved.base}/login${query.size === 0 ? '' : `?${query}`}`
    },
    async close() {
      leavePlace()
      streams.closeAll()
      await Promise.all([revoker.stop(), cascade?.stop()])
    },
  }
}
