import { randomBytes } from 'node:crypto'
import type { Context } from 'koa'
import {
  type AdapterPayload,
  type Client,
  type ClientMetadata,
  type KoaContextWithOIDC,
  Provider as OidcProvider,
  type Session,
} from 'oidc-provider'
import { LockstepError } from '../protocol/errors.ts'
import { BACKCHANNEL_LOGOUT_EVENT, type LogoutDetails, REVOKE_OFFLINE_EVENT } from '../protocol/logout-token.ts'
import type { ClaimedDelivery } from './store/contract.ts'

/*
 * Everything that leans on undocumented behaviour of oidc-provider stands in this file: each assumption is checked at
 * start and held by a test in test/op/provider-seam.test.ts.
 */

declare module 'oidc-provider' {
  interface Client {
    /** Sends a Logout Token inside the user's request; replaced, since the outbox does that. */
    backchannelLogout(sub: string, sid?: string): Promise<void>
  }
  interface IdToken {
    /** The claims as they are issued. */
    payload(): Promise<Record<string, unknown>>
    /** `{ sub: null }` lets `sub` into a token that was granted no scope. */
    mask: Record<string, null>
  }
  interface Session {
    /** True once `destroy` ran: the session is then neither saved nor given a cookie. */
    destroyed?: boolean
  }
}

/** What Lockstep does where oidc-provider would do its own. */
export interface SeamActions {
  /** Ends the OP session for good: called where oidc-provider would only delete its row (a user switch). */
  endSession(session: Session): Promise<void>
  /** What the browser keeps of a user switch in this OP session. */
  userSwitch(ctx: KoaContextWithOIDC, session: Session): Promise<Session['state']>
  /** The OP session, by its uid, that a login goes on in although its OP cookie opens none. */
  joinedSession(ctx: KoaContextWithOIDC): Promise<string | undefined>
}

/** oidc-provider's own route that ends the old OP session when another account logs in (`resume.js`). */
const USER_SWITCH_ROUTE = 'end_session_confirm'

/** Where oidc-provider goes on after an interaction; it reads the OP session first (`shared/session.js`). */
const RESUME_ROUTES: ReadonlySet<string | undefined> = new Set(['resume', 'device_resume'])

/** True while oidc-provider revokes grants one by one before it destroys a session; our transaction does it set-wise. */
export function revokesOneByOne(route: string | undefined): boolean {
  return route === USER_SWITCH_ROUTE
}

/** The id of the interaction with which a request goes on, by oidc-provider's own cookie; it checks the cookie itself. */
export function resumedInteraction({ oidc, cookies }: KoaContextWithOIDC): string | undefined {
  if (!RESUME_ROUTES.has(oidc?.route)) return undefined
  return cookies.get(oidc.provider.cookieName('resume'), { signed: false })
}

/** Puts Lockstep's road under oidc-provider's models. */
export function attachSeam(provider: OidcProvider, actions: SeamActions): void {
  assertSeam(provider)
  const client: Client = provider.Client.prototype
  // Every ID Token carries `sid`: an RP without logout URIs today may be told by other means tomorrow.
  client.includeSid = () => true
  // The transaction that ends the OP session plans the deliveries; nothing is sent inside the request.
  client.backchannelLogout = async () => {}
  const session: Session = provider.Session.prototype
  const { Session: sessions } = provider
  const get = sessions.get.bind(sessions)
  sessions.get = async (ctx) => {
    const found = await get(ctx)
    const ours = ctx as KoaContextWithOIDC
    if (ours.oidc?.route === USER_SWITCH_ROUTE) found.state ??= await actions.userSwitch(ours, found)
    const uid = found.accountId === undefined && ours.oidc ? await actions.joinedSession(ours) : undefined
    const joined = uid === undefined ? undefined : await sessions.findByUid(uid)
    if (!joined) return found
    joined.jti = randomBytes(32).toString('base64url') // oidc-provider retires it for another: it must be no tab's cookie
    ours.oidc.entity('Session', joined)
    return joined
  }
  session.destroy = async function destroy(this: Session) {
    await actions.endSession(this)
    this.destroyed = true
    provider.emit('session.destroyed', this)
  }
}

/** Fails at start, with a sentence, when this oidc-provider no longer has what the seam builds on. */
export function assertSeam(provider: OidcProvider): void {
  const assumptions: readonly (readonly [string, boolean])[] = [
    ['Client(metadata, ctx)', arity(provider.Client) === 2],
    ['Client.prototype.includeSid()', arity(provider.Client.prototype.includeSid) === 0],
    ['Client.prototype.backchannelLogout(sub, sid)', arity(provider.Client.prototype.backchannelLogout) === 2],
    ['Session.prototype.destroy()', arity(provider.Session.prototype.destroy) === 0],
    ['Session.get(ctx)', arity(provider.Session.get) === 1],
    ['IdToken.validate(jwt, client)', arity(provider.IdToken?.validate) === 2],
    ['registerResponseMode(name, handler)', arity(OidcProvider.prototype.registerResponseMode) === 2],
    ['createContext(req, res)', arity(provider.createContext) === 2],
    ['OIDCContext(ctx)', arity(provider.OIDCContext) === 1],
    ['IdToken with a mask', masksClaims(provider)],
    ['Session.destroyed', marksDestroyed(provider)],
    [`the route ${USER_SWITCH_ROUTE}`, hasRoute(provider, USER_SWITCH_ROUTE)],
    ['cookieName(type)', arity(provider.cookieName) === 1],
  ]
  const missing = assumptions.filter(([, holds]) => !holds).map(([name]) => name)
  if (missing.length > 0) {
    throw new LockstepError(
      'provider_unsupported',
      `This version of oidc-provider lacks ${missing.join(', ')}, which Lockstep builds on. ` +
        'Install a version inside the range of the peer dependency "oidc-provider" in lockstep\'s package.json.',
    )
  }
}

/** An IdToken takes its claims and a client, and what stands in its `mask` is asked when it is issued. */
function masksClaims({ IdToken }: OidcProvider): boolean {
  return arity(IdToken) === 2 && /\.mask\(\s*this\.mask\s*\)/.test(textOf(IdToken?.prototype.payload))
}

/** oidc-provider's own `destroy` leaves the mark by which its session handler neither saves the session nor sets its cookie. */
function marksDestroyed({ Session }: OidcProvider): boolean {
  return /\bthis\.destroyed\s*=\s*true\b/.test(textOf(Session.prototype.destroy))
}

function hasRoute(provider: OidcProvider, name: string): boolean {
  return pathOf(provider, name) !== undefined
}

/** The path of one of oidc-provider's routes, `undefined` where its feature is off. */
export function pathOf(provider: OidcProvider, name: string): string | undefined {
  try {
    return provider.pathFor(name, { mountPath: '' })
  } catch {
    return undefined // that is how the router says that it does not know a name
  }
}

/** A method's source: what it does inside cannot be asked for otherwise before there is a request. */
function textOf(method: unknown): string {
  return typeof method === 'function' ? Function.prototype.toString.call(method) : ''
}

function arity(method: unknown): number {
  return typeof method === 'function' ? method.length : -1
}

/** True for the error of `IdToken.validate` that says that the OP has no key of this algorithm and `kid` (any more). */
export function isOfUnknownKey(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ERR_JWKS_NO_MATCHING_KEY'
}

/** A client of this registration. Unlike `Client.find` it holds it against the rules and asks no host about it. */
export function clientFrom(provider: OidcProvider, metadata: ClientMetadata | AdapterPayload): Client {
  const Registered: unknown = provider.Client
  return new (Registered as new (registration: object) => Client)(metadata)
}

/** Gives a request outside oidc-provider's routes the context its hooks (`findAccount`, `pairwiseIdentifier`) expect. */
export function withOidcContext(provider: OidcProvider, ctx: Context): KoaContextWithOIDC {
  // configurable, since the router defines `oidc` anew on the way through
  Object.defineProperty(ctx, 'oidc', { value: new provider.OIDCContext(ctx), configurable: true })
  return ctx as KoaContextWithOIDC
}

/** What a Logout Token says beside whom it is about. */
export interface MintedClaims {
  readonly jti: string
  readonly details?: LogoutDetails
  /** A code that says why. */
  readonly reason?: string
  /** Tokens with `offline_access` are revoked too: told as Keycloak tells it, by a second member of `events`. */
  readonly revokeOffline: boolean
  /** The account was erased meanwhile: no RP knows it by its pseudonym. Default false. */
  readonly isErased?: boolean
}

/**
 * Mints a fresh Logout Token for one attempt: the client's own algorithm, encryption and (pairwise) `sub`, as oidc-provider
 * has them for its ID Tokens; `toe` is the time of the logout and equal on every attempt (Back-Channel §2.4, RFC 8417).
 *
 * A client that registered `backchannel_logout_session_required` gets `sid` alone: widespread RPs end all of a user's
 * sessions when `sub` is there as well, and the phone would be signed out with the laptop. So does every client where the
 * account was erased meanwhile, and an operator has it told once more.
 */
export async function mintLogoutToken(
  provider: OidcProvider,
  client: Client,
  delivery: Pick<ClaimedDelivery, 'logout' | 'sid'>,
  { jti, details, reason, revokeOffline, isErased = false }: MintedClaims,
): Promise<string> {
  const { logout, sid } = delivery
  const token = new provider.IdToken({ sub: logout.accountId }, { client })
  if (!client.backchannelLogoutSessionRequired && !isErased) token.mask = { sub: null }
  token.set('events', { [BACKCHANNEL_LOGOUT_EVENT]: {}, ...(revokeOffline && { [REVOKE_OFFLINE_EVENT]: true }) })
  token.set('jti', jti)
  token.set('sid', sid)
  token.set('toe', Math.floor(logout.endedAt / 1000))
  if (details) token.set('lockstep_logout_details', details)
  if (reason !== undefined) token.set('reason', reason)
  return token.issue({ use: 'logout' })
}
