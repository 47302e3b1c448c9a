/* A process with one OP in it, ours or stock, that says how much CPU it has used. Started by op-overhead.ts. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { openSecrets, Provider } from 'lockstep/op'
import { sqliteStore } from 'lockstep/op/sqlite'
import { type Configuration, type KoaContextWithOIDC, Provider as StockProvider } from 'oidc-provider'
import { sqliteAdapter } from './sqlite-adapter.ts'

const [kind = 'ours', folder = '.'] = process.argv.slice(2)

let listener: (req: IncomingMessage, res: ServerResponse) => unknown = () => {}
const server = createServer((req, res) => listener(req, res))
await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
const issuer = `http://localhost:${(server.address() as AddressInfo).port}`

const store = sqliteStore(join(folder, 'ours.db'))
const { jwks, cookieKeys } = await openSecrets(store, issuer)
const configuration: Configuration = {
  clients: [
    {
      client_id: 'app',
      client_secret: 'a secret for the bench',
      redirect_uris: ['https://app.example/cb'],
      grant_types: ['authorization_code', 'refresh_token', 'client_credentials'],
      token_endpoint_auth_method: 'client_secret_post',
      id_token_signed_response_alg: 'ES256',
    },
  ],
  jwks: { keys: [...jwks.keys] },
  cookies: { keys: [...cookieKeys], long: { sameSite: 'none', secure: true }, short: { secure: true } },
  enableHttpPostMethods: true,
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    rpInitiatedLogout: { enabled: true },
    backchannelLogout: { enabled: true },
  },
  ttl: {
    AccessToken: 3600,
    AuthorizationCode: 60,
    ClientCredentials: 3600,
    Grant: 86_400,
    IdToken: 3600,
    Interaction: 3600,
    RefreshToken: 86_400,
    Session: 86_400,
  },
  findAccount: (_ctx, id) => ({ accountId: id, claims: async () => ({ sub: id }) }),
  loadExistingGrant: grantWhatIsAsked,
  issueRefreshToken: async () => true,
  interactions: { url: (_ctx, { uid }) => `/interaction/${uid}` },
  pkce: { required: () => false },
}
const provider =
  kind === 'ours'
    ? new Provider(issuer, configuration, { store, silentChecks: { perSession: 1e9, perAddress: 1e9 } })
    : stock()

function stock(): StockProvider {
  const made = new StockProvider(issuer, { ...configuration, adapter: sqliteAdapter(join(folder, 'stock.db')) })
  const createContext = made.createContext.bind(made)
  made.createContext = (req, res) => {
    const ctx = createContext(req, res)
    ctx.cookies.secure = true
    return ctx
  }
  return made
}

async function grantWhatIsAsked(ctx: KoaContextWithOIDC) {
  const { client, session } = ctx.oidc
  if (!client || !session?.accountId) return undefined
  const known = session.grantIdFor(client.clientId)
  const grant =
    (known === undefined ? undefined : await ctx.oidc.provider.Grant.find(known)) ??
    new ctx.oidc.provider.Grant({ accountId: session.accountId, clientId: client.clientId })
  grant.addOIDCScope([...ctx.oidc.requestParamScopes].join(' '))
  await grant.save()
  return grant
}

const callback = provider.callback()
listener = async (req, res) => {
  if (!req.url?.startsWith('/interaction/')) return callback(req, res)
  const { prompt } = await provider.interactionDetails(req, res)
  await provider.interactionFinished(
    req,
    res,
    prompt.name === 'login' ? { login: { accountId: 'ada' } } : { consent: {} },
  )
}

process.on('message', () => {
  const { user, system } = process.cpuUsage()
  process.send?.({ cpu: (user + system) / 1000 })
})
process.on('disconnect', () => process.exit(0))
process.send?.({ issuer })
