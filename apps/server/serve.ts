import type { Server } from 'node:http'
import { type EgressPolicyOptions, type OpLogEvent, type OpSecrets, type OpStore, Provider } from 'lockstep/op'
import { type Accounts, accountsOf } from './accounts.ts'
import { checkClients } from './check-clients.ts'
import type { ServerConfig } from './config.ts'
import { ConfigError } from './config-error.ts'
import { type Generation, generationOf, sameKeys } from './generation.ts'
import { type Log, placeOf } from './log.ts'
import { requireLoopback } from './loopback.ts'
import { openStore } from './open-store.ts'
import type { Site } from './pages.ts'
import { providerConfiguration } from './provider-configuration.ts'
import { answerNotFound, answerTooLarge, errorRenderer } from './provider-errors.ts'
import { requestListener } from './request-listener.ts'
import { serverSecrets } from './secrets.ts'
import { serverOf } from './tls.ts'

/** An OP that runs. */
export interface RunningServer {
  /** The OP that answers now; another one after other keys were taken up. */
  readonly op: Provider
  /**
   * Looks whether the keys in the store are still those it runs with, and goes on with the others if not; no request is
   * dropped. It does so by itself every 10 seconds.
   */
  takeUpKeys(): Promise<void>
  /** Stops listening and delivering; what is under way may finish for a few seconds. */
  close(): Promise<void>
}

/** Milliseconds that open connections have left when the server stops. */
const GRACE = 3000

/** Milliseconds between two looks at the keys in the store. */
const KEYS_EVERY = 10_000

/**
 * Starts an OP from its configuration.
 *
 * @throws ConfigError when the configuration cannot be run, or its port is taken.
 */
export async function startServer(config: ServerConfig, log: Log): Promise<RunningServer> {
  requireLoopback(config)
  const store = openStore(config)
  try {
    const site: Site = {
      issuer: config.issuer,
      base: new URL(config.issuer).pathname.replace(/\/$/, ''),
      demo: config.demo,
    }
    const accounts = accountsOf(config.accounts)
    const { read, encryptionKeys } = serverSecrets(store, config)
    const generation = async (secrets: OpSecrets): Promise<Generation> => {
      const op = buildProvider(config, { store, secrets, encryptionKeys, accounts, site, log })
      try {
        await op.ready()
        const csrfKey = secrets.cookieKeys[0] ?? ''
        return generationOf(op, secrets, requestListener({ op, config, site, accounts, csrfKey, log }))
      } catch (error) {
        await op.close()
        throw error
      }
    }
    const current = { generation: await generation(await read()) }
    try {
      await checkClients(current.generation.op, config) // at the start only: a rotation waits for nobody's metadata
      const server = await listen(
        serverOf(config, (req, res) => current.generation.listener(req, res)),
        config,
      )
      const keys = followKeys(current, { read, generation, log })
      return {
        get op() {
          return current.generation.op
        },
        takeUpKeys: keys.look,
        close: async () => {
          await keys.stop()
          await stop(server, current.generation.op, store)
        },
      }
    } catch (error) {
      await current.generation.op.close()
      throw error
    }
  } catch (error) {
    await store.close()
    throw error
  }
}

interface KeysParts {
  read(): Promise<OpSecrets>
  generation(secrets: OpSecrets): Promise<Generation>
  readonly log: Log
}

/** Looks at the keys in the store now and then, one look at a time, and puts a new OP in the place of the present one. */
function followKeys(
  current: { generation: Generation },
  { read, generation, log }: KeysParts,
): { look(): Promise<void>; stop(): Promise<void> } {
  let looking: Promise<void> = Promise.resolve()
  const lookOnce = async (): Promise<void> => {
    const secrets = await read()
    const before = current.generation
    if (sameKeys(secrets, before.secrets)) return
    current.generation = await generation(secrets)
    log('info', 'keys_taken_up', { kids: secrets.jwks.keys.map(({ kid }) => kid).join(' ') })
    await before.retire(GRACE)
  }
  const look = (): Promise<void> => {
    const next = looking.then(lookOnce)
    looking = next.catch(() => {}) // whoever asked hears of it; the next look is made all the same
    return next
  }
  const timer = setInterval(() => {
    look().catch((error: Error) => log('error', 'keys_not_taken_up', { message: error.message }))
  }, KEYS_EVERY)
  return {
    look,
    async stop() {
      clearInterval(timer)
      await looking
    },
  }
}

interface ProviderParts {
  readonly store: OpStore
  readonly secrets: OpSecrets
  readonly encryptionKeys: readonly Uint8Array[]
  readonly accounts: Accounts
  readonly site: Site
  readonly log: Log
}

function buildProvider(
  config: ServerConfig,
  { store, secrets, encryptionKeys, accounts, site, log }: ProviderParts,
): Provider {
  const clients = config.clients.map((client) => ({ ...client }))
  const renderError = errorRenderer(site, log)
  try {
    const op = new Provider(
      config.issuer,
      providerConfiguration({
        clients,
        accounts,
        secrets,
        base: site.base,
        signingAlg: config.signing_alg,
        renderError,
      }),
      {
        store,
        encryptionKeys,
        egress: egressOf(config),
        log: ({ event, ...fields }) => log(levelOf(event), event, fields),
      },
    )
    op.proxy = config.issuer.startsWith('https:')
    op.on('server_error', (_ctx, error: Error) =>
      log('error', 'server_error', { message: error.message, at: placeOf(error) }),
    )
    answerTooLarge(op)
    answerNotFound(op, site)
    return op
  } catch (cause) {
    if (cause instanceof TypeError) throw new ConfigError(`${config.source}: ${cause.message}`, { cause })
    throw cause
  }
}

/** The file's `egress` without the keys it leaves out. */
function egressOf({ egress: { allow, proxy, proxyEnforces } }: ServerConfig): EgressPolicyOptions {
  return { allow, ...(proxy !== undefined && { proxy }), ...(proxyEnforces !== undefined && { proxyEnforces }) }
}

function levelOf(event: OpLogEvent['event']): 'info' | 'warn' | 'error' {
  if (event === 'delivery_delivered' || event === 'rp_back') return 'info'
  return event.startsWith('deliveries_') || event === 'delivery_failing' || event === 'rp_down' ? 'warn' : 'error'
}

function listen(server: Server, { source, listen: { host, port } }: ServerConfig): Promise<Server> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => {
      const why: Readonly<Record<string, string>> = {
        EADDRINUSE: `Port ${port} on ${host} is in use. Stop what listens there, or choose another port with --port.`,
        EACCES: `Port ${port} on ${host} may not be used by this user. Choose one above 1023 with --port.`,
        EADDRNOTAVAIL: `${source}: "listen.host" is ${host}, which is no address of this machine. Write one that is.`,
        ENOTFOUND: `${source}: "listen.host" is ${host}, which is no address of this machine. Write one that is.`,
      }
      const message = why[cause.code ?? '']
      reject(message === undefined ? cause : new ConfigError(message, { cause }))
    })
    server.listen(port, host, () => resolve(server))
  })
}

async function stop(server: Server, op: Provider, store: { close(): Promise<void> }): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()))
  server.closeIdleConnections()
  const cut = setTimeout(() => server.closeAllConnections(), GRACE)
  await Promise.all([op.close(), closed])
  clearTimeout(cut)
  await store.close()
}
