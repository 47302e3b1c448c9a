import { get, type IncomingMessage } from 'node:http'
import pg from 'pg'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { BACKCHANNEL_LOGOUT_EVENT } from '../../src/protocol/logout-token.ts'
import { namesOf } from '../../src/rp/session-id.ts'
import { createRelyingParty, type RpStore } from '../../src/rp.ts'
import { memoryStore } from '../../src/rp-memory.ts'
import { auth } from '../../src/rp-node.ts'
import { postgresStore } from '../../src/rp-postgres.ts'
import { redisStore } from '../../src/rp-redis.ts'
import { world } from '../../src/runtime/runtime.ts'
import { someSession } from '../../src/testing/rp-store-bench.ts'
import { type FakeOp, startFakeOp } from '../rp/fake-op.ts'
import { listen, shut } from '../rp/support.ts'
import { hasPostgres, startPostgres } from '../support/postgres.ts'
import { hasRedis, startRedis } from '../support/redis.ts'

/* Open tabs at two nodes of an app. Time stands still, so nothing is heard by the stream's own look at the store every 30 s.
   `npm run bench -- streams` has 10,000 tabs and a clock. */

const cleanup: (() => unknown)[] = []
let op: FakeOp
beforeEach(async () => {
  op = await startFakeOp()
  cleanup.push(() => op.close())
})
afterEach(async () => {
  for (const step of cleanup.splice(0).reverse()) await step()
})

/** Opens the same store for one node after the other. */
interface Shared {
  open(): RpStore
  /** Breaks the connections by which nodes hear of each other. */
  breakHints?(): Promise<unknown>
}

const shared: Readonly<Record<string, () => Promise<Shared>>> = {
  async memory() {
    const store = memoryStore() // one process, and so one store
    return { open: () => store }
  },
  async Redis() {
    const redis = await startRedis()
    cleanup.push(() => redis.close())
    return {
      open: () => redisStore({ host: '127.0.0.1', port: redis.port }),
      breakHints: () => redis.command('CLIENT', 'KILL', 'TYPE', 'pubsub'),
    }
  },
  async PostgreSQL() {
    const postgres = await startPostgres()
    cleanup.push(() => postgres.close())
    return {
      open: () => postgresStore({ connectionString: postgres.connectionString }),
      async breakHints() {
        const admin = new pg.Client({ connectionString: postgres.connectionString })
        await admin.connect()
        await admin.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ILIKE 'LISTEN %'")
        await admin.end()
      },
    }
  },
}
const kinds = Object.keys(shared).filter((kind) => (kind === 'Redis' ? hasRedis : kind !== 'PostgreSQL' || hasPostgres))

/** Sleeps until it is called off. */
const standing = {
  ...world,
  sleep: (_ms: number, signal?: AbortSignal) =>
    new Promise<never>((_resolve, reject) => {
      signal?.addEventListener('abort', () => reject(signal.reason), { once: true })
    }),
}

interface Node {
  readonly port: number
  readonly sessions: ReturnType<RpStore['forClient']>
  /** How often its streams and routes have read an RP session. */
  reads(): number
}

async function startNode(store: RpStore): Promise<Node> {
  let reads = 0
  const identity = { issuer: op.issuer, clientId: 'notes' }
  const sessions = store.forClient(identity, world)
  const counting: RpStore = {
    ...store,
    forClient: () => ({
      ...sessions,
      get(handle) {
        reads += 1
        return sessions.get(handle)
      },
    }),
  }
  const rp = createRelyingParty({
    ...identity,
    clientSecret: 's',
    appUrl: 'https://notes.example',
    cookieSuffix: 'notes',
    store: counting,
    runtime: standing,
    log: () => {},
  })
  const serve = auth(rp)
  const { server, port } = await listen((req, res) => void serve(req, res))
  cleanup.push(async () => {
    await rp.close()
    await shut(server)
    await store.close()
  })
  return { port, sessions, reads: () => reads }
}

/** Two nodes on one store. */
async function startNodes(kind: string) {
  const store = (await shared[kind]?.()) ?? expect.unreachable()
  const [first, second] = [await startNode(store.open()), await startNode(store.open())]
  return { first, second, ...store }
}

const idOf = (session: number): string => String(session).padStart(43, 'x')

async function openSessions({ sessions }: Node, count: number): Promise<void> {
  const now = Math.floor(Date.now() / 1000)
  const times = {
    createdAt: now,
    requestedAt: now * 1000,
    firstIat: now,
    idleExpiresAt: now + 3_600,
    expiresAt: now + 86_400,
  }
  for (let i = 0; i < count; i++) {
    const session = someSession({ ...namesOf(idOf(i)), sid: `s${i}`, sub: `u${i}`, ...times })
    await sessions.create(session)
  }
}

/** The OP tells one node that an RP session is over. */
async function logOut({ port }: Node, session: number): Promise<void> {
  const now = Math.floor(Date.now() / 1000)
  const events = { [BACKCHANNEL_LOGOUT_EVENT]: {} }
  const claims = {
    iss: op.issuer,
    aud: 'notes',
    iat: now,
    exp: now + 120,
    jti: `j${session}`,
    sid: `s${session}`,
    events,
  }
  const answer = await fetch(`http://127.0.0.1:${port}/auth/backchannel-logout`, {
    method: 'POST',
    body: new URLSearchParams({ logout_token: await op.mint(claims) }),
  })
  expect([answer.status, answer.headers.get('logout-sessions-ended')]).toEqual([200, '1'])
}

/** A tab's stream, which has said something already. */
interface Tab {
  readonly session: number
  readonly heard: string[]
  /** Resolves when it was told that the RP session has ended. */
  readonly ended: Promise<void>
  cut(): void
}

async function openTab({ port }: Node, session: number): Promise<Tab> {
  const stream = await new Promise<IncomingMessage>((resolve, reject) => {
    const headers = { cookie: `__Host-lockstep-notes=${idOf(session)}` }
    get({ agent: false, host: '127.0.0.1', port, path: '/auth/session/events', headers }, resolve).on('error', reject)
  })
  const heard: string[] = []
  const [first, ended] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  stream.on('error', () => undefined) // cut by us
  stream.setEncoding('utf8').on('data', (text: string) => {
    for (const [, state = ''] of text.matchAll(/"state":"(\w+)"/g)) heard.push(state)
    first.resolve()
    if (heard.at(-1) === 'ended') ended.resolve()
  })
  cleanup.push(() => stream.destroy())
  await first.promise
  return { session, heard, ended: ended.promise, cut: () => stream.destroy() }
}

describe.each(kinds)('open tabs, with %s', (kind) => {
  it('that are 1,000 and idle: exactly those of the ended RP session hear of it, on both nodes, and only they read the store [T17, T18]', async () => {
    const { first, second } = await startNodes(kind)
    const nodes = [first, second]
    const sessions = 250
    await openSessions(first, sessions)
    const opening: Promise<Tab>[] = []
    for (let i = 0; i < sessions; i++) for (const node of [...nodes, ...nodes]) opening.push(openTab(node, i))
    const tabs = await Promise.all(opening)
    expect(tabs.map(({ heard }) => heard)).toEqual(tabs.map(() => ['alive']))

    const before = nodes.map((node) => node.reads())
    await logOut(first, 125)
    const family = tabs.filter(({ session }) => session === 125)
    await Promise.all(family.map(({ ended }) => ended))
    // One read for each tab that is told, whatever the number of others.
    expect(nodes.map((node, i) => node.reads() - (before[i] ?? 0))).toEqual([2, 2])
    expect(family).toHaveLength(4)
    expect(tabs.filter(({ heard }) => heard.includes('ended'))).toHaveLength(4)
  })

  it('that are cut off while the logout happens hear of it as soon as they are back, at whichever node [A65, T17]', async () => {
    const { first, second } = await startNodes(kind)
    await openSessions(first, 2)
    for (const tab of [await openTab(first, 0), await openTab(second, 0), await openTab(second, 1)]) {
      expect(tab.heard).toEqual(['alive'])
      tab.cut()
    }
    await logOut(first, 0)
    for (const node of [first, second]) expect((await openTab(node, 0)).heard).toEqual(['ended'])
    expect((await openTab(second, 1)).heard).toEqual(['alive'])
  })
})

describe.each(
  kinds.filter((kind) => kind !== 'memory'),
)('a node that has just lost its link to the others, with %s', (kind) => {
  it('tells its tabs of a logout that happens meanwhile [T17, T18]', async () => {
    const { first, second, breakHints } = await startNodes(kind)
    await openSessions(first, 2)
    const [tab, other] = [await openTab(second, 0), await openTab(second, 1)]
    await breakHints?.()
    await logOut(first, 0)
    await tab.ended
    expect(other.heard).toEqual(['alive'])
  })
})
