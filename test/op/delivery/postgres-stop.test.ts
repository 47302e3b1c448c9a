import { fork } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { resolveBackchannelOptions } from '../../../src/op/delivery/backchannel-options.ts'
import { type Outbox, startOutbox } from '../../../src/op/delivery/outbox.ts'
import type { EndedOpSession, OpIssuerStore } from '../../../src/op/store/contract.ts'
import { postgresStore } from '../../../src/op-postgres.ts'
import { egress } from '../../../src/runtime/egress.ts'
import { world } from '../../../src/runtime/runtime.ts'
import { loggedIn } from '../../../src/testing/op-store-bench.ts'
import { hasPostgres, startPostgres, type TestPostgres } from '../../support/postgres.ts'
import type { OpProcessParts } from './crash/op-process.ts'

// A node that is stopped while an RP holds its POST: real sockets, and another node that is to go on.

let postgres: TestPostgres
let rp: Server
let url: string
let onPost: (response: ServerResponse) => void
const cleanups: (() => Promise<unknown>)[] = []

beforeEach(async () => {
  rp = createServer((request, response) => {
    request.resume()
    onPost(response)
  })
  rp.listen(0, '127.0.0.1')
  await once(rp, 'listening')
  url = `http://127.0.0.1:${(rp.address() as AddressInfo).port}/logout`
})
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
  rp.closeAllConnections()
  rp.close()
})

function openNode(): OpIssuerStore {
  const store = postgresStore({ connectionString: postgres.connectionString })
  cleanups.push(() => store.close())
  return store.forIssuer('https://op.example', world)
}

function startWorker(store: OpIssuerStore, stopTimeout: number): Outbox {
  const network = egress({ allow: ['127.0.0.1'] })
  cleanups.push(() => network.close())
  return startOutbox({
    store,
    runtime: { ...world, post: network.post },
    options: resolveBackchannelOptions({ timeout: 600, stopTimeout }), // its lease outlives any test
    log: () => {},
    findReceiver: async () => ({ url, isRegistered: false }),
    mint: async () => 'token',
  })
}

async function logOut(store: OpIssuerStore, uid: string): Promise<EndedOpSession> {
  await store.saveOpSession({
    uid,
    handle: uid,
    accountId: 'alice',
    payload: {},
    rps: [loggedIn('notes', { sid: `sid of ${uid}`, grantId: `grant of ${uid}` })],
    expiresAt: Math.floor(world.now() / 1000) + 3600,
    extend: true,
  })
  return (await store.endOpSession(uid, { cause: 'op_logout' }, (rps) => rps)) ?? expect.unreachable()
}

describe.skipIf(!hasPostgres)('a node that is stopped', () => {
  beforeAll(async () => {
    postgres = await startPostgres()
  }, 60_000)
  afterAll(() => postgres?.close())

  it('gives back what its RP does not answer, and another node takes it at once, not when the lease is over', async () => {
    const posted = Promise.withResolvers<void>()
    onPost = () => posted.resolve() // and no answer
    const [a, b] = [openNode(), openNode()]
    const outbox = startWorker(a, 0.1)
    const { deliveries } = await logOut(a, 'gives-back')
    outbox.wake()
    await posted.promise
    expect(await b.claimDue({ limit: 1, lease: 1000 })).toEqual([])
    await outbox.stop()
    const [taken] = await b.claimDue({ limit: 1, lease: 1000 })
    expect(taken).toMatchObject({ id: deliveries[0]?.id, attempts: 0, fence: 2 })
    const outcome = { state: 'delivered', status: 200 } as const
    const times = { dueAt: 0, startedAt: 0, finishedAt: 0 }
    await b.settle(taken ?? expect.unreachable(), { ...times, outcome })
  })

  it('ends its process although the database hangs meanwhile', async () => {
    const script = new URL('crash/op-process.ts', import.meta.url).pathname
    const { connectionString } = postgres
    const parts: OpProcessParts = { issuer: 'https://stopped.example', clients: [], store: { connectionString } }
    const child = fork(script, [JSON.stringify(parts)], {
      execArgv: ['-C', '@lockstep/source'],
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    })
    cleanups.push(async () => child.kill('SIGKILL'))
    expect((await once(child, 'message'))[0]).toBe('ready')
    const thaw = postgres.freeze()
    try {
      const gone = once(child, 'exit')
      child.send('stop')
      expect(await gone).toEqual([0, null])
    } finally {
      thaw()
    }
  })

  it('finishes what its RP answers in time', async () => {
    const posted = Promise.withResolvers<ServerResponse>()
    onPost = posted.resolve
    const [a, b] = [openNode(), openNode()]
    const outbox = startWorker(a, 600)
    const { logout } = await logOut(a, 'finishes')
    outbox.wake()
    const response = await posted.promise
    const stopped = outbox.stop()
    const { deliveries: late } = await logOut(b, 'too-late')
    response.end()
    await stopped
    expect((await b.getLogout(logout.id))?.deliveries).toMatchObject([{ state: 'delivered', attempts: 1 }])
    expect((await b.getDelivery(late[0]?.id ?? '', 1))?.delivery.state).toBe('due')
  })
})
