import { afterEach, beforeEach, expect, it } from 'vitest'
import type { OpLogEvent, OpStore } from '../../../src/op.ts'
import { sqliteStore } from '../../../src/op-sqlite.ts'
import { logIn, logoutUrl } from '../../support/op-flow.ts'
import { type RpSite, startRpSite } from '../../support/rp-site.ts'
import { startTestOp, type TestOp } from '../../support/test-op.ts'
import { createUserAgent, type UserAgent } from '../../support/user-agent.ts'
import { type SkippingTime, skippingTime } from '../skipping-time.ts'

const minute = 60_000
const log: OpLogEvent[] = []
let rps: RpSite
let op: TestOp
let browser: UserAgent
let time: SkippingTime
let store: OpStore
/** Called at the end of each turn of the outbox: what is due is under way then. */
let onTurn: () => void = () => {}

beforeEach(async () => {
  log.length = 0
  rps = await startRpSite()
  browser = createUserAgent()
  time = skippingTime()
  store = sqliteStore(':memory:')
  op = await startTestOp({
    clients: [],
    store: watched(store),
    configuration: {
      features: {
        devInteractions: { enabled: false },
        registration: { enabled: true },
        registrationManagement: { enabled: true },
      },
    },
    options: {
      encryptionKeys: [new Uint8Array(32).fill(1)],
      registration: { dangerouslyAllowAnyone: true },
      runtime: time.runtime,
      log: (event) => log.push(event),
    },
  })
})
afterEach(async () => {
  await browser.close()
  await op.close()
  await store.close()
  await rps.close()
})

function watched(real: OpStore): OpStore {
  return {
    ...real,
    forIssuer(...of) {
      const inner = real.forIssuer(...of)
      return {
        ...inner,
        async nextDueAt(room) {
          const at = await inner.nextDueAt(room)
          onTurn()
          return at
        },
      }
    },
  }
}

async function freshBrowser(): Promise<UserAgent> {
  await browser.close()
  return createUserAgent()
}

interface Registered {
  readonly client_id: string
  readonly client_secret: string
  readonly redirect_uris: string[]
  readonly registration_client_uri: string
  readonly registration_access_token: string
}

/** Registers an app as anybody may: whose logout URI it names, the OP cannot know. */
async function register(app: string) {
  const { backchannel_logout_uri = '' } = rps.client(app)
  const response = await fetch(`${op.issuer}/reg`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      redirect_uris: [new URL('/cb', backchannel_logout_uri).href],
      backchannel_logout_uri,
      token_endpoint_auth_method: 'client_secret_post',
    }),
  })
  expect(response.status).toBe(201)
  return (await response.json()) as Registered
}

async function logInAndOut(app: Awaited<ReturnType<typeof register>>): Promise<void> {
  const { tokens } = await logIn(browser, op, app)
  await browser.open(logoutUrl(op, { id_token_hint: tokens.id_token }))
}

/** Signs somebody in whose OP session ends later: what is sent to a browser does not outlive the skipped hour. */
async function logInForLater(app: Awaited<ReturnType<typeof register>>, accountId: string): Promise<string> {
  await logIn(browser, op, app, { login_hint: accountId })
  const [session] = (await op.provider.opSessions.list({ accountId })).sessions
  return session?.uid ?? expect.unreachable('nobody is signed in')
}

/** Lets minutes pass, and in each of them the attempts that are due. */
async function pass(minutes: number): Promise<void> {
  for (let passed = 0; passed < minutes; passed++) {
    const turn = new Promise<void>((done) => {
      onTurn = done
    })
    time.skip(minute)
    await turn
    const inFlight = async () => (await op.provider.deliveries.list({ state: 'in-flight' })).deliveries.length
    await expect.poll(inFlight, { interval: 5, timeout: 30_000 }).toBe(0)
  }
}

it('a client that registers itself gets ten attempts an hour until it answers 200, and then all it is owed [T8]', async () => {
  const app = await register('stranger')
  const later = await logInForLater(app, 'grace')
  browser = await freshBrowser()
  rps.answer('stranger', (response) => response.writeHead(500).end())
  for (let logouts = 0; logouts < 12; logouts++) await logInAndOut(app)
  await pass(59)
  expect(rps.logouts.length).toBeGreaterThanOrEqual(3) // so many failures until it counts as down
  expect(rps.logouts.length).toBeLessThanOrEqual(10)
  expect(log.filter(({ event }) => event === 'rp_held')).toEqual([expect.objectContaining({ clientId: app.client_id })])

  rps.answer('stranger', (response) => response.end())
  const delivered = async () => (await op.provider.deliveries.list({ state: 'delivered' })).deliveries.length
  const soonDelivered = async () => {
    time.skip(20_000)
    return delivered()
  }
  await expect.poll(soonDelivered, { timeout: 60_000, interval: 20 }).toBe(12)

  const told = rps.logouts.length
  await op.provider.opSessions.end(later)
  await rps.received(told + 1)
})

it('what is owed to a client that has unregistered meanwhile is given up at the next attempt, and that is told [design §4]', async () => {
  const app = await register('leaving')
  rps.answer('leaving', (response) => response.writeHead(503).end())
  const dead: unknown[] = []
  op.provider.on('lockstep.delivery.dead', (event) => dead.push(event))
  await logInAndOut(app)
  await rps.received(1)
  const gone = await fetch(app.registration_client_uri, {
    method: 'DELETE',
    headers: { authorization: `Bearer ${app.registration_access_token}` },
  })
  expect(gone.status).toBe(204)
  await pass(2)
  const { deliveries } = await op.provider.deliveries.list({ clientId: app.client_id })
  expect(deliveries).toMatchObject([{ state: 'dead', lastOutcome: { why: 'client_gone' } }])
  expect(dead).toMatchObject([{ clientId: app.client_id, why: 'client_gone' }])
  expect(rps.logouts).toHaveLength(1)
})
