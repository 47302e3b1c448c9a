import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http'
import { oauthProvider } from '@better-auth/oauth-provider'
import { type BetterAuthPlugin, betterAuth } from 'better-auth'
import { memoryAdapter } from 'better-auth/adapters/memory'
import { toNodeHandler } from 'better-auth/node'
import { jwt } from 'better-auth/plugins'
import { exportJWK, generateKeyPair } from 'jose'
import { Provider } from 'oidc-provider'

/** An app as it is registered by hand at an OP. */
export interface RegisteredApp {
  readonly clientId: string
  readonly clientSecret: string
  readonly redirectUri: string
  readonly postLogoutRedirectUri: string
  readonly backchannelLogoutUri: string
}

/** An OP that is not ours. Its login page asks for nothing but a click on `Sign in`. */
export interface ForeignOp {
  readonly issuer: string
  close(): Promise<void>
}

const page = (body: string) => `<!doctype html><meta charset="utf-8"><title>a foreign OP</title>${body}`

/** oidc-provider as it comes, with its own back-channel logout. */
export async function startStockOidcProvider(port: number, apps: readonly RegisteredApp[]): Promise<ForeignOp> {
  const issuer = `http://localhost:${port}`
  const { privateKey } = await generateKeyPair('RS256', { extractable: true })
  const cookie = { secure: true, sameSite: 'none' } as const
  const provider = new Provider(issuer, {
    clients: apps.map((app) => ({
      client_id: app.clientId,
      client_secret: app.clientSecret,
      redirect_uris: [app.redirectUri],
      post_logout_redirect_uris: [app.postLogoutRedirectUri],
      backchannel_logout_uri: app.backchannelLogoutUri,
      backchannel_logout_session_required: true,
    })),
    jwks: { keys: [{ ...(await exportJWK(privateKey)), alg: 'RS256', use: 'sig' }] },
    cookies: { keys: ['a key for tests'], long: cookie, short: cookie },
    enableHttpPostMethods: true,
    features: {
      devInteractions: { enabled: false },
      backchannelLogout: { enabled: true },
      rpInitiatedLogout: { enabled: true },
    },
    findAccount: (_ctx, sub) => ({ accountId: sub, claims: () => ({ sub }) }),
    interactions: { url: (_ctx, { uid }) => `/interaction/${uid}` },
    loadExistingGrant: async ({ oidc }) => {
      const grant = new oidc.provider.Grant({ clientId: oidc.client?.clientId, accountId: oidc.session?.accountId })
      grant.addOIDCScope('openid profile email')
      await grant.save()
      return grant
    },
    // Its own guard keeps it from posting to loopback.
    fetch: (url, options) => fetch(url, { ...options, dispatcher: undefined } as RequestInit),
  })
  const createContext = provider.createContext.bind(provider)
  provider.createContext = (req, res) => {
    const ctx = createContext(req, res)
    ctx.cookies.secure = true // browsers take Secure cookies from localhost; the cookie library wants to be told
    return ctx
  }
  const callback = provider.callback()
  return listen(port, issuer, async (req, res) => {
    if (!req.url?.startsWith('/interaction/')) return callback(req, res)
    if (req.method === 'POST') return provider.interactionFinished(req, res, { login: { accountId: 'ada' } })
    html(res, page('<form method="post"><button>Sign in</button></form>'))
  })
}

/** better-auth with its OAuth provider, everything in memory. */
export async function startBetterAuth(port: number, apps: readonly RegisteredApp[]): Promise<ForeignOp> {
  const baseURL = `http://localhost:${port}`
  const issuer = `${baseURL}/api/auth`
  const db: Record<string, Record<string, unknown>[]> = Object.fromEntries(
    [
      'user',
      'session',
      'account',
      'verification',
      'jwks',
      'oauthClient',
      'oauthAccessToken',
      'oauthRefreshToken',
      'oauthConsent',
      'oauthResource',
      'oauthClientResource',
      'oauthClientAssertion',
    ].map((model) => [model, []]),
  )
  const opPlugin = oauthProvider({
    loginPage: '/login',
    consentPage: '/consent',
    signup: { page: '/signup' },
    scopes: ['openid', 'profile', 'email', 'offline_access'],
    storeClientSecret: { hash: async (secret: string) => secret },
    silenceWarnings: { oauthAuthServerConfig: true, openidConfig: true },
  })
  const auth = betterAuth({
    baseURL,
    secret: 'the secret of better-auth, long enough for it',
    database: memoryAdapter(db),
    emailAndPassword: { enabled: true },
    telemetry: { enabled: false },
    rateLimit: { enabled: false },
    // Its own is Lax, which no frame of another site gets: a silent check could not see who is signed in.
    advanced: { defaultCookieAttributes: { sameSite: 'none', secure: true } },
    plugins: [
      jwt({ jwks: { keyPairConfig: { alg: 'RS256' } } }),
      opPlugin as unknown as BetterAuthPlugin, // its types are not made for exactOptionalPropertyTypes
    ],
  })
  const context = await auth.$context
  // Its registration takes no back-channel URI on loopback, as it should; an operator's own row may.
  for (const app of apps) {
    await context.adapter.create({
      model: 'oauthClient',
      data: {
        clientId: app.clientId,
        clientSecret: app.clientSecret,
        name: app.clientId,
        redirectUris: [app.redirectUri],
        postLogoutRedirectUris: [app.postLogoutRedirectUri],
        backchannelLogoutUri: app.backchannelLogoutUri,
        backchannelLogoutSessionRequired: true,
        tokenEndpointAuthMethod: 'client_secret_basic',
        grantTypes: ['authorization_code'],
        responseTypes: ['code'],
        scopes: ['openid', 'profile', 'email'],
        skipConsent: true,
        enableEndSession: true,
        disabled: false,
        createdAt: new Date(),
        updatedAt: new Date(),
      },
    })
  }
  await auth.api.signUpEmail({ body: { name: 'Ada', email: 'ada@example.com', password: 'analytical' } })
  const handler = toNodeHandler(auth)
  const form = (title: string, path: string, fields: object) =>
    page(`<h1>${title}</h1><button>Sign in</button><script>
      document.querySelector('button').onclick = async () => {
        const body = JSON.stringify({ ...${JSON.stringify(fields)}, oauth_query: location.search.slice(1) })
        const headers = { 'content-type': 'application/json' }
        const answer = await (await fetch('/api/auth${path}', { method: 'POST', headers, body })).json()
        document.body.dataset.answer = JSON.stringify(answer)
        if (answer.url ?? answer.redirect_uri) location = answer.url ?? answer.redirect_uri
      }</script>`)
  return listen(port, issuer, async (req, res) => {
    const { pathname } = new URL(req.url ?? '/', baseURL)
    if (pathname === '/login') {
      return html(res, form('Sign in', '/sign-in/email', { email: 'ada@example.com', password: 'analytical' }))
    }
    if (pathname === '/signup') return html(res, page('<h1>Create an account</h1>'))
    return handler(req, res)
  })
}

function html(res: ServerResponse, body: string): void {
  res.writeHead(200, { 'content-type': 'text/html' }).end(body)
}

async function listen(
  port: number,
  issuer: string,
  answer: (req: IncomingMessage, res: ServerResponse) => unknown,
): Promise<ForeignOp> {
  const listener: RequestListener = (req, res) => void answer(req, res)
  const server = createServer(listener)
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
  return {
    issuer,
    async close() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
