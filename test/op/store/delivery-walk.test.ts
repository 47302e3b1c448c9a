import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Client } from 'pg'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { DeliveryFilter, OpIssuerStore } from '../../../src/op/store/contract.ts'
import { mostWalked } from '../../../src/op/store/delivery-filter.ts'
import { postgresStore } from '../../../src/op-postgres.ts'
import { sqliteStore } from '../../../src/op-sqlite.ts'
import { openSqlite, type Sqlite } from '../../../src/runtime/sqlite.ts'
import { issuer, owe, testRuntime } from '../../../src/testing/op-store-bench.ts'
import { hasPostgres, startPostgres, type TestPostgres } from '../../support/postgres.ts'

// Lists over more rows than one part looks through.

const runtime = testRuntime()
const hour = 3_600_000
const many = 2 * mostWalked + 100

/** All parts of a list: how many rows each had, and what was found. */
async function walk(op: OpIssuerStore, filter: DeliveryFilter): Promise<{ parts: number[]; uids: string[] }> {
  const parts: number[] = []
  const uids: string[] = []
  for (let cursor: string | undefined, isFirst = true; isFirst || cursor !== undefined; isFirst = false) {
    const page = await op.listDeliveries(filter, { limit: 50, ...(cursor !== undefined && { cursor }) })
    parts.push(page.deliveries.length)
    uids.push(...page.deliveries.map(({ logout }) => logout.uid))
    cursor = page.cursor
  }
  return { parts, uids }
}

/** What both stores do with one rare client far down. */
async function lookForRare(op: OpIssuerStore, fill: () => Promise<void>): Promise<void> {
  const start = runtime.now()
  await owe({ op, runtime }, 'old', ['rare'])
  runtime.pass(3 * hour)
  await fill()
  await owe({ op, runtime }, 'new', ['rare'])
  expect(await walk(op, { clientId: 'rare' })).toEqual({ parts: [1, 0, 1], uids: ['new', 'old'] })
  expect(await walk(op, { clientId: 'rare', state: 'due' })).toEqual({ parts: [2], uids: ['new', 'old'] })
  expect(await walk(op, { accountId: 'alice', clientId: 'rare' })).toEqual({ parts: [2], uids: ['new', 'old'] })
  // what is older than `since` is not walked through
  expect(await walk(op, { clientId: 'rare', since: start + 3 * hour })).toEqual({ parts: [1, 0, 0], uids: ['new'] })
  const lately = { clientId: 'rare', state: 'due', since: start + 3 * hour } as const
  expect(await walk(op, lately)).toEqual({ parts: [1, 0, 0], uids: ['new'] })
  runtime.pass(3 * hour)
  expect(await walk(op, { clientId: 'rare', since: runtime.now() })).toEqual({ parts: [0], uids: [] })
}

describe('in SQLite', () => {
  let folder: string
  let file: string
  let db: Sqlite
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'lockstep-walk-'))
    file = join(folder, 'op.db')
  })
  afterEach(async () => {
    db.close()
    await rm(folder, { recursive: true })
  })

  it('a part of a list looks through so many rows and no more', async () => {
    const store = sqliteStore(file)
    db = openSqlite(file)
    const op = store.forIssuer(issuer, runtime)
    await lookForRare(op, async () => {
      db.prepare(`INSERT INTO logout (issuer, id, uid, account_id, cause, ended_at)
        VALUES (1, 'much', 'much', 'bob', 'admin', ?)`).run(runtime.now())
      db.prepare(`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
        INSERT INTO delivery (issuer, id, logout, client_id, sid, state, created_at, final_at)
        SELECT 1, 'd' || i, (SELECT cursor FROM logout WHERE id = 'much'), 'usual', 's', 'delivered', ?, ? FROM n`).run(
        many,
        runtime.now(),
        runtime.now(),
      )
    })
    await store.close()
  })
})

describe.skipIf(!hasPostgres)('in PostgreSQL', () => {
  let postgres: TestPostgres
  beforeAll(async () => {
    postgres = await startPostgres()
  }, 60_000)
  afterAll(() => postgres?.close())

  it('a part of a list looks through so many rows and no more', async () => {
    const { connectionString } = postgres
    const store = postgresStore({ connectionString, clock: runtime.now })
    const op = store.forIssuer(issuer, runtime)
    await lookForRare(op, async () => {
      const admin = new Client({ connectionString })
      await admin.connect()
      await admin.query(`SET search_path = lockstep_op`)
      await admin.query(
        `INSERT INTO logout (issuer, id, uid, account_id, cause, ended_at)
         VALUES (1, 'much', 'much', 'bob', 'admin', ${runtime.now()})`,
      )
      await admin.query(
        `INSERT INTO delivery (issuer, id, logout, client_id, sid, state, created_at, final_at)
         SELECT 1, 'd' || i, (SELECT cursor FROM logout WHERE id = 'much'), 'usual', 's', 'delivered',
           ${runtime.now()}, ${runtime.now()} FROM generate_series(1, ${many}) AS i`,
      )
      await admin.end()
    })
    await store.close()
  })
})
