import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { resolveBackchannelOptions } from '../../../src/op/delivery/backchannel-options.ts'
import { type Outbox, startOutbox } from '../../../src/op/delivery/outbox.ts'
import type { Delivery, OpIssuerStore } from '../../../src/op/store/contract.ts'
import { sqliteStore } from '../../../src/op-sqlite.ts'
import { egress } from '../../../src/runtime/egress.ts'
import { world } from '../../../src/runtime/runtime.ts'
import { loggedIn } from '../../../src/testing/op-store-bench.ts'
import { type Fault, type FaultProxy, startFaultProxy } from '../../support/fault-proxy.ts'
import { withLeases } from '../../support/with-leases.ts'

/* Real sockets, with a proxy in between that does to the answers what networks do. */

/** How much faster than the world's the outbox's clock runs: back-offs take minutes. */
const speed = 60

interface Rp {
  readonly proxy: FaultProxy
  /** RP sessions it holds. */
  readonly alive: Set<string>
  posts: number
  /** What it answers in place of 200; it ends nothing then. */
  failure?: number
}

let store: OpIssuerStore
let outbox: Outbox
const rps = new Map<string, Rp>()
const cleanups: (() => Promise<unknown>)[] = []

beforeEach(() => {
  const began = world.now()
  const runtime = {
    ...world,
    now: () => began + (world.now() - began) * speed,
    sleep: (ms: number, signal?: AbortSignal) => world.sleep(ms / speed, signal),
  }
  const file = sqliteStore(':memory:')
  const network = egress({ allow: ['127.0.0.1'] })
  store = withLeases(file, 3_600_000).forIssuer('https://op.example', runtime)
  outbox = startOutbox({
    store,
    runtime: { ...runtime, post: network.post },
    options: resolveBackchannelOptions({ timeout: 8, stopTimeout: 0 }),
    log: () => {},
    findReceiver: async (clientId) => ({
      url: `http://127.0.0.1:${rps.get(clientId)?.proxy.port}/logout`,
      isRegistered: false,
    }),
    mint: async ({ sid }) => sid,
  })
  cleanups.push(async () => {
    await outbox.stop()
    await network.close()
    await file.close()
  })
})
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
  rps.clear()
})

/** An app that ends what it is told of, once, and says how many RP sessions that were. */
async function startRp(clientId: string, fault: Fault = 'none'): Promise<Rp> {
  async function take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    rp.posts += 1
    if (rp.failure !== undefined) return void response.writeHead(rp.failure).end()
    const sid = new URLSearchParams(Buffer.concat(chunks).toString()).get('logout_token') ?? ''
    response.writeHead(200, { 'logout-sessions-ended': rp.alive.delete(sid) ? '1' : '0' }).end()
  }
  const server = createServer((request, response) => void take(request, response))
  server.keepAliveTimeout = 0 // a swallowed answer leaves its connection idle, as the server sees it
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const rp: Rp = {
    proxy: await startFaultProxy((server.address() as AddressInfo).port, fault),
    alive: new Set(),
    posts: 0,
  }
  rps.set(clientId, rp)
  cleanups.push(async () => {
    await rp.proxy.close()
    server.closeAllConnections()
    server.close()
  })
  return rp
}

/** Signs in at all RPs and out again; answers the way to look at the deliveries. */
async function logout(uid: string): Promise<() => Promise<Map<string, Delivery>>> {
  const sids = [...rps].map(([clientId, { alive }]) => {
    const sid = `${uid} at ${clientId}`
    alive.add(sid)
    return loggedIn(clientId, { sid, grantId: sid })
  })
  const expiresAt = Number.MAX_SAFE_INTEGER
  const who = { uid, handle: uid, accountId: uid }
  await store.saveOpSession({ ...who, payload: {}, rps: sids, expiresAt, extend: true })
  const ended = await store.endOpSession(uid, { cause: 'op_logout' }, (told) => told)
  outbox.wake()
  return async () => {
    const found = await store.getLogout(ended?.logout.id ?? '')
    return new Map(found?.deliveries.map((delivery) => [delivery.clientId, delivery]))
  }
}

const patient = { timeout: 90_000 }

it('an answer that is cut off after the RP acted is a failure; the next counts, and is not flagged [T28]', async () => {
  const notes = await startRp('notes', { cutAfter: 12 })
  const deliveries = await logout('ada')
  await expect.poll(async () => (await deliveries()).get('notes')?.attempts, patient).toBeGreaterThan(0)
  expect((await deliveries()).get('notes')?.lastOutcome).toMatchObject({ state: 'due', why: 'network' })
  expect(notes.alive.size).toBe(0)
  notes.proxy.fault = 'none'
  await expect.poll(async () => (await deliveries()).get('notes')?.state, patient).toBe('delivered')
  const { lastOutcome } = (await deliveries()).get('notes') ?? {}
  expect(lastOutcome).toEqual({ state: 'delivered', status: 200, sessionsEnded: 0 })
})

it('a 200 that ended nothing is flagged where no attempt was made before [T28]', async () => {
  const notes = await startRp('notes')
  const signingIn = logout('ada')
  notes.alive.clear()
  const deliveries = await signingIn
  await expect
    .poll(async () => (await deliveries()).get('notes')?.lastOutcome, patient)
    .toMatchObject({
      state: 'delivered',
      sessionsEnded: 0,
      endedNothing: true,
    })
})

it('an answer that is swallowed is a time-out; the next try counts [design §4] [T28]', async () => {
  const notes = await startRp('notes', 'swallow')
  const deliveries = await logout('ada')
  await expect
    .poll(async () => (await deliveries()).get('notes')?.lastOutcome, patient)
    .toMatchObject({ why: 'timeout' })
  notes.proxy.fault = 'none'
  await expect.poll(async () => (await deliveries()).get('notes')?.state, patient).toBe('delivered')
  expect((await deliveries()).get('notes')?.lastOutcome).not.toHaveProperty('endedNothing')
})

it('an answer that is late, but in time, is an answer', async () => {
  await startRp('notes', { delay: 200 })
  const deliveries = await logout('ada')
  await expect
    .poll(async () => (await deliveries()).get('notes'), patient)
    .toMatchObject({
      state: 'delivered',
      attempts: 1,
      lastOutcome: { sessionsEnded: 1 },
    })
})

it('the healthy are told at the first attempt while others hang, refuse and fail, and those when they recover [design §4]', async () => {
  const all = await Promise.all(Array.from({ length: 40 }, (_, i) => startRp(`rp-${i}`)))
  const [hanging, refusing, failing] = [all.slice(0, 4), all.slice(4, 8), all.slice(8, 10)]
  for (const { proxy } of hanging) proxy.fault = 'swallow'
  for (const { proxy } of refusing) await proxy.refuse()
  for (const rp of failing) rp.failure = 500
  const logouts = await Promise.all(Array.from({ length: 5 }, (_, i) => logout(`user-${i}`)))
  const states = async (from: number, to: number) => {
    const found = await Promise.all(logouts.map((deliveries) => deliveries()))
    const names = [...rps.keys()].slice(from, to)
    return found.flatMap((one) =>
      names.map((name) => ({ state: one.get(name)?.state, attempts: one.get(name)?.attempts })),
    )
  }
  const told = { state: 'delivered', attempts: 1 }
  await expect.poll(() => states(10, 40), patient).toEqual(Array.from({ length: 150 }, () => told))
  expect((await states(0, 10)).some(({ state }) => state === 'delivered')).toBe(false)

  for (const { proxy } of hanging) proxy.fault = 'none'
  for (const { proxy } of refusing) await proxy.listen()
  for (const rp of failing) delete rp.failure
  await expect
    .poll(async () => new Set((await states(0, 10)).map(({ state }) => state)), patient)
    .toEqual(new Set(['delivered']))
  for (const { alive } of all) expect(alive.size).toBe(0)
})
