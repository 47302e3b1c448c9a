import type { Context } from 'koa'
import type { Provider as OidcProvider } from 'oidc-provider'
import type { Runtime } from '../runtime/runtime.ts'
import { checkOrigin, checkSessionIframe } from './check-session-iframe.ts'
import { CHECK_SESSION_PATH } from './configuration.ts'
import { type Answer, fromKoa, toKoa } from './http.ts'
import { type LogoutEndpoint, type LogoutEndpointParts, logoutEndpoint, refuse } from './logout/logout-endpoint.ts'
import {
  type AccountNamesParts,
  accountNamesOf,
  exchangeOf,
  type LogoutExchangeParts,
} from './logout/logout-exchange.ts'
import type { LogoutPaths } from './logout/logout-http.ts'
import { withOidcContext } from './provider-seam.ts'
import { normalized } from './request-path.ts'

/** What the routes that Lockstep adds to an OP are built from. */
export interface SessionRoutesParts
  extends Pick<LogoutEndpointParts, 'receipts' | 'findClient' | 'pages' | 'declined' | 'end' | 'firstAttempts'>,
    Omit<LogoutExchangeParts, 'store'>,
    AccountNamesParts {
  readonly runtime: Pick<Runtime, 'now'>
  readonly store: LogoutEndpointParts['store'] & LogoutExchangeParts['store']
  readonly sealingKey: () => Promise<Uint8Array>
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
    const endpoint = logoutEndpoint({ ...parts, ...accountNamesOf(oidc, parts), paths, sealingKey })
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

function notAllowed(methods: readonly string[]): Answer {
  return {
    status: 405,
    headers: { allow: methods.join(', '), 'cache-control': 'no-store' },
    body: 'Method Not Allowed',
  }
}
