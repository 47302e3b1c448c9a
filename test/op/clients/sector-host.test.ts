import { createHash } from 'node:crypto'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { OpLogEvent, OpStore } from '../../../src/op.ts'
import { sqliteStore } from '../../../src/op-sqlite.ts'
import { world } from '../../../src/runtime/runtime.ts'
import { loggedIn, opSession } from '../../../src/testing/op-store-bench.ts'
import { type RpSite, startRpSite } from '../../support/rp-site.ts'
import { startTestOp, type TestOp } from '../../support/test-op.ts'

/** A host that takes every connection and says nothing on it. */
let host: Server
const connections: Socket[] = []
const log: OpLogEvent[] = []
let rps: RpSite
let store: OpStore
let op: TestOp

const bench = { ...world, pass: () => {} }

beforeEach(async () => {
  connections.length = 0
  log.length = 0
  host = createServer((socket) => connections.push(socket))
  await new Promise<void>((resolve) => host.listen(0, '127.0.0.1', resolve))
  const { port } = host.address() as AddressInfo
  const ofOthers = { sector_identifier_uri: `https://127.0.0.1:${port}/sector`, subject_type: 'pairwise' } as const
  rps = await startRpSite()
  store = sqliteStore(':memory:')
  op = await startTestOp({
    clients: [rps.client('notes', ofOthers), rps.client('mail')],
    configuration: {
      subjectTypes: ['public', 'pairwise'],
      pairwiseIdentifier: async (_ctx, accountId, client) => `${client.clientId} ${accountId}`,
    },
    options: { log: (event) => log.push(event) },
    store,
  })
  const handle = createHash('sha256').update('board').digest('base64url')
  await issuerStore().putModel({ kind: 'Client', handle, payload: { ...rps.client('board', ofOthers) } })
  await op.provider.ready()
})
afterEach(async () => {
  for (const socket of connections) socket.destroy()
  await new Promise((resolve) => host.close(resolve))
  await op.close()
  await store.close()
  await rps.close()
})

const issuerStore = () => store.forIssuer(op.issuer, world)

describe('a host that a sector_identifier_uri names', () => {
  it('is asked nothing when a session ends, so that it holds up no commit and no Logout Token [design §4]', async () => {
    const rpsOfUser = [loggedIn('notes'), loggedIn('board'), loggedIn('mail')]
    await issuerStore().saveOpSession(opSession(bench, { uid: 'u', handle: 'h', rps: rpsOfUser }))
    await op.provider.opSessions.end('u', { cause: 'admin' })
    const told = await rps.received(3)
    expect(told.map(({ app }) => app).sort()).toEqual(['board', 'mail', 'notes'])
    expect(connections).toEqual([])
    expect(log.filter(({ event }) => event === 'op_failed')).toEqual([])
  })

  it('is asked nothing by the attempts at a client that registered itself, however much that is owed [T8]', async () => {
    rps.answer('board', (response) => response.writeHead(500).end())
    for (let i = 0; i < 30; i++) {
      const rpsOfUser = [loggedIn('board')]
      await issuerStore().saveOpSession(opSession(bench, { uid: `u${i}`, handle: `h${i}`, rps: rpsOfUser }))
      await op.provider.opSessions.end(`u${i}`, { cause: 'admin' })
    }
    await rps.received(2)
    expect(connections).toEqual([])
    const { deliveries } = await op.provider.deliveries.list({ clientId: 'board' })
    const attempts = deliveries.reduce((sum, { attempts }) => sum + attempts, 0)
    expect(attempts).toBeLessThanOrEqual(10)
  })
})
