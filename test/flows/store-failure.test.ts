import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import express from 'express'
import { afterEach, describe, expect, it } from 'vitest'
import { createRelyingParty, type RpLogEvent, type RpStore } from '../../src/rp.ts'
import { auth, requireLogin } from '../../src/rp-express.ts'
import { postgresStore } from '../../src/rp-postgres.ts'
import { redisStore } from '../../src/rp-redis.ts'
import { world } from '../../src/runtime/runtime.ts'
import { hasPostgres, startPostgres } from '../support/postgres.ts'
import { hasRedis, startRedis } from '../support/redis.ts'
import { openTab } from '../support/tab.ts'
import { startTestOp } from '../support/test-op.ts'
import { createUserAgent } from '../support/user-agent.ts'

/* Both real sides: the OP's outbox tells an app whose store is away, and tells it again. */

const cleanup: (() => unknown)[] = []
afterEach(async () => {
  for (const step of cleanup.splice(0).reverse()) await step()
})

/** One app on two nodes, which share a store; the OP knows the first, the browser's tab is at the second. */
async function startApp(openStore: () => RpStore) {
  const nodes = await Promise.all([1, 2].map(() => startNode()))
  const [first, second] = nodes as [AppNode, AppNode]
  const client = {
    client_id: 'notes',
    client_secret: 'the secret of notes, which is long enough',
    redirect_uris: [`${second.url}/auth/callback`],
    post_logout_redirect_uris: [`${second.url}/auth/logged-out`],
    backchannel_logout_uri: `http://127.0.0.1:${first.port}/auth/backchannel-logout`,
    backchannel_logout_session_required: true,
  }
  const op = await startTestOp({ clients: [client] })
  cleanup.push(() => op.close())
  const log: RpLogEvent[] = []
  const ended: string[] = []
  for (const node of nodes) {
    const store = openStore()
    const rp = createRelyingParty({
      issuer: op.issuer,
      clientId: client.client_id,
      clientSecret: client.client_secret,
      appUrl: second.url,
      store,
      mapSession: ({ sub }) => ({ sub }),
      onSessionEnded: ({ sub }) => {
        ended.push(sub)
      },
      log: (event) => log.push(event),
    })
    node.app.use(auth(rp))
    node.app.get('/', requireLogin(rp), (req, res) => res.json(req.rpSession.data))
    cleanup.push(async () => {
      await rp.close()
      await store.close()
    })
  }
  return { op, url: second.url, log, ended }
}

interface AppNode {
  readonly app: express.Express
  readonly url: string
  readonly port: number
}

async function startNode(): Promise<AppNode> {
  const app = express()
  const server: Server = createServer(app)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  cleanup.push(async () => {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  })
  const { port } = server.address() as AddressInfo
  return { app, url: `http://notes.localhost:${port}`, port }
}

/** What a store needs of the server it is on. */
interface Outage {
  readonly openStore: () => RpStore
  stop(): Promise<void>
  start(): Promise<void>
}

async function redisOutage(): Promise<Outage> {
  const redis = await startRedis(['appendonly yes', 'appendfsync always'])
  cleanup.push(() => redis.close())
  const openStore = () => redisStore({ host: '127.0.0.1', port: redis.port })
  return { openStore, stop: () => redis.kill(), start: () => redis.start() }
}

async function postgresOutage(): Promise<Outage> {
  const postgres = await startPostgres()
  cleanup.push(() => postgres.close())
  const openStore = () => postgresStore({ connectionString: postgres.connectionString })
  return { openStore, stop: () => postgres.stop('immediate'), start: () => postgres.start() }
}

const outages: readonly (readonly [string, boolean, () => Promise<Outage>])[] = [
  ['redis', hasRedis, redisOutage],
  ['postgres', hasPostgres, postgresOutage],
]

describe.each(outages)('a logout while the store of the app is away: %s', (_name, isThere, startOutage) => {
  it.runIf(isThere)('is not confirmed, and happens when the OP tries again [BC §2.8]', async () => {
    const { openStore, stop, start } = await startOutage()
    const { op, url, log, ended } = await startApp(openStore)
    const ada = createUserAgent()
    cleanup.push(() => ada.close())
    await ada.open(`${url}/`)
    await stop()
    const [session] = (await op.provider.opSessions.list({ accountId: 'ada' })).sessions
    const id = (await op.provider.opSessions.end(session?.uid ?? '')) ?? ''
    const delivery = async () => (await op.store.forIssuer(op.issuer, world).getLogout(id))?.deliveries[0]
    await expect.poll(async () => (await delivery())?.attempts, { timeout: 10_000 }).toBe(1)
    await expect
      .poll(async () => (await delivery())?.lastOutcome, { timeout: 10_000 })
      .toMatchObject({ state: 'due', status: 400 })
    expect(log.some(({ event }) => event === 'logout_not_recorded')).toBe(true)
    expect(ended).toEqual([])
    await start()
    const tab = openTab(ada, `${url}/`)
    cleanup.push(() => tab.close())
    await tab.next('alive')
    expect(await tab.next('ended')).toMatchObject({ heardBy: 'push', ended: { cause: 'logout_token' } })
    await expect
      .poll(async () => (await delivery())?.lastOutcome, { timeout: 10_000 })
      .toMatchObject({ state: 'delivered', status: 200, sessionsEnded: 1 })
    expect(ended).toEqual(['ada'])
  })
})
