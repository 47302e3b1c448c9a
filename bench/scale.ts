/* What an operation of an RP store costs with ever more RP sessions in it: one at a time, so a figure is latency, the network of
   loopback included. Servers are private ones. */
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import Sqlite from 'better-sqlite3'
import type { LogoutNotice, RpSessionStore, RpStore, StoredRpSession } from 'lockstep/rp'
import { memoryStore } from 'lockstep/rp/memory'
import { postgresStore } from 'lockstep/rp/postgres'
import { redisStore } from 'lockstep/rp/redis'
import { sqliteStore } from 'lockstep/rp/sqlite'
import { Client } from 'pg'
import { startPostgres } from '../test/support/postgres.ts'
import { startRedis } from '../test/support/redis.ts'
import { type BenchOptions, type Figure, quantile, type Report, reportOf } from './report.ts'

export type StoreKind = 'memory' | 'sqlite' | 'postgres' | 'redis'

interface Place {
  readonly store: RpStore
  /** Adds RP sessions number `from` to `to`, faster than by logging in. */
  fill?(from: number, to: number): Promise<void>
  close(): Promise<void>
}

const places: Readonly<Record<StoreKind, () => Promise<Place>>> = {
  async memory() {
    const store = memoryStore()
    return { store, close: () => store.close() }
  },
  async sqlite() {
    const folder = await mkdtemp(join(tmpdir(), 'lockstep-bench-'))
    const file = join(folder, 'app.db')
    const store = sqliteStore(file)
    return {
      store,
      async fill(from, to) {
        const db = new Sqlite(file)
        const at = now()
        const insert =
          db.prepare(`WITH RECURSIVE number(value) AS (SELECT ? UNION ALL SELECT value + 1 FROM number WHERE value < ?)
          INSERT INTO rp_session SELECT (SELECT min(id) FROM rp_client), 'handle ' || value,
          'public ' || value, 'sub ' || value, 'sid ' || value, ${at}, ${at}, ${at + 3600}, ${at + 86_400},
          '{}', NULL, hex(zeroblob(250)), NULL, NULL, 0, ${at * 1000}, NULL FROM number`)
        insert.run(from, to - 1)
        db.close()
      },
      async close() {
        await store.close()
        await rm(folder, { recursive: true })
      },
    }
  },
  async redis() {
    const redis = await startRedis(['appendonly yes', 'appendfsync everysec'])
    const store = redisStore({ host: '127.0.0.1', port: redis.port })
    const close = async () => {
      await store.close()
      await redis.close()
    }
    return { store, close }
  },
  async postgres() {
    const postgres = await startPostgres()
    const { connectionString } = postgres
    const store = postgresStore({ connectionString })
    const admin = new Client({ connectionString, options: '-c search_path=lockstep_rp' })
    await admin.connect()
    const key = (name: string) =>
      `translate(encode(sha256(convert_to('${name} ' || i, 'UTF8')), 'base64'), '+/=', '-_')`
    return {
      store,
      async fill(from, to) {
        await admin.query(`INSERT INTO rp_session SELECT (SELECT min(id) FROM rp_client), 'handle ' || i, 'public ' || i,
          'sub ' || i, ${key('sub')}, 'sid ' || i, ${key('sid')}, ${now()}, ${now()}, ${now() + 3600}, ${now() + 86_400},
          '{}', NULL, repeat('x', 500), NULL, NULL, ${now() * 1000} FROM generate_series(${from}, ${to - 1}) AS i`)
        await admin.query('VACUUM ANALYZE')
      },
      async close() {
        await store.close()
        await admin.end()
        await postgres.close()
      },
    }
  },
}

const RUNS = 400
/** A thousand times as many RP sessions may cost a logout this many times as much: an index grows by a level or two. */
const FLAT = 2

const now = (): number => Math.floor(Date.now() / 1000)

function sessionOf(name: string, requestedAt: number): StoredRpSession {
  const at = now()
  return {
    handle: `handle ${name}`,
    publicId: `public ${name}`,
    sub: `sub ${name}`,
    sid: `sid ${name}`,
    firstIat: at,
    createdAt: at,
    requestedAt,
    idleExpiresAt: at + 3600,
    expiresAt: at + 86_400,
    data: '{}',
    tokens: 'x'.repeat(500),
  }
}

function notice(): LogoutNotice {
  return {
    jti: randomBytes(16).toString('hex'),
    jtiExpiresAt: now() + 180,
    watermark: now(),
    watermarkExpiresAt: now() + 86_400,
    end: { cause: 'logout_token', at: now() },
    revokeOffline: false,
    sidReused: false,
  }
}

async function fillByLogins(rp: RpSessionStore, from: number, to: number): Promise<void> {
  const requestedAt = await rp.now()
  const atOnce = 200 // on a busy machine more would not be answered within a store's own time limit
  for (let i = from; i < to; i += atOnce) {
    const batch = Array.from({ length: Math.min(atOnce, to - i) }, (_, k) => sessionOf(String(i + k), requestedAt))
    await Promise.all(batch.map((session) => rp.create(session)))
  }
}

/** The median of the operation, in microseconds. */
async function medianOf(operation: (run: number) => Promise<unknown>): Promise<number> {
  const times: number[] = []
  for (let run = 0; run < RUNS; run++) {
    const start = process.hrtime.bigint()
    await operation(run)
    times.push(Number(process.hrtime.bigint() - start) / 1000)
  }
  return quantile(times, 0.5)
}

type Costs = Readonly<Record<'find' | 'log in' | 'end by sid' | 'end by sub', number>>

/** Fills a store step by step and measures at each size. */
async function costsOf(kind: StoreKind, sizes: readonly number[]): Promise<Costs[]> {
  const place = await places[kind]()
  try {
    const rp = place.store.forClient({ issuer: 'https://op.example', clientId: 'app' }, { now: () => Date.now() })
    await rp.create(sessionOf('first', await rp.now()))
    const fill = place.fill ?? ((from, to) => fillByLogins(rp, from, to))
    const found: Costs[] = []
    let filled = 0
    for (const size of sizes) {
      await fill(filled, size)
      filled = size
      const pick = (run: number): number => Math.floor((size / RUNS) * run)
      const requestedAt = await rp.now()
      const fresh = (run: number): StoredRpSession => sessionOf(`${size} ${run}`, requestedAt)
      found.push({
        find: await medianOf((run) => rp.get(`handle ${pick(run)}`)),
        'log in': await medianOf((run) => rp.create(fresh(run))),
        'end by sid': await medianOf((run) => rp.endBy({ sid: `sid ${size} ${run}` }, notice())),
        'end by sub': await medianOf((run) => rp.endBy({ sub: `sub ${pick(run)}` }, notice())),
      })
    }
    return found
  } finally {
    await place.close()
  }
}

/** How a store's costs at each size compare with those at the first; flat is the goal of what a logout and a request cost. */
export async function scaleFigures(
  kind: StoreKind,
  sizes: readonly number[],
  operations: readonly (keyof Costs)[] = ['find', 'log in', 'end by sid', 'end by sub'],
): Promise<Figure[]> {
  const costs = await costsOf(kind, sizes)
  return operations.flatMap((operation) =>
    sizes.map((size, index) => {
      const [ours, limit] = [costs[index]?.[operation] ?? Number.NaN, costs[0]?.[operation] ?? Number.NaN]
      const goal = index > 0 ? FLAT : null
      const met = goal === null ? null : ours / limit <= goal
      const id = `${kind}: ${operation}, ${size.toLocaleString('en')} RP sessions`
      const ratios = { ratioToPeer: null, ratioToLimit: ours / limit, spread: null }
      return { id, unit: 'us', ours, peer: null, limit, ...ratios, goal, met }
    }),
  )
}

/** Every store at a thousand, a hundred thousand and a million RP sessions; the limit of a figure is that of the first size. */
export async function scale({ short }: BenchOptions): Promise<Report> {
  const loadBefore = loadavg()[0] ?? 0
  const figures: Figure[] = []
  for (const kind of ['memory', 'sqlite', 'redis', 'postgres'] as const) {
    figures.push(...(await scaleFigures(kind, sizesOf(short))))
  }
  return reportOf('scale', figures, loadBefore)
}

export const sizesOf = (short: boolean): readonly number[] => (short ? [500, 1_000] : [1_000, 100_000, 1_000_000])
