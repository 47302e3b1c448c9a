import type { Context } from 'koa'
import type {
  Configuration,
  CookiesSetOptions,
  KoaContextWithOIDC,
  Provider as OidcProvider,
  Session,
} from 'oidc-provider'
import { messageOf } from '../runtime/message-of.ts'
import type { Runtime } from '../runtime/runtime.ts'
import { type BrowserLoginsParts, forgetLogins, loginsIn, uidsOf } from './browser-logins.ts'
import type { SignedIn } from './browser-state.ts'
import { checkOrigin, checkSessionIframe } from './check-session-iframe.ts'
import { CHECK_SESSION_PATH, type CookieNames } from './configuration.ts'
import { type Answer, fromKoa, toKoa } from './http.ts'
import type { OpLog } from './log.ts'
import {
  type LogoutEndpoint,
  type LogoutEndpointParts,
  type LogoutExchange,
  logoutEndpoint,
  refuse,
} from './logout/logout-endpoint.ts'
import type { LogoutPaths } from './logout/logout-http.ts'
import { RECEIPT_LIFETIME } from './logout/receipts.ts'
import { lastLogoutOf } from './logout/show-receipt.ts'
import { handleOf } from './model-adapter.ts'
import { meantBy } from './op-cookie.ts'
import { withOidcContext } from './provider-seam.ts'
import type { OpIssuerStore } from './store/contract.ts'

/** What the routes that Lockstep adds to an OP are built from. */
export interface SessionRoutesParts
  extends Pick<LogoutEndpointParts, 'receipts' | 'findClient' | 'pages' | 'declined' | 'end' | 'firstAttempts'> {
  readonly provider: OidcProvider
  readonly runtime: Pick<Runtime, 'now'>
  readonly store: LogoutEndpointParts['store'] & Pick<OpIssuerStore, 'getRotated'>
  readonly cookieNames: CookieNames
  readonly browserLogins: BrowserLoginsParts
  /** The attributes of the OP cookie, needed to clear it. */
  readonly sessionCookie: CookiesSetOptions
  readonly findAccount: Configuration['findAccount']
  readonly pairwiseIdentifier: Configuration['pairwiseIdentifier']
  readonly log: OpLog
  readonly sealingKey: () => Promise<Uint8Array>
  readonly rotateBrowserState: (ctx: Context, signedIn: SignedIn) => Promise<string>
}

/** Methods and paths below `end_session_endpoint`, and what serves them; oidc-provider keeps `/confirm` for its user switch. */
const LOGOUT_ROUTES: ReadonlyMap<string, Readonly<Record<string, LogoutRoute>>> = new Map([
  ['', { GET: 'endpoint', HEAD: 'endpoint', POST: 'endpoint' }],
  ['/ask', { GET: 'ask', HEAD: 'ask', POST: 'answer' }],
  ['/apps', { GET: 'frames', HEAD: 'frames' }],
  ['/refused', { GET: 'refused', HEAD: 'refused' }],
  ['/signed-out', { GET: 'signedOut', HEAD: 'signedOut' }],
  ['/success', { GET: 'signedOut', HEAD: 'signedOut' }], // oidc-provider's own page asks a foreign host for its font
])

type LogoutRoute = keyof LogoutEndpoint

/** Routes that come after a logout: whatever fails there, the End-User is signed out, unless the browser has a login. */
const AFTER_LOGOUT: ReadonlySet<LogoutRoute> = new Set(['frames', 'signedOut'])

/** Serves a request for one of Lockstep's routes; `undefined`, and at once, when it is for somebody else. */
export type SessionRoutes = (ctx: Context) => Promise<void> | undefined

/** Builds what serves the OP iframe and the Logout Endpoint. Every request of the OP asks, so it takes no more than a look. */
export function sessionRoutes(parts: SessionRoutesParts): SessionRoutes {
  const endpoint = normalized(parts.provider.pathFor('end_session', { mountPath: '' }))
  const routes = new Map<string, (ctx: Context) => Promise<void>>([
    [CHECK_SESSION_PATH, (ctx) => opIframeRoute(ctx, parts)],
    ...[...LOGOUT_ROUTES].map(([path, methods]): [string, (ctx: Context) => Promise<void>] => [
      endpoint + path,
      async (ctx) => {
        const route = methods[ctx.method]
        return route ? logoutRoute(ctx, route, parts) : toKoa(ctx, notAllowed(Object.keys(methods)))
      },
    ]),
  ])
  return (ctx) => routes.get(normalized(ctx.path))?.(ctx)
}

/** As oidc-provider's router sees a path: what slipped past us here would reach its own Logout Endpoint there. */
export function normalized(path: string): string {
  const lower = path.toLowerCase()
  return lower.length > 1 && lower.endsWith('/') ? lower.slice(0, -1) : lower
}

async function opIframeRoute(ctx: Context, { provider, cookieNames }: SessionRoutesParts): Promise<void> {
  const request = fromKoa(ctx)
  const path = new URL(provider.issuer.replace(/\/$/, '') + CHECK_SESSION_PATH).pathname
  const answer = async (): Promise<Answer> => {
    if (request.method === 'POST') return checkOrigin(request, provider)
    const isRead = request.method === 'GET' || request.method === 'HEAD'
    return isRead
      ? checkSessionIframe(request, { cookie: cookieNames.browserState, path })
      : notAllowed(['GET', 'HEAD', 'POST'])
  }
  await answered(ctx, provider, answer, async () => ({
    status: 500,
    headers: { 'cache-control': 'no-store' },
    body: '',
  }))
}

async function logoutRoute(ctx: Context, route: LogoutRoute, parts: SessionRoutesParts): Promise<void> {
  const { provider, pages } = parts
  const oidc = withOidcContext(provider, ctx)
  const paths = logoutPaths(provider)
  let isSignedOut = false
  const answer = async (): Promise<Answer> => {
    const sealingKey = await parts.sealingKey()
    const endpoint = logoutEndpoint({ ...parts, ...accountsOf(oidc, parts), paths, sealingKey })
    const exchange = await exchangeOf(oidc, parts)
    isSignedOut = AFTER_LOGOUT.has(route) && exchange.sessions.length === 0
    return endpoint[route](exchange)
  }
  const refused = (theirs: typeof pages) => async (): Promise<Answer> => {
    const problem = isSignedOut ? 'receipt_unavailable' : 'server_error'
    return refuse({ provider, paths, pages: theirs }, fromKoa(ctx), 500, { problem })
  }
  await answered(ctx, provider, answer, refused(pages), refused({})) // a page of the operator's may be what failed
}

/** Writes the first answer that does not fail; the operator hears of each failure. */
async function answered(
  ctx: Context,
  provider: OidcProvider,
  ...[first, ...others]: readonly [() => Promise<Answer>, ...(() => Promise<Answer>)[]]
): Promise<void> {
  try {
    toKoa(ctx, await first())
  } catch (error) {
    const [second, ...rest] = others
    if (!second) throw error
    provider.emit('server_error', ctx, error instanceof Error ? error : new Error(String(error)))
    await answered(ctx, provider, second, ...rest)
  }
}

/** Where the Logout Endpoint's pages are, in the request at hand (its mount path counts). */
export function logoutPaths(provider: OidcProvider): LogoutPaths {
  const endpoint = provider.pathFor('end_session')
  return {
    endpoint,
    ask: `${endpoint}/ask`,
    frames: `${endpoint}/apps`,
    refused: `${endpoint}/refused`,
    signedOut: `${endpoint}/signed-out`,
  }
}

/** The OP sessions that this browser is signed in in: by its OP cookie, a replaced one too, and by the logins it remembers. */
async function sessionsOf(
  ctx: KoaContextWithOIDC,
  logins: readonly string[],
  { provider, store, cookieNames, sessionCookie }: SessionRoutesParts,
): Promise<readonly Session[]> {
  const current: Session = await provider.Session.get(ctx)
  const cookie = ctx.oidc.cookies.get(cookieNames.session, sessionCookie)
  const uids = new Set(logins)
  if (current.accountId === undefined && cookie !== undefined) {
    const meant = await meantBy(handleOf(cookie), store)
    if (meant.state === 'rotated') uids.add(meant.session.uid)
  }
  uids.delete(current.uid)
  const others = await Promise.all([...uids].map((uid) => provider.Session.findByUid(uid)))
  return [current, ...others].filter((session) => session?.accountId !== undefined) as Session[]
}

async function exchangeOf(ctx: KoaContextWithOIDC, parts: SessionRoutesParts): Promise<LogoutExchange> {
  const { cookieNames } = parts
  const logins = await loginsIn(ctx, parts.browserLogins)
  return {
    request: fromKoa(ctx),
    sessions: await sessionsOf(ctx, uidsOf(logins), parts),
    lastLogout: ctx.cookies.get(cookieNames.lastLogout, { signed: false }),
    async signedOut(logoutIds) {
      ctx.cookies.set(cookieNames.session, null, parts.sessionCookie)
      forgetLogins(ctx, logins.keys())
      await parts.rotateBrowserState(ctx, undefined)
      const lastLogout = lastLogoutOf(logoutIds)
      if (lastLogout === undefined) return
      ctx.cookies.set(cookieNames.lastLogout, lastLogout, {
        httpOnly: true,
        maxAge: RECEIPT_LIFETIME,
        sameSite: 'strict',
        secure: true,
        signed: false,
      })
    },
  }
}

function accountsOf(
  ctx: KoaContextWithOIDC,
  { findAccount, pairwiseIdentifier, log }: SessionRoutesParts,
): Pick<LogoutEndpointParts, 'subFor' | 'accountName'> {
  return {
    async subFor(accountId, client) {
      if (client.subjectType !== 'pairwise') return accountId
      return pairwiseIdentifier?.(ctx, accountId, client)
    },
    async accountName(accountId) {
      try {
        const account = await findAccount?.(ctx, accountId)
        const claims = await account?.claims('userinfo', 'openid profile email', {}, [])
        const name = [claims?.name, claims?.preferred_username, claims?.email].find(
          (value) => typeof value === 'string' && value !== '',
        )
        return typeof name === 'string' ? name : accountId
      } catch (error) {
        log({ event: 'op_failed', task: 'account', message: messageOf(error) })
        return accountId // a logout does not wait for the database of users
      }
    },
  }
}

function notAllowed(methods: readonly string[]): Answer {
  return {
    status: 405,
    headers: { allow: methods.join(', '), 'cache-control': 'no-store' },
    body: 'Method Not Allowed',
  }
}
