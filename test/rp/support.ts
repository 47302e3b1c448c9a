import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import express, { type Express } from 'express'
import { exportJWK, generateKeyPair } from 'jose'
import { type ClientMetadata, Provider } from 'oidc-provider'
import {
  createRelyingParty,
  type LoginClaims,
  type RelyingParty,
  type RelyingPartyOptions,
  type RpLogEvent,
  type RpSessionStore,
} from '../../src/rp.ts'
import { auth, requireLogin } from '../../src/rp-express.ts'
import { memoryStore } from '../../src/rp-memory.ts'
import { world as realWorld } from '../../src/runtime/runtime.ts'
import { createUserAgent, type Page, type UserAgent } from '../support/user-agent.ts'

/** What an app of these tests keeps of a login. */
export interface Kept {
  readonly name: string | undefined
}

/** An app on its own host name, with its relying party. */
export interface TestApp {
  readonly url: string
  readonly port: number
  readonly clientId: string
  readonly rp: RelyingParty<Kept>
  readonly express: Express
  readonly sessions: RpSessionStore
  readonly log: RpLogEvent[]
  readonly ended: { readonly sub: string; readonly cause: string }[]
}

export interface TestWorld {
  readonly issuer: string
  readonly provider: Provider
  readonly app: TestApp
  readonly other: TestApp
  /** Moves the apps' clock (not the OP's) on, by seconds. */
  pass(seconds: number): void
  newAgent(): UserAgent
  /** Signs in at an app and arrives at `/me`. */
  signIn(agent: UserAgent, app: TestApp, username?: string): Promise<Page>
  /** Takes the OP off the network, or brings it back on the same port. */
  stopOp(): Promise<void>
  startOp(): Promise<void>
  close(): Promise<void>
}

export interface WorldOptions {
  readonly rp?: Partial<RelyingPartyOptions<Kept>>
  readonly client?: Partial<ClientMetadata>
  /** Prepares the app before `auth(rp)` is mounted. */
  readonly before?: (app: Express) => void
  /** Serves the apps with another framework than Express: `/` and, for those who are signed in, `/me`. */
  readonly mount?: Mount
}

/** An app of some framework around a relying party. */
export type Mount = (rp: RelyingParty<Kept>) => Promise<(req: IncomingMessage, res: ServerResponse) => unknown>

/** Two apps with Lockstep's RP and a stock oidc-provider whose login page asks for a `username` and nothing else. */
export async function startWorld(options: WorldOptions = {}): Promise<TestWorld> {
  const agents: UserAgent[] = []
  let offset = 0
  const runtime = { ...realWorld, now: () => realWorld.now() + offset * 1000 }
  const opShell = express()
  let op = await listen(opShell)
  const opPort = op.port
  const issuer = `http://localhost:${opPort}`
  const apps = await Promise.all(['notes', 'mail'].map((name) => startApp(name, issuer, runtime, options)))
  const [app, other] = apps as [RunningApp, RunningApp]
  const provider = stockProvider(
    issuer,
    apps.map((one) => ({ ...one.metadata, ...options.client })),
  )
  opShell.get('/interaction/:uid', async (req, res) => {
    const { prompt } = await provider.interactionDetails(req, res)
    if (prompt.name === 'consent') await provider.interactionFinished(req, res, { consent: {} })
    else res.type('html').send('<form method="post"><input name="username"></form>')
  })
  opShell.post('/interaction/:uid', express.urlencoded({ extended: false }), async (req, res) => {
    await provider.interactionFinished(req, res, { login: { accountId: String(req.body.username) } })
  })
  opShell.use(provider.callback())
  return {
    issuer,
    provider,
    app,
    other,
    pass: (seconds) => {
      offset += seconds
    },
    newAgent() {
      const agent = createUserAgent()
      agents.push(agent)
      return agent
    },
    async signIn(agent, at, username = 'ada') {
      const page = await agent.open(`${at.url}/me`)
      return page.body.includes('username') ? agent.submit(page, { username }) : page
    },
    stopOp: () => shut(op.server),
    async startOp() {
      op = await listen(opShell, opPort)
    },
    async close() {
      await Promise.all(agents.map((agent) => agent.close()))
      for (const one of apps) await one.close()
      if (op.server.listening) await shut(op.server)
    },
  }
}

interface RunningApp extends TestApp {
  readonly metadata: ClientMetadata
  close(): Promise<void>
}

async function startApp(
  clientId: string,
  issuer: string,
  runtime: typeof realWorld,
  options: WorldOptions,
): Promise<RunningApp> {
  const shell = express()
  let listener: (req: IncomingMessage, res: ServerResponse) => unknown = shell
  const { server, port } = await listen((req, res) => void listener(req, res))
  const url = `http://${clientId}.localhost:${port}`
  const log: RpLogEvent[] = []
  const ended: { sub: string; cause: string }[] = []
  const store = memoryStore()
  const clientSecret = `the secret of ${clientId}`
  const rp = createRelyingParty<Kept>({
    issuer,
    clientId,
    clientSecret,
    appUrl: url,
    store,
    mapSession: (claims: LoginClaims) => ({ name: claims.name }),
    onSessionEnded: (session, { cause }) => {
      ended.push({ sub: session.sub, cause })
    },
    log: (event) => log.push(event),
    runtime,
    ...options.rp,
  })
  options.before?.(shell)
  shell.use(auth(rp))
  shell.get('/', (req, res) => {
    res.send(req.rpSession ? 'signed in' : `signed out ${req.rpSessionEnd?.cause ?? ''}`)
  })
  shell.get('/me', requireLogin(rp), (req, res) => {
    res.send(`Hello ${req.rpSession.data.name}`)
  })
  if (options.mount) listener = await options.mount(rp)
  const metadata: ClientMetadata = {
    client_id: clientId,
    client_secret: clientSecret,
    redirect_uris: [`${url}/auth/callback`],
    post_logout_redirect_uris: [`${url}/auth/logged-out`],
    backchannel_logout_uri: `http://127.0.0.1:${port}/auth/backchannel-logout`,
    backchannel_logout_session_required: true,
  }
  const close = async () => {
    await rp.close()
    await shut(server)
    await store.close()
  }
  const sessions = (options.rp?.store ?? store).forClient({ issuer, clientId }, runtime)
  return { url, port, clientId, rp, express: shell, sessions, log, ended, metadata, close }
}

const { privateKey } = await generateKeyPair('RS256', { extractable: true })
const jwks = { keys: [{ ...(await exportJWK(privateKey)), use: 'sig', alg: 'RS256' }] }

function stockProvider(issuer: string, clients: ClientMetadata[]): Provider {
  const cookie = { secure: true, sameSite: 'none' } as const
  const provider = new Provider(issuer, {
    clients: clients.map((client) => JSON.parse(JSON.stringify(client))),
    cookies: { keys: ['one key for tests'], long: cookie, short: cookie },
    enableHttpPostMethods: true,
    jwks,
    claims: { openid: ['sub'], profile: ['name'] },
    features: {
      devInteractions: { enabled: false },
      rpInitiatedLogout: { enabled: true },
      backchannelLogout: { enabled: true },
      revocation: { enabled: true },
    },
    ttl: {
      AccessToken: 600,
      AuthorizationCode: 60,
      Grant: 3600,
      IdToken: 600,
      Interaction: 600,
      Session: 3600,
      RefreshToken: 3600,
    },
    findAccount: (_ctx, sub) => ({ accountId: sub, claims: () => ({ sub, name: `the one called ${sub}` }) }),
    interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
    issueRefreshToken: async (_ctx, client) => client.grantTypeAllowed('refresh_token'),
    loadExistingGrant: async ({ oidc }) => {
      const { client, session, provider } = oidc
      if (!client || !session?.accountId) return undefined
      const known = session.grantIdFor(client.clientId)
      const grant = known ? await provider.Grant.find(known) : undefined
      if (grant) return grant
      const fresh = new provider.Grant({ clientId: client.clientId, accountId: session.accountId })
      fresh.addOIDCScope('openid profile offline_access')
      await fresh.save()
      return fresh
    },
    // Its own guard keeps stock oidc-provider from posting to loopback.
    fetch: (url, options) => fetch(url, { ...options, dispatcher: undefined } as RequestInit),
  })
  // Browsers take Secure cookies from localhost; the cookie library wants to be told.
  const createContext = provider.createContext.bind(provider)
  provider.createContext = (request, response) => {
    const ctx = createContext(request, response)
    ctx.cookies.secure = true
    return ctx
  }
  return provider
}

/** A server on a free port of this machine. */
export async function listen(listener: RequestListener, port = 0): Promise<{ server: Server; port: number }> {
  const server = createServer(listener)
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
  return { server, port: (server.address() as AddressInfo).port }
}

export async function shut(server: Server): Promise<void> {
  server.closeAllConnections()
  await new Promise((resolve) => server.close(resolve))
}
