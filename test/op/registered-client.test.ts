import { afterEach, beforeEach, expect, it } from 'vitest'
import type { OpLogEvent } from '../../src/op.ts'
import { logIn, logoutUrl } from '../support/op-flow.ts'
import { type RpSite, startRpSite } from '../support/rp-site.ts'
import { startTestOp, type TestOp } from '../support/test-op.ts'
import { createUserAgent, type UserAgent } from '../support/user-agent.ts'
import { type SkippingTime, skippingTime } from './skipping-time.ts'

const minute = 60_000
const log: OpLogEvent[] = []
let rps: RpSite
let op: TestOp
let browser: UserAgent
let time: SkippingTime

beforeEach(async () => {
  log.length = 0
  rps = await startRpSite()
  browser = createUserAgent()
  time = skippingTime()
  op = await startTestOp({
    clients: [],
    configuration: { features: { devInteractions: { enabled: false }, registration: { enabled: true } } },
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
  await rps.close()
})

async function freshBrowser(): Promise<UserAgent> {
  await browser.close()
  return createUserAgent()
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
  return (await response.json()) as { client_id: string; client_secret: string; redirect_uris: string[] }
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
    time.skip(minute)
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
