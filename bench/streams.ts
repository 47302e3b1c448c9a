/* How soon the tabs of an RP session that was logged out hear of it, when very many other tabs are open, on two nodes: each node,
   each half of the tabs, the OP with the load and the store are processes of their own. */
import { loadavg } from 'node:os'
import { setTimeout as wait } from 'node:timers/promises'
import { Client } from 'pg'
import { request } from 'undici'
import { startPostgres } from '../test/support/postgres.ts'
import { startRedis } from '../test/support/redis.ts'
import { type Asked, startAsked } from './asked-process.ts'
import { type OpForRps, startOpForRps } from './op-for-rps.ts'
import { type BenchOptions, type Figure, quantile, type Report, reportOf } from './report.ts'
import type { NodeOrder, NodeSettings, Spent } from './stream-node.ts'
import type { Heard, TabsOrder } from './stream-tabs.ts'

interface Size {
  readonly tabs: number
  readonly logouts: number
  /** Milliseconds in which nothing happens. */
  readonly idle: number
}

/** A store that two nodes share, and a way to break the connections by which it tells them. */
interface SharedStore {
  readonly kind: 'redis' | 'postgres'
  readonly settings: Pick<NodeSettings, 'redis' | 'postgres'>
  breakHints(): Promise<void>
  close(): Promise<void>
}

const NODES = 2
/** Tabs of one RP session at each node. */
const SIBLINGS = 2
/** Milliseconds within which a tab must hear. */
const GOAL = 1_000

async function sharedRedis(): Promise<SharedStore> {
  const redis = await startRedis()
  return {
    kind: 'redis',
    settings: { redis: redis.port, postgres: null },
    breakHints: async () => void (await redis.command('CLIENT', 'KILL', 'TYPE', 'pubsub')),
    close: () => redis.close(),
  }
}

async function sharedPostgres(): Promise<SharedStore> {
  const postgres = await startPostgres()
  const admin = new Client({ connectionString: postgres.connectionString })
  await admin.connect()
  return {
    kind: 'postgres',
    settings: { redis: null, postgres: postgres.connectionString },
    breakHints: async () =>
      void (await admin.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ILIKE 'LISTEN %' AND pid <> pg_backend_pid()",
      )),
    async close() {
      await admin.end()
      await postgres.close()
    },
  }
}

export async function streams({ short }: BenchOptions): Promise<Report> {
  const loadBefore = loadavg()[0] ?? 0
  const size: Size = short ? { tabs: 80, logouts: 3, idle: 100 } : { tabs: 10_000, logouts: 50, idle: 60_000 }
  const figures: Figure[] = []
  for (const start of [sharedRedis, sharedPostgres]) figures.push(...(await figuresOf(await start(), size)))
  return reportOf('streams', figures, loadBefore)
}

async function figuresOf(store: SharedStore, { tabs, logouts, idle }: Size): Promise<Figure[]> {
  const op = await startOpForRps()
  const stage = await setUp(store, op, tabs)
  const { nodes, pages, openAll } = stage
  try {
    const spent = async (): Promise<Spent[]> => Promise.all(nodes.map((node) => node.ask('spent') as Promise<Spent>))
    const before = await spent()
    await wait(idle)
    const cpu = (await spent()).map((now, i) => ((now.cpu - (before[i]?.cpu ?? 0)) / idle) * 100)

    const delays: number[] = []
    for (let i = 0; i < logouts; i++) delays.push((await stage.logOut(i)).delay)
    await expectEnded(pages, logouts)

    await Promise.all(pages.map((page) => page.ask({ cut: true })))
    await stage.post(logouts) // while nobody listens
    const startedAt = performance.now()
    await openAll()
    const reopened = performance.now() - startedAt
    const { afterOpening } = await stage.heard(logouts)

    await store.breakHints()
    const broken = await stage.logOut(logouts + 1)
    await expectEnded(pages, logouts + 2)

    const id = (what: string): string => `${store.kind}, ${tabs.toLocaleString('en')} tabs: ${what}`
    return [
      figure(id('the last tab hears, median'), 'ms', quantile(delays, 0.5)),
      figure(id('the last tab hears, slowest logout'), 'ms', Math.max(...delays), GOAL),
      figure(id('all tabs come back at once'), 'ms', reopened),
      figure(id('a logout in between, from its tab’s request'), 'ms', afterOpening, GOAL),
      figure(id('the last tab hears, hints just broken'), 'ms', broken.delay, GOAL),
      figure(id('CPU of a node while nothing happens'), '% of a core', Math.max(...cpu)),
    ]
  } finally {
    await Promise.all([...pages, ...nodes].map((one) => one.stop()))
    await Promise.all([op.close(), store.close()])
  }
}

function figure(id: string, unit: string, ours: number, goal: number | null = null): Figure {
  const none = { peer: null, limit: null, ratioToPeer: null, ratioToLimit: null, spread: null }
  return { id, unit, ours, ...none, goal, met: goal === null ? null : ours <= goal }
}

/** Starts the nodes and the pages, and opens every tab. */
async function setUp(store: SharedStore, op: OpForRps, tabs: number) {
  const sessions = tabs / NODES / SIBLINGS
  const settings = JSON.stringify({ issuer: op.issuer, ...store.settings } satisfies NodeSettings)
  const nodes: Asked<NodeOrder>[] = []
  for (let i = 0; i < NODES; i++) nodes.push(await startAsked<NodeOrder>('stream-node.ts', [settings]))
  await nodes[0]?.ask({ open: [0, sessions] })
  const ports = nodes.map(({ greeting }) => greeting)
  const pages: Asked<TabsOrder>[] = []
  for (let i = 0; i < 2; i++) {
    pages.push(await startAsked<TabsOrder>('stream-tabs.ts', [JSON.stringify({ ports, siblings: SIBLINGS })]))
  }
  const half = Math.ceil(sessions / pages.length)
  const openAll = async (): Promise<void> => {
    await Promise.all(pages.map((page, i) => page.ask({ open: [i * half, Math.min(sessions, (i + 1) * half)] })))
  }
  await openAll()

  // Spread over all of them, on both pages.
  const sessionOf = (logout: number): number => (logout * 97) % sessions
  async function post(logout: number): Promise<void> {
    const logout_token = await op.logoutToken(`sid ${sessionOf(logout)}`, 'RS256')
    const body = `${new URLSearchParams({ logout_token })}`
    const headers = { 'content-type': 'application/x-www-form-urlencoded' }
    const answer = await request(`http://127.0.0.1:${ports[0]}/auth/backchannel-logout`, {
      method: 'POST',
      headers,
      body,
    })
    const text = await answer.body.text()
    if (answer.statusCode !== 200 || answer.headers['logout-sessions-ended'] !== '1') {
      throw new Error(`a logout was answered ${answer.statusCode}: ${text}`)
    }
  }
  const heard = async (logout: number): Promise<Heard> => {
    const session = sessionOf(logout)
    return (await pages[Math.floor(session / half)]?.ask({ heard: session })) as Heard
  }
  async function logOut(logout: number): Promise<{ delay: number }> {
    const startedAt = performance.timeOrigin + performance.now()
    const [{ at }] = await Promise.all([heard(logout), post(logout)])
    return { delay: at - startedAt }
  }
  return { nodes, pages, openAll, post, heard, logOut }
}

/** Says that only tabs of the RP sessions that were logged out have been told so. */
async function expectEnded(pages: readonly Asked<TabsOrder>[], count: number): Promise<void> {
  const ended = (await Promise.all(pages.map((page) => page.ask({ ended: true })))) as number[][]
  if (ended.flat().length !== count) {
    throw new Error(`tabs of ${ended.flat().length} RP sessions were signed out, where ${count} were logged out`)
  }
}
