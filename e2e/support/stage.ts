import { mkdtempSync, rmSync } from 'node:fs'
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import { createServer, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import express from 'express'
import { openSecrets, Provider } from 'lockstep/op'
import { sqliteStore as opStore } from 'lockstep/op/sqlite'
import { createRelyingParty } from 'lockstep/rp'
import { auth } from 'lockstep/rp/express'
import { memoryStore } from 'lockstep/rp/memory'
import type { Configuration, KoaContextWithOIDC } from 'oidc-provider'
import { certify, resolveLocalhost } from './loopback.ts'
import { appPage, barePage, formPage, silentPage, spaPage } from './stage-pages.ts'

/** How the apps' hosts relate to the OP's. */
export type Site = 'same-site' | 'cross-site'
/** Notes and Mail are told by the back channel, Wiki is not; the page has no backend at all. */
export type StageApp = 'notes' | 'mail' | 'wiki' | 'page'

/** One request that a browser or the OP made. */
export interface Seen {
  readonly at: number
  readonly method: string
  readonly host: string
  readonly path: string
  readonly silent: boolean
}

/** An OP and four apps of one site in this process. */
export interface Play {
  readonly issuer: string
  url(app: StageApp): string
  /** Who signs in next: nobody is asked for a password. */
  account: string
  /** Makes the OP another one: sees each request to it first, and says whether it has answered. */
  twist: ((request: IncomingMessage, response: ServerResponse) => boolean) | undefined
  /** Ends all OP sessions of an account, as an administrator does. */
  end(account: string): Promise<number>
  /** Stops the OP; what it knows is in a file. */
  stopOp(): Promise<void>
  startOp(): Promise<void>
}

/** Everything behind one port of this machine. */
export interface Stage {
  readonly plays: Readonly<Record<Site, Play>>
  readonly seen: Seen[]
  /** What every app with a backend serves below `/files/`, by name. */
  readonly files: Map<string, string>
  /** Streams that are open now, at an app. */
  streams(app: StageApp, site: Site): number
  /** Cuts every connection and accepts no other until it is called off. */
  cutNetwork(): () => void
  close(): Promise<void>
}

const suffix: Record<Site, string> = { 'same-site': 'app.localhost', 'cross-site': 'localhost' }
const apps: readonly StageApp[] = ['notes', 'mail', 'wiki', 'page']
const noLog = () => {}

/** Opens the stage: `op.app.localhost` and its apps are of one site, `op.localhost` and its apps are not. */
export async function openStage(): Promise<Stage> {
  resolveLocalhost()
  const sites = Object.keys(suffix) as Site[]
  const names = sites.flatMap((site) => ['op', ...apps].map((name) => `${name}.${suffix[site]}`))
  const folder = mkdtempSync(join(tmpdir(), 'lockstep-stage-'))
  const listeners = new Map<string, RequestListener>()
  const seen: Seen[] = []
  const files = new Map<string, string>()
  const streams = new Map<string, Set<ServerResponse>>()
  const sockets = new Set<Duplex>()
  let cut = false

  const server = createServer(certify(names), (request, response) => {
    const host = request.headers.host?.split(':')[0] ?? ''
    const { pathname, searchParams } = new URL(request.url ?? '/', `https://${host}`)
    seen.push({
      at: Date.now(),
      method: request.method ?? '',
      host,
      path: pathname,
      silent: searchParams.get('prompt') === 'none',
    })
    if (pathname.endsWith('/events')) keep(response, host)
    const listener = listeners.get(host)
    if (listener) listener(request, response)
    else response.destroy()
  })
  server.keepAliveTimeout = 60_000
  server.on('connection', (socket) => {
    if (cut) socket.destroy()
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  const port = await listen(server)

  const entries = await Promise.all(
    sites.map(async (site) => [site, await openPlay(site, { port, folder, listeners, files })] as const),
  )
  return {
    plays: Object.fromEntries(entries) as Record<Site, Play>,
    seen,
    files,
    streams: (app, site) => streams.get(`${app}.${suffix[site]}`)?.size ?? 0,
    cutNetwork() {
      cut = true
      for (const socket of sockets) socket.destroy()
      return () => {
        cut = false
      }
    },
    async close() {
      for (const [, play] of entries) await play.stopOp()
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
      rmSync(folder, { recursive: true, force: true })
    },
  }

  function keep(response: ServerResponse, host: string): void {
    const open = streams.get(host) ?? new Set()
    streams.set(host, open.add(response))
    response.once('close', () => open.delete(response))
  }
}

interface Scene {
  readonly port: number
  readonly folder: string
  readonly listeners: Map<string, RequestListener>
  readonly files: ReadonlyMap<string, string>
}

async function openPlay(site: Site, { port, folder, listeners, files }: Scene): Promise<Play> {
  const url = (name: string) => `https://${name}.${suffix[site]}:${port}`
  const opHost = `op.${suffix[site]}`
  const issuer = url('op')
  let op: { readonly provider: Provider; close(): Promise<void> } | undefined

  const play: Play = {
    issuer,
    url,
    account: 'ada',
    twist: undefined,
    async end(account) {
      const { sessions = [] } = (await op?.provider.opSessions.list({ accountId: account })) ?? {}
      for (const { uid } of sessions) await op?.provider.opSessions.end(uid, { actor: 'an administrator' })
      return sessions.length
    },
    async startOp() {
      const store = opStore(join(folder, `${site}.db`))
      const provider = new Provider(issuer, await configure(store), {
        store,
        egress: { allow: ['127.0.0.0/8'] },
        log: noLog,
      })
      const callback = provider.callback()
      listeners.set(opHost, (request, response) => {
        if (play.twist?.(request, response)) return
        if (request.url?.startsWith('/interaction/')) void finish(provider, request, response)
        else void callback(request, response)
      })
      op = {
        provider,
        async close() {
          await provider.close()
          await store.close()
        },
      }
    },
    async stopOp() {
      listeners.delete(opHost)
      await op?.close()
      op = undefined
    },
  }
  await play.startOp()
  for (const app of apps) listeners.set(`${app}.${suffix[site]}`, app === 'page' ? pageApp() : backendApp(app))
  return play

  /** Signs in whoever the test says, at once. */
  async function finish(provider: Provider, request: IncomingMessage, response: ServerResponse): Promise<void> {
    await provider.interactionFinished(request, response, { login: { accountId: play.account } })
  }

  async function configure(store: Parameters<typeof openSecrets>[0]): Promise<Configuration> {
    const { jwks, cookieKeys } = await openSecrets(store, issuer)
    return {
      clients: apps.map((app) => ({
        client_id: app,
        client_name: app,
        redirect_uris: app === 'page' ? [`${url(app)}/`, `${url(app)}/silent.html`] : [`${url(app)}/auth/callback`],
        ...(app === 'page'
          ? { token_endpoint_auth_method: 'none' as const }
          : { client_secret: secretOf(app), post_logout_redirect_uris: [`${url(app)}/auth/logged-out`] }),
        ...(app === 'page' || app === 'wiki'
          ? {}
          : {
              backchannel_logout_uri: `${url(app)}/auth/backchannel-logout`,
              backchannel_logout_session_required: true,
            }),
      })),
      jwks: { keys: [...jwks.keys] },
      cookies: { keys: [...cookieKeys] },
      findAccount: (_ctx, sub) => ({ accountId: sub, claims: () => ({ sub }) }),
      interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
      loadExistingGrant: grantAll,
      features: { devInteractions: { enabled: false } },
      clientBasedCORS: () => true,
      pkce: { required: (_ctx, client) => client.tokenEndpointAuthMethod === 'none' },
      ttl: { Session: 86_400, Grant: 86_400, IdToken: 3_600, AccessToken: 600, Interaction: 600 },
    }
  }

  function backendApp(app: StageApp): RequestListener {
    const rp = createRelyingParty({
      issuer,
      clientId: app,
      clientSecret: secretOf(app),
      appUrl: url(app),
      store: memoryStore(),
      log: noLog,
    })
    const listener = express()
    listener.use(auth(rp))
    listener.get('/', (_request, response) => {
      response.send(appPage(app, issuer))
    })
    // An app whose policy forbids the OP's frame.
    listener.get('/strict', (_request, response) => {
      response.setHeader('content-security-policy', "frame-src 'none'")
      response.send(appPage(app, issuer))
    })
    listener.get('/files/:name', ({ params }, response) => {
      response.type(params.name).send(files.get(params.name))
    })
    listener.all('/form', ({ method }, response) => {
      response.send(formPage(app, issuer, method))
    })
    // As strict a policy as docs/open-tab.md says is enough; the nonce is for the record that the test keeps.
    listener.get('/locked', (_request, response) => {
      const policy = `default-src 'none'; script-src 'self' 'nonce-record'; connect-src 'self'; frame-src 'self' ${issuer}; img-src data:; require-trusted-types-for 'script'; trusted-types 'none'`
      response.setHeader('content-security-policy', policy)
      response.send(appPage(app, issuer).replace('<script>', '<script nonce="record">'))
    })
    listener.get('/bare', (_request, response) => {
      response.send(barePage())
    })
    listener.use('/lockstep', express.static(libraryFolder))
    return listener
  }

  function pageApp(): RequestListener {
    const listener = express()
    listener.use('/lockstep', express.static(libraryFolder))
    listener.get('/silent.html', (_request, response) => {
      response.send(silentPage())
    })
    listener.get('/', (_request, response) => {
      response.send(spaPage(issuer))
    })
    return listener
  }
}

/** The published files of `lockstep/browser`, which a browser can import as they are. */
const libraryFolder = join(import.meta.resolve('lockstep/browser').replace('file://', ''), '..')

function secretOf(app: StageApp): string {
  return `the secret of ${app}, which is long enough`
}

async function grantAll(ctx: KoaContextWithOIDC) {
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

function listen(server: Server): Promise<number> {
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => resolve((server.address() as AddressInfo).port))
  })
}
