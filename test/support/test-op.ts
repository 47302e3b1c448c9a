import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import {
  type ClientMetadata,
  type Configuration,
  type Grant,
  type InteractionResults,
  type KoaContextWithOIDC,
  Provider as OidcProvider,
} from 'oidc-provider'
import { type LockstepOptions, type OpStore, openSecrets, Provider } from '../../src/op.ts'
import { sqliteStore } from '../../src/op-sqlite.ts'

type Interaction = Awaited<ReturnType<OidcProvider['interactionDetails']>>

/** Answers an interaction of the OP; the default is {@link signIn}. */
export type Interact = (interaction: Interaction) => InteractionResults | Promise<InteractionResults>

export interface TestOpParts {
  readonly clients: readonly ClientMetadata[]
  readonly configuration?: Configuration
  readonly options?: Partial<LockstepOptions>
  /** Default: a fresh one in memory, which `close` closes. */
  readonly store?: OpStore
  /** Stores of further nodes of the same OP: requests go to the nodes in turn. Default none. */
  readonly otherNodes?: readonly OpStore[]
  /** Default: a free one. */
  readonly port?: number
  readonly interact?: Interact
}

/** An OP on loopback. */
export interface RunningOp<P extends OidcProvider> {
  readonly issuer: string
  readonly port: number
  /** The first of its nodes. */
  readonly provider: P
  readonly nodes: readonly P[]
  /** What went wrong inside, by oidc-provider's `server_error` event. */
  readonly failures: readonly Error[]
  close(): Promise<void>
}

export interface TestOp extends RunningOp<Provider> {
  readonly store: OpStore
}

/** Starts a real Lockstep OP on loopback. */
export async function startTestOp(parts: TestOpParts): Promise<TestOp> {
  const store = parts.store ?? sqliteStore(':memory:')
  const node = (store: OpStore) => async (issuer: string) => {
    const { jwks, cookieKeys } = await openSecrets(store, issuer)
    const configuration: Configuration = {
      ...common(parts),
      jwks: { keys: [...jwks.keys] },
      cookies: { keys: [...cookieKeys] },
      ...parts.configuration,
    }
    const silent = () => {}
    return new Provider(issuer, configuration, {
      store,
      egress: { allow: ['127.0.0.1'] },
      log: silent,
      ...parts.options,
    })
  }
  const op = await serve(parts, [store, ...(parts.otherNodes ?? [])].map(node))
  return {
    ...op,
    store,
    close: async () => {
      await op.close()
      await Promise.all(op.nodes.map((each) => each.close()))
      if (!parts.store) await store.close()
    },
  }
}

/** Starts oidc-provider as it comes, for tests that must be able to fail: what it loses, Lockstep must keep. */
export async function startStockOp(
  parts: TestOpParts & { readonly adapter: NonNullable<Configuration['adapter']> },
): Promise<RunningOp<OidcProvider>> {
  const node = async (issuer: string) => {
    const secrets = sqliteStore(':memory:')
    const { jwks, cookieKeys } = await openSecrets(secrets, issuer)
    await secrets.close()
    const provider = new OidcProvider(issuer, {
      ...common(parts),
      jwks: { keys: [...jwks.keys] },
      cookies: { keys: [...cookieKeys], long: { sameSite: 'none', secure: true } },
      adapter: parts.adapter,
      ...parts.configuration,
    })
    const createContext = provider.createContext.bind(provider)
    provider.createContext = (request, response) => {
      const ctx = createContext(request, response)
      ctx.cookies.secure = true
      return ctx
    }
    return provider
  }
  return serve(parts, [node])
}

/** Said in so many words, or oidc-provider writes a notice for each. */
export const lifetimes: NonNullable<Configuration['ttl']> = {
  AccessToken: 3600,
  AuthorizationCode: 60,
  Grant: 14 * 86_400,
  IdToken: 3600,
  Interaction: 3600,
  RefreshToken: 14 * 86_400,
  Session: 14 * 86_400,
}

function common({ clients }: TestOpParts): Configuration {
  return {
    clients: [...clients],
    features: { devInteractions: { enabled: false } },
    findAccount: (_ctx, id) => ({ accountId: id, claims: async () => ({ sub: id, name: `${id} the tester` }) }),
    ttl: lifetimes,
    pkce: { required: () => false },
    issueRefreshToken: async (_ctx, client) => client.grantTypeAllowed('refresh_token'),
    loadExistingGrant: grantWhatIsAsked,
    interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
    renderError: (ctx, out) => {
      ctx.type = 'json'
      ctx.body = out
    },
  }
}

/** What an OP of first-party apps does: everything that is asked for is granted, and each OP session has its own grant. */
export async function grantWhatIsAsked(ctx: KoaContextWithOIDC): Promise<Grant | undefined> {
  const { client, session, provider, params, result } = ctx.oidc
  if (!client || !session?.accountId) return undefined
  const known = result?.consent?.grantId ?? session.grantIdFor(client.clientId)
  const found = known === undefined ? undefined : await provider.Grant.find(known)
  const grant = found ?? new provider.Grant({ accountId: session.accountId, clientId: client.clientId })
  if (typeof params?.scope === 'string') grant.addOIDCScope(params.scope)
  await grant.save()
  return grant
}

/** Signs in whoever `login_hint` names, else ada, and consents to everything. */
export const signIn: Interact = ({ prompt, params: { login_hint: hint } }) =>
  prompt.name === 'login' ? { login: { accountId: typeof hint === 'string' ? hint : 'ada' } } : { consent: {} }

async function serve<P extends OidcProvider>(
  { port: wanted = 0, interact = signIn }: TestOpParts,
  builders: readonly ((issuer: string) => Promise<P>)[],
): Promise<RunningOp<P>> {
  let listener: (request: IncomingMessage, response: ServerResponse) => unknown = () => {}
  const server = createServer((request, response) => listener(request, response))
  await new Promise<void>((resolve) => server.listen(wanted, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const issuer = `http://localhost:${port}`
  const failures: Error[] = []
  const nodes: { provider: P; callback: ReturnType<OidcProvider['callback']> }[] = []
  for (const build of builders) {
    const provider = await build(issuer)
    provider.on('server_error', (_ctx, error) => failures.push(error))
    nodes.push({ provider, callback: provider.callback() })
  }
  const [first] = nodes
  if (!first) throw new Error('an OP has at least one node')

  let requests = 0
  listener = async (request, response) => {
    const { provider, callback } = nodes[requests++ % nodes.length] ?? first
    if (!request.url?.startsWith('/interaction/')) return callback(request, response)
    try {
      const interaction = await provider.interactionDetails(request, response)
      await provider.interactionFinished(request, response, await interact(interaction))
    } catch (error) {
      response.writeHead(500).end(String(error))
    }
  }
  return {
    issuer,
    port,
    provider: first.provider,
    nodes: nodes.map(({ provider }) => provider),
    failures,
    close: async () => {
      const closed = new Promise((resolve) => server.close(resolve))
      server.closeAllConnections()
      await closed
      await new Promise(setImmediate) // the other ends of the connections are in this process: let them notice
    },
  }
}
