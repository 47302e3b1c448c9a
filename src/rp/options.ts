import type { SessionEnd } from '../protocol/session-document.ts'
import type { Runtime } from '../runtime/runtime.ts'
import type { EndDownstream } from './cascade.ts'
import type { DecryptionKey } from './decrypt-token.ts'
import type { RpLog } from './log.ts'
import type { RpSession } from './rp-session.ts'
import type { RpStore } from './store/contract.ts'

/** Claims of the ID Token and, where the OP has a UserInfo Endpoint, of UserInfo. What the OP says, not verified further. */
export interface LoginClaims {
  readonly iss: string
  readonly sub: string
  readonly sid?: string
  readonly name?: string
  readonly given_name?: string
  readonly family_name?: string
  readonly preferred_username?: string
  readonly email?: string
  readonly email_verified?: boolean
  readonly picture?: string
  readonly locale?: string
  readonly [claim: string]: unknown
}

/** What one OP may do otherwise than the final specs say. */
export interface OpAllowances {
  /** Logout Tokens without `exp`, as in drafts before 2022: they then expire 10 minutes after `iat`. Default false. */
  logoutTokenWithoutExp?: boolean
  /** Logout Tokens without `typ` or with `JWT`, as many OPs send them. Default true; false accepts `logout+jwt` only. */
  logoutTokenWithoutTyp?: boolean
  /**
   * One `sid` for many RP sessions, one after the other (Keycloak does so): a logout by `sid` then ends only the logins
   * that it knew of, and a late one leaves newer logins alone. Default false.
   */
  sidReused?: boolean
}

/** What an app says of itself and of its OP, however it keeps its sessions. */
export interface AppOptions {
  /** The OP's issuer, exactly as it spells it. */
  issuer: string
  clientId: string
  /** Where the app lives for its users; every URL the OP gets derives from it. */
  appUrl: string
  /** Path under `appUrl` of all routes. Default `/auth`. */
  prefix?: string
  store: RpStore
  /** The `id_token_signed_response_alg` this client is registered with; nothing else is accepted. Default `RS256`. */
  idTokenSignedResponseAlg?: string
  /** Private keys of this client, if ID Tokens and Logout Tokens are registered to be encrypted. Default none. */
  decryptionKeys?: readonly DecryptionKey[]
  /** What this OP may do otherwise than the final specs say; each switch is named after what it allows. */
  allow?: OpAllowances
  /** Allows `http:` beyond this machine. Cookies then lose `Secure` and `__Host-`. Default false. */
  dangerouslyAllowHttp?: boolean
  /** Default: one JSON line per event to standard error. */
  log?: RpLog
  /** The clock and the randomness; tests freeze them. Default: the real ones. */
  runtime?: Omit<Runtime, 'post'>
}

/** Options of {@link createRelyingParty}. Durations are seconds. */
export interface RelyingPartyOptions<Data = unknown> extends AppOptions {
  /** Leave out for a public client. */
  clientSecret?: string
  /** How the client secret is sent to the OP. Default `client_secret_basic`, as in registration. */
  tokenEndpointAuthMethod?: 'client_secret_basic' | 'client_secret_post'
  /**
   * Makes what `req.rpSession.data` holds out of the claims; must survive JSON. Default: nothing is kept. To keep somebody out,
   * throw a `LockstepError` `login_refused`: its message is shown to him.
   */
  mapSession?: (claims: LoginClaims) => Data | Promise<Data>
  /** Default `openid profile`. */
  scope?: string
  /**
   * Other parameters of the authorization request, such as `resource` or `acr_values`. Silent checks go without `acr_values`,
   * `claims`, `max_age` and `resource`, and with the scope `openid` alone: they ask who is signed in, not how. With
   * `max_age` the ID Token must prove it, and no link asks for less. What Lockstep sets itself is refused. Default none.
   */
  authorizationParams?: Readonly<Record<string, string>>
  /** Distinguishes this app's cookies where hosts share them. Default: derived from issuer and client. */
  cookieSuffix?: string
  /** `idle` ends an unused RP session (default 86,400: a day), `absolute` ends any (default 604,800: a week). */
  sessionLifetime?: { idle?: number; absolute?: number }
  /**
   * At least 32 characters, outside the store: tokens at rest and login cookies are encrypted with it. Of several the
   * first encrypts and all decrypt. Default: the client secret.
   */
  secret?: string | readonly string[]
  /** Runs after an RP session was opened, before the browser goes on. Its failure is logged and changes nothing. */
  onSessionStarted?: (session: RpSession<Data>) => void | Promise<void>
  /**
   * Runs once after an RP session was ended (not when it expired) and that was committed, at the node that ended it; one that
   * dies at that moment does not make up for it. Its failure is logged and changes nothing.
   */
  onSessionEnded?: (session: RpSession<Data>, end: SessionEnd) => void | Promise<void>
  /**
   * For an app that is an OP itself: ends the OP sessions that stem from an upstream login. Called once for each logout
   * there, whether an RP session was left here or not, and again, also after a restart, until it resolves; so it may be
   * called twice. It has 30 seconds; then its signal aborts, and it is called again. Front-channel logouts do not get here:
   * anybody could ask for one. Default: nothing is downstream.
   */
  endDownstream?: EndDownstream
}

/** {@link AppOptions}, checked and with every default in its place. */
export interface ResolvedAppOptions {
  readonly issuer: string
  readonly clientId: string
  /** Origin of the app. */
  readonly origin: string
  /** Path of the app's start page. */
  readonly home: string
  /** Path all routes begin with, without a slash at its end. */
  readonly base: string
  readonly store: RpStore
  readonly alg: string
  readonly decryptionKeys: readonly DecryptionKey[]
  readonly allow: Readonly<Required<OpAllowances>>
  readonly allowHttp: boolean
  readonly log: RpLog
  readonly runtime: Omit<Runtime, 'post'>
}

/** What the rest of the RP works with: checked, and nothing is optional any more but what may really be absent. */
export interface ResolvedRpOptions<Data> extends ResolvedAppOptions {
  readonly clientSecret: string | undefined
  readonly tokenEndpointAuthMethod: 'client_secret_basic' | 'client_secret_post'
  readonly mapSession: (claims: LoginClaims) => Data | Promise<Data>
  readonly wantsClaims: boolean
  readonly scope: string
  /** Without `max_age`. */
  readonly authorizationParams: Readonly<Record<string, string>>
  /** The `max_age` of every login. */
  readonly maxAge: number | undefined
  readonly cookieName: string
  /** False only for `dangerouslyAllowHttp` beyond this machine. */
  readonly secureCookies: boolean
  readonly lifetime: { readonly idle: number; readonly absolute: number }
  readonly secrets: readonly string[]
  readonly onSessionStarted: (session: RpSession<Data>) => void | Promise<void>
  readonly onSessionEnded: (session: RpSession<Data>, end: SessionEnd) => void | Promise<void>
  readonly endDownstream: EndDownstream | undefined
}
