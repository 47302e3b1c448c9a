import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { resolveBackchannelOptions } from '../../../src/op/delivery/backchannel-options.ts'
import { type Outbox, startOutbox } from '../../../src/op/delivery/outbox.ts'
import type { OpIssuerStore } from '../../../src/op/store/contract.ts'
import { postgresStore } from '../../../src/op-postgres.ts'
import { egress } from '../../../src/runtime/egress.ts'
import { world } from '../../../src/runtime/runtime.ts'
import { loggedIn } from '../../../src/testing/op-store-bench.ts'
import { hasPostgres, startPostgres, type TestPostgres } from '../../support/postgres.ts'

// Real processes, a real server that is really killed, real sockets: what the virtual world cannot show.

let postgres: TestPostgres
let server: Server
let url: string
/** What the RP does with a POST; it gets the Logout Token. */
let onPost: (token: string, response: ServerResponse) => void
const cleanups: (() => Promise<unknown>)[] = []

beforeEach(async () => {
  onPost = (_, response) => response.end()
  server = createServer((request, response) => {
    let body = ''
    request.setEncoding('utf8')
    request.on('data', (chunk: string) => {
      body += chunk
    })
    request.on('end', () => onPost(new URLSearchParams(body).get('logout_token') ?? '', response))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/logout`
})

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
  server.closeAllConnections()
  server.close()
})

function openNode(): OpIssuerStore {
  const store = postgresStore({ connectionString: postgres.connectionString })
  cleanups.push(() => store.close())
  return store.forIssuer('https://op.example', world)
}

function startWorker(store: OpIssuerStore, parts: Partial<Parameters<typeof startOutbox>[0]> = {}): Outbox {
  const network = egress({ allow: ['127.0.0.1'] })
  const outbox = startOutbox({
    store,
    runtime: { ...world, post: network.post },
    options: resolveBackchannelOptions({ concurrencyPerRp: 4 }),
    log: () => {},
    findReceiver: async () => ({ url, isRegistered: false }),
    mint: async ({ sid }) => sid,
    ...parts,
  })
  cleanups.push(async () => {
    await outbox.stop()
    await network.close()
  })
  return outbox
}

async function signIn(store: OpIssuerStore, uid: string): Promise<void> {
  await store.saveOpSession({
    uid,
    handle: uid,
    accountId: 'alice',
    payload: {},
    rps: [loggedIn('notes', { sid: `sid of ${uid}`, grantId: `grant of ${uid}` })],
    expiresAt: Math.floor(world.now() / 1000) + 3600,
    extend: true,
  })
}

describe.skipIf(!hasPostgres)('nodes that share PostgreSQL', () => {
  beforeAll(async () => {
    postgres = await startPostgres()
  }, 60_000)
  afterAll(() => postgres?.close())

  it('deliver what a killed one had in its hands, without being told [design §4]', async () => {
    const tokens: string[] = []
    const [first, second] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    onPost = (token, response) => {
      tokens.push(token)
      if (tokens.length === 1) return first.resolve() // and no answer
      response.end()
      second.resolve()
    }
    // The other node has nothing to do and listens; it hears of the logout, and finds the delivery in the first one's hands.
    const store = openNode()
    startWorker({ ...store, claimDue: async (options) => (tokens.length === 0 ? [] : store.claimDue(options)) })
    const script = new URL('postgres-child.ts', import.meta.url).pathname
    const child = spawn(process.execPath, ['-C', '@lockstep/source', script, postgres.connectionString, url], {
      stdio: ['ignore', 'ignore', 'inherit'],
    })
    cleanups.push(async () => child.kill('SIGKILL'))
    const diedTooEarly = once(child, 'exit').then(() => expect.unreachable('the first node died by itself'))
    await Promise.race([first.promise, diedTooEarly])
    diedTooEarly.catch(() => {}) // from here on it is to die
    child.kill('SIGKILL')
    await second.promise
    expect(tokens[1]).toBe('sid')
  })

  it('do not let a browser wait for an attempt that another of them made', async () => {
    const store = openNode()
    const idle = startWorker({ ...store, claimDue: async () => [] })
    startWorker(openNode())
    await signIn(store, 'u')
    const ended = await store.endOpSession('u', { cause: 'op_logout' }, (rps) => rps)
    const began = world.now()
    await idle.firstAttempts(ended?.logout.id ?? '', 600_000)
    expect(world.now() - began).toBeLessThan(600_000)
    expect((await store.getLogout(ended?.logout.id ?? ''))?.deliveries[0]).toMatchObject({ state: 'delivered' })
  })

  it('lose nothing when the database crashes and comes back while they deliver [design §4]', async () => {
    const told = new Set<string>()
    const half = Promise.withResolvers<void>()
    onPost = (token, response) => {
      told.add(token)
      if (told.size === 60) half.resolve()
      response.end()
    }
    const [a, b] = [openNode(), openNode()]
    const shortLease = (store: OpIssuerStore): OpIssuerStore => ({
      ...store,
      claimDue: (options) => store.claimDue({ ...options, lease: 2000 }),
    })
    for (const store of [a, b]) startWorker(shortLease(store))
    const uids = Array.from({ length: 120 }, (_, i) => `crash-${i}`)
    for (const uid of uids) await signIn(a, uid)
    const end = (uid: string, i: number): Promise<unknown> =>
      (i % 2 === 0 ? a : b).endOpSession(uid, { cause: 'op_logout' }, (rps) => rps)
    const ended = Promise.allSettled(uids.map(end))
    await half.promise
    await postgres.stop('immediate')
    const outcomes = await ended
    await postgres.start()

    // What was confirmed is told; what was not is whole as well: still signed in, or ended with its delivery.
    for (const [i, uid] of uids.entries()) {
      if (outcomes[i]?.status === 'rejected')
        await expect
          .poll(() =>
            end(uid, i).then(
              () => 'asked',
              () => 'down',
            ),
          )
          .toBe('asked')
      expect(await a.getOpSession({ uid })).toBeUndefined()
    }
    await expect.poll(() => told.size, { timeout: 15_000 }).toBe(uids.length)
    await expect.poll(() => a.nextDueAt(), { timeout: 15_000 }).toBeUndefined()
  })
})
