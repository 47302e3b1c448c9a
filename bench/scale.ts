// What an operation of an RP store costs when 1,000, 100,000 and 1,000,000 RP sessions are in it:
//   node -C @lockstep/source bench/scale.ts redis|postgres|sqlite|memory [how many ...]
// Servers are private ones on loopback. One operation at a time, so a figure is latency, the network of loopback included.
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { cpus, loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import type { LogoutNotice, RpSessionStore, RpStore, StoredRpSession } from 'lockstep/rp'
import { memoryStore } from 'lockstep/rp/memory'
import { postgresStore } from 'lockstep/rp/postgres'
import { redisStore } from 'lockstep/rp/redis'
import { sqliteStore } from 'lockstep/rp/sqlite'
import { Client } from 'pg'
import { startPostgres } from '../test/support/postgres.ts'
import { startRedis } from '../test/support/redis.ts'

interface Place {
  readonly store: RpStore
  /** Adds RP sessions number `from` to `to`, faster than by logging in. */
  fill?(from: number, to: number): Promise<void>
  close(): Promise<void>
}

const places: Readonly<Record<string, () => Promise<Place>>> = {
  async memory() {
    const store = memoryStore()
    return { store, close: () => store.close() }
  },
  async sqlite() {
    const folder = await mkdtemp(join(tmpdir(), 'lockstep-bench-'))
    const store = sqliteStore(join(folder, 'app.db'))
    const close = async () => {
      await store.close()
      await rm(folder, { recursive: true })
    }
    return { store, close }
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
          '{}', NULL, repeat('x', 500), NULL, NULL FROM generate_series(${from}, ${to - 1}) AS i`)
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

const runs = 400
const now = (): number => Math.floor(Date.now() / 1000)

function sessionOf(name: string): StoredRpSession {
  const at = now()
  return {
    handle: `handle ${name}`,
    publicId: `public ${name}`,
    sub: `sub ${name}`,
    sid: `sid ${name}`,
    firstIat: at,
    createdAt: at,
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
  }
}

async function fillByLogins(rp: RpSessionStore, from: number, to: number): Promise<void> {
  const requestedAt = await rp.now()
  for (let i = from; i < to; i += 100) {
    const batch = Array.from({ length: Math.min(100, to - i) }, (_, k) => sessionOf(String(i + k)))
    await Promise.all(batch.map((session) => rp.create(session, { requestedAt })))
  }
}

/** The median of the operation, in microseconds. */
async function medianOf(operation: (run: number) => Promise<unknown>): Promise<number> {
  const times: number[] = []
  for (let run = 0; run < runs; run++) {
    const start = process.hrtime.bigint()
    await operation(run)
    times.push(Number(process.hrtime.bigint() - start) / 1000)
  }
  return Math.round(times.sort((a, b) => a - b)[runs / 2] ?? Number.NaN)
}

const [kind = '', ...wanted] = process.argv.slice(2)
const open = places[kind]
const sizes = wanted.length > 0 ? wanted.map(Number) : [1_000, 100_000, 1_000_000]
if (!open || sizes.some((size) => !(size >= runs * 3))) {
  console.error(`Usage: bench/scale.ts ${Object.keys(places).join('|')} [how many, from ${runs * 3} on ...]`)
  process.exit(2)
}
const place = await open()
const rp = place.store.forClient({ issuer: 'https://op.example', clientId: 'app' }, { now: () => Date.now() })
await rp.create(sessionOf('first'), { requestedAt: await rp.now() })
const rows: Record<string, Record<string, number>> = {}
let filled = 0
for (const size of sizes) {
  const fill = place.fill ?? ((from, to) => fillByLogins(rp, from, to))
  await fill(filled, size)
  filled = size
  const pick = (run: number): number => Math.floor((size / runs) * run)
  const requestedAt = await rp.now()
  const fresh = (run: number): StoredRpSession => sessionOf(`${size} ${run}`)
  rows[`${size} RP sessions`] = {
    'find, us': await medianOf((run) => rp.get(`handle ${pick(run)}`)),
    'log in, us': await medianOf((run) => rp.create(fresh(run), { requestedAt })),
    'end by sid, us': await medianOf((run) => rp.endBy({ sid: `sid ${size} ${run}` }, notice())),
    'end by sub, us': await medianOf((run) => rp.endBy({ sub: `sub ${pick(run)}` }, notice())),
  }
}
console.log(`${kind}, ${new Date().toISOString()}, Node ${process.version}, ${cpus().length} x ${cpus()[0]?.model}`)
console.log(`load ${loadavg()[0]?.toFixed(1)}; medians of ${runs}`)
console.table(rows)
await place.close()
