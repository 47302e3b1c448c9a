/* A process with an OP, two apps and a page without a backend, for tab.ts. It says when logouts happened. */
import { createServer, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { build } from 'esbuild'
import express from 'express'
import { openSecrets, Provider } from 'lockstep/op'
import { sqliteStore } from 'lockstep/op/sqlite'
import { createRelyingParty } from 'lockstep/rp'
import { auth } from 'lockstep/rp/express'
import { memoryStore } from 'lockstep/rp/memory'
import type { ClientMetadata, KoaContextWithOIDC } from 'oidc-provider'
import { closePage, leavePage, spaPage, tabPage } from './tab-pages.ts'

/** What tab.ts is told. */
export type StageNews =
  | { readonly news: 'open'; readonly urls: Readonly<Record<'op' | 'notes' | 'mail' | 'spa', string>> }
  /** A browser's tab was told; `ms` is what it took since the OP was asked to log out. */
  | { readonly news: 'told'; readonly browser: string; readonly ms: number; readonly visible: boolean }
  | { readonly news: 'alive'; readonly browser: string }

/** What tab.ts asks for, and gets an answer to by the same `id`. */
export type StageQuestion =
  | { readonly id: number; readonly ask: 'end'; readonly account: string }
  | { readonly id: number; readonly ask: 'cpu' }
  | { readonly id: number; readonly ask: 'requests'; readonly browser: string }

const now = () => performance.timeOrigin + performance.now()
const tell = (news: StageNews) => process.send?.(news)
const [folder = '.'] = process.argv.slice(2)
const requests = new Map<string, number>()
/** When the OP was last asked to log somebody out, by browser. */
const logouts = new Map<string, number>()
const names = ['op', 'notes', 'mail', 'spa'] as const
const listeners: Partial<Record<string, RequestListener>> = {}
const servers = await Promise.all(names.map(open))
const urls = Object.fromEntries(names.map((name, at) => [name, urlOf(servers[at])])) as Record<
  (typeof names)[number],
  string
>

async function open(name: string): Promise<Server> {
  const server = createServer((request, response) => {
    // The scripted tabs have no such name.
    const browser = request.headers['user-agent'] ?? ''
    requests.set(browser, (requests.get(browser) ?? 0) + 1)
    if (name === 'op' && request.url?.startsWith('/session/end')) logouts.set(browser, now())
    listeners[name]?.(request, response)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return server
}

function urlOf(server: Server | undefined): string {
  if (!server) throw new Error('a server is missing')
  return `http://localhost:${(server.address() as AddressInfo).port}`
}

const secretOf = (app: string) => `the secret of ${app}, for a bench`
const withBackend = (app: 'notes' | 'mail'): ClientMetadata => ({
  client_id: app,
  client_secret: secretOf(app),
  redirect_uris: [`${urls[app]}/auth/callback`],
  post_logout_redirect_uris: [`${urls[app]}/auth/logged-out`],
  backchannel_logout_uri: `${urls[app].replace('localhost', '127.0.0.1')}/auth/backchannel-logout`,
  backchannel_logout_session_required: true,
})

const store = sqliteStore(join(folder, 'op.db'))
const { jwks, cookieKeys } = await openSecrets(store, urls.op)
let logins = 0
const provider = new Provider(
  urls.op,
  {
    clients: [
      withBackend('notes'),
      withBackend('mail'),
      {
        client_id: 'spa',
        token_endpoint_auth_method: 'none',
        redirect_uris: [`${urls.spa}/`, `${urls.spa}/silent`],
      },
    ],
    jwks: { keys: [...jwks.keys] },
    cookies: { keys: [...cookieKeys] },
    findAccount: (_ctx, sub) => ({ accountId: sub, claims: () => ({ sub }) }),
    interactions: { url: (_ctx, { uid }) => `/interaction/${uid}` },
    loadExistingGrant: grantWhatIsAsked,
    features: { devInteractions: { enabled: false } },
    clientBasedCORS: () => true,
    pkce: { required: (_ctx, client) => client.tokenEndpointAuthMethod === 'none' },
    ttl: { Session: 86_400, Grant: 86_400, IdToken: 3_600, AccessToken: 3_600, Interaction: 600 },
  },
  { store, egress: { allow: ['127.0.0.0/8'] }, log: () => {} },
)
const callback = provider.callback()
/** Each login is somebody else, whom nobody asks for a password. */
listeners.op = (request, response) => {
  if (!request.url?.startsWith('/interaction/')) return void callback(request, response)
  void provider.interactionFinished(request, response, { login: { accountId: `user-${++logins}` } })
}
for (const app of ['notes', 'mail'] as const) listeners[app] = backendApp(app)
listeners.spa = await pageApp()

async function grantWhatIsAsked(ctx: KoaContextWithOIDC) {
  const { session, client, provider, requestParamScopes } = ctx.oidc
  if (!client || !session?.accountId) return undefined
  const known = session.grantIdFor(client.clientId)
  const grant =
    (known === undefined ? undefined : await provider.Grant.find(known)) ??
    new provider.Grant({ clientId: client.clientId, accountId: session.accountId })
  grant.addOIDCScope([...requestParamScopes].join(' '))
  await grant.save()
  return grant
}

function backendApp(app: 'notes' | 'mail'): RequestListener {
  const rp = createRelyingParty({
    issuer: urls.op,
    clientId: app,
    clientSecret: secretOf(app),
    appUrl: urls[app],
    cookieSuffix: app,
    store: memoryStore(),
    log: () => {},
  })
  const listener = express()
  listener.use(auth(rp))
  hearPages(listener)
  listener.get('/tab', (_request, response) => void response.send(tabPage(urls.mail)))
  listener.get('/leave', (_request, response) => void response.send(leavePage()))
  listener.get('/', (_request, response) => void response.send(closePage()))
  return listener
}

async function pageApp(): Promise<RequestListener> {
  const { outputFiles } = await build({
    stdin: { contents: "export { UserManager } from 'oidc-client-ts'", resolveDir: import.meta.dirname },
    bundle: true,
    minify: true,
    format: 'esm',
    write: false,
  })
  const listener = express()
  hearPages(listener)
  listener.get('/oidc-client-ts.js', (_request, response) => {
    response.type('js').send(outputFiles[0]?.text)
  })
  for (const path of ['/', '/silent']) {
    listener.get(path, (_request, response) => void response.send(spaPage(urls.op, urls.mail)))
  }
  return listener
}

/** The pages report what their monitors told them. */
function hearPages(listener: express.Express): void {
  listener.post('/alive', (request, response) => {
    tell({ news: 'alive', browser: request.header('user-agent') ?? '' })
    response.sendStatus(204)
  })
  listener.post('/told', (request, response) => {
    const browser = request.header('user-agent') ?? ''
    const ms = Number(request.query.at) - (logouts.get(browser) ?? Number.NaN)
    tell({ news: 'told', browser, ms, visible: request.query.visible === 'true' })
    response.sendStatus(204)
  })
}

process.on('message', async (question: StageQuestion) => {
  process.send?.({ id: question.id, answer: await answer(question) })
})

async function answer(question: StageQuestion): Promise<number> {
  if (question.ask === 'requests') return requests.get(question.browser) ?? 0
  if (question.ask === 'cpu') {
    const { user, system } = process.cpuUsage()
    return (user + system) / 1e6
  }
  const { sessions } = await provider.opSessions.list({ accountId: question.account })
  const at = now()
  for (const { uid } of sessions) await provider.opSessions.end(uid, { actor: 'the bench' })
  return at
}

process.on('disconnect', () => process.exit(0))
tell({ news: 'open', urls })
