import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Client } from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { DeliveryFilter, OpIssuerStore } from '../../../src/op/store/contract.ts'
import * as postgresParts from '../../../src/op/store/postgres-context.ts'
import { postgresDeliveries } from '../../../src/op/store/postgres-deliveries.ts'
import { postgresGiveUp } from '../../../src/op/store/postgres-give-up.ts'
import { postgresHasten } from '../../../src/op/store/postgres-hasten.ts'
import { postgresOutbox } from '../../../src/op/store/postgres-outbox.ts'
import { migrate as migratePostgres } from '../../../src/op/store/postgres-schema.ts'
import { openContext } from '../../../src/op/store/sqlite-context.ts'
import { sqliteDeliveries } from '../../../src/op/store/sqlite-deliveries.ts'
import { sqliteGiveUp } from '../../../src/op/store/sqlite-give-up.ts'
import { sqliteHasten } from '../../../src/op/store/sqlite-hasten.ts'
import { sqliteOutbox } from '../../../src/op/store/sqlite-outbox.ts'
import { migrate } from '../../../src/op/store/sqlite-schema.ts'
import { openPostgres, type Queries, type Statement, type Value } from '../../../src/runtime/postgres.ts'
import { resolvePostgresOptions } from '../../../src/runtime/postgres-connection.ts'
import { openSqlite, type Sqlite } from '../../../src/runtime/sqlite.ts'
import { issuer, testRuntime } from '../../../src/testing/op-store-bench.ts'
import { hasPostgres, startPostgres, type TestPostgres } from '../../support/postgres.ts'

// The databases themselves say how they find rows: no statement about deliveries looks through all of them.

const runtime = testRuntime()
type Parts = Pick<
  OpIssuerStore,
  | 'claimDue'
  | 'claimEarly'
  | 'nextDueAt'
  | 'settle'
  | 'hasten'
  | 'giveUp'
  | 'listDeliveries'
  | 'retryDeliveries'
  | 'rescheduleDeliveries'
  | 'dropDeliveries'
  | 'countDeliveries'
>

const filters: readonly DeliveryFilter[] = [
  {},
  ...(['due', 'in-flight', 'refused', 'dead', 'dropped', 'delivered'] as const).flatMap((state) => [
    { state },
    { state, clientId: 'down' },
    { state, since: runtime.now() },
    { state, clientId: 'down', until: runtime.now() },
  ]),
  { clientId: 'down' },
  { since: runtime.now() },
  { accountId: 'ada' },
  { accountId: 'ada', state: 'due' },
  { logoutId: 'one' },
  { deliveryId: 'd1' },
  { deliveryId: 'd1', state: 'dead' },
]

/** What the worker does all day. */
async function work(op: Parts): Promise<void> {
  const [claimed] = await op.claimDue({ limit: 1, lease: 1000 })
  const outcome = { state: 'delivered', status: 200 } as const
  if (claimed) await op.settle(claimed, { dueAt: 1, startedAt: 1, finishedAt: 2, outcome })
  await op.claimDue({ limit: 100, lease: 1000, room: () => 0 })
  await op.claimEarly({ clientId: 'down' }, 1000)
  await op.nextDueAt()
  await op.giveUp('down', 0)
  await op.hasten({ clientId: 'down' }, 10)
  await op.countDeliveries(10)
}

/** What an operator may do by a filter. */
async function operate(op: Parts, filter: DeliveryFilter): Promise<void> {
  await op.listDeliveries(filter, { limit: 10 })
  if (filter.state === 'in-flight' || filter.state === 'delivered') return
  await op.retryDeliveries(filter, 1)
  if (filter.state !== 'due') await op.rescheduleDeliveries(filter, 1)
  if (filter.state !== 'dropped') await op.dropDeliveries(filter, 'root', 1)
}

describe('in SQLite', () => {
  let folder: string
  let db: Sqlite
  let op: Parts
  const seen = new Set<string>()
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'lockstep-walks-'))
    db = openSqlite(join(folder, 'op.db'))
    migrate(db)
    const prepare = db.prepare.bind(db)
    db.prepare = (sql: string) => {
      seen.add(sql)
      return prepare(sql)
    }
    const context = openContext(db, issuer, runtime, () => {})
    op = {
      ...sqliteOutbox(context),
      ...sqliteDeliveries(context),
      ...sqliteGiveUp(context),
      ...sqliteHasten(context),
    }
  })
  afterAll(async () => {
    db.close()
    await rm(folder, { recursive: true })
  })

  /** How SQLite finds the rows of what was prepared since. */
  function plans(): { sql: string; plan: string }[] {
    const found = [...seen].map((sql) => {
      const steps = db.prepare<[], { detail: string }>(`EXPLAIN QUERY PLAN ${sql.replaceAll(/\?|@\w+/g, '1')}`).all()
      return { sql, plan: steps.map(({ detail }) => detail).join('; ') }
    })
    seen.clear()
    return found
  }

  it('the worker steps through indexes', async () => {
    await work(op)
    const found = plans()
    expect(found.length).toBeGreaterThan(10)
    for (const { sql, plan } of found) expect(plan, sql).not.toMatch(/SCAN (d|l|delivery|logout|attempt)\b/)
    const turns = found.filter(({ sql }) => /ORDER BY (d\.|client_id, )due_at/.test(sql))
    expect(turns.length).toBeGreaterThan(3)
    for (const { sql, plan } of turns) {
      if (!sql.includes('d.id = ?')) expect(plan, sql).toMatch(/delivery_owed \(issuer=\? AND .*client_id/)
      if (!sql.includes('d.id = ?')) expect(plan, sql).not.toContain('TEMP B-TREE')
    }
  })

  it.each(filters)('an operator who names %j has the rows found by an index', async (filter) => {
    await operate(op, filter)
    const found = plans()
    expect(found.length).toBeGreaterThan(0)
    for (const { sql, plan } of found) expect(plan, sql).not.toMatch(/SCAN (d|l|delivery|logout|attempt)\b/)
  })

  it.each<[DeliveryFilter, RegExp]>([
    [{ state: 'due' }, /delivery_by_state \(issuer=\? AND state=\?/],
    [{ state: 'dead' }, /delivery_by_state \(issuer=\? AND state=\?/],
    [{ state: 'dead', since: 1 }, /delivery_by_state \(issuer=\? AND state=\?/],
    [{ state: 'due', clientId: 'down' }, /delivery_waiting \(issuer=\? AND client_id=\?/],
    [{ state: 'in-flight', clientId: 'down' }, /delivery_by_state \(issuer=\? AND state=\?/],
    [{ state: 'dead', clientId: 'down' }, /delivery_failed \(issuer=\? AND client_id=\? AND state=\?/],
    [{ accountId: 'ada', state: 'due' }, /logout_by_account \(issuer=\? AND account_id=\?/],
    [{ logoutId: 'one' }, /SEARCH l .*\(issuer=\? AND id=\?/],
    [{ deliveryId: 'one' }, /\(issuer=\? AND id=\?/],
  ])('%j goes by the index that is made for it, and sorts nothing that is long', async (filter, index) => {
    await operate(op, filter)
    const found = plans().filter(({ plan }) => plan.includes('SEARCH d '))
    expect(found.length).toBeGreaterThan(0)
    for (const { sql, plan } of found.filter(({ sql }) => sql.includes('ORDER BY'))) {
      const isOfOne = filter.logoutId ?? filter.accountId ?? filter.deliveryId
      if (filter.state !== undefined || !sql.startsWith('UPDATE')) expect(plan, sql).toMatch(index)
      if (isOfOne === undefined) expect(plan, sql).not.toContain('TEMP B-TREE')
    }
  })

  it.each<DeliveryFilter>([
    { state: 'dead', since: runtime.now() },
    { state: 'due', until: runtime.now() },
    { state: 'dead', clientId: 'down', since: runtime.now() },
  ])('%j is acted on without a look at what is older or younger', async (filter) => {
    await operate(op, filter)
    const acts = plans().filter(({ sql }) => sql.startsWith('UPDATE'))
    expect(acts.length).toBeGreaterThan(1)
    for (const { sql, plan } of acts) expect(plan, sql).toMatch(/delivery_\w+ \(.*seq>\? AND seq<\?\)/)
  })
})

describe.skipIf(!hasPostgres)('in PostgreSQL, of 60,000 deliveries', () => {
  let postgres: TestPostgres
  let admin: Client
  let op: Parts
  const seen = new Map<string, readonly Value[]>()
  const close: (() => Promise<unknown>)[] = []
  beforeAll(async () => {
    postgres = await startPostgres()
    close.push(() => postgres.close())
    const { connectionString } = postgres
    const resolved = resolvePostgresOptions({ connectionString }, 'lockstep_op')
    const real = openPostgres(resolved)
    close.push(() => real.close())
    const noting = <Of extends Queries>(queries: Of): Of => {
      const note =
        (how: 'all' | 'first' | 'change') =>
        (what: Statement<never>, ...values: Value[]) => {
          seen.set(what.text, values)
          return queries[how](what, ...values)
        }
      return { ...queries, all: note('all'), first: note('first'), change: note('change') }
    }
    const db: typeof real = {
      ...noting(real),
      transaction: (work, options) => real.transaction((queries) => work(noting(queries)), options),
    }
    const ready = () => migratePostgres(real, resolved)
    const context = postgresParts.openContext({ db, ready, clock: runtime.now }, issuer, runtime, async () => {})
    op = {
      ...postgresOutbox(context, async () => {}),
      ...postgresDeliveries(context),
      ...postgresGiveUp(context),
      ...postgresHasten(context),
    }
    await op.nextDueAt() // makes the tables
    admin = new Client({ connectionString })
    await admin.connect()
    close.push(() => admin.end())
    await admin.query('SET search_path = lockstep_op')
    await admin.query(`
      INSERT INTO logout (issuer, id, uid, account_id, cause, ended_at)
        SELECT 1, 'l' || i, 'u' || i, 'a' || i, 'admin', ${runtime.now()} FROM generate_series(1, 3000) AS i;
      INSERT INTO delivery (issuer, id, logout, client_id, sid, state, created_at, due_at, final_at)
        SELECT 1, 'd' || i, 1 + i % 3000, CASE WHEN i % 2000 = 0 THEN 'down' ELSE 'c' || i % 50 END, 's',
          CASE WHEN i % 30 = 0 THEN 'due' WHEN i % 100 = 1 THEN 'dead' ELSE 'delivered' END, ${runtime.now()},
          CASE WHEN i % 30 = 0 THEN ${runtime.now()} + i END, CASE WHEN i % 30 <> 0 THEN ${runtime.now()} END
        FROM generate_series(1, 60000) AS i;
      ANALYZE`)
  }, 60_000)
  afterAll(async () => {
    for (const each of close.splice(0).reverse()) await each()
  })

  async function plans(): Promise<{ sql: string; plan: string }[]> {
    const found: { sql: string; plan: string }[] = []
    for (const [sql, values] of seen) {
      const { rows } = await admin.query<{ 'QUERY PLAN': string }>(`EXPLAIN ${sql}`, [...values])
      found.push({ sql, plan: rows.map((row) => row['QUERY PLAN']).join('\n') })
    }
    seen.clear()
    return found
  }

  it('the worker steps through indexes', async () => {
    await work(op)
    const found = await plans()
    expect(found.length).toBeGreaterThan(5)
    for (const { sql, plan } of found) expect(plan, sql).not.toMatch(/Seq Scan on (delivery|logout|attempt)\b/)
  })

  it.each(filters)('an operator who names %j has the rows found by an index', async (filter) => {
    await operate(op, filter)
    const found = await plans()
    expect(found.length).toBeGreaterThan(0)
    for (const { sql, plan } of found) expect(plan, sql).not.toMatch(/Seq Scan on (delivery|attempt)\b/)
  })

  it('what is older than asked for is not looked at', async () => {
    await op.retryDeliveries({ state: 'dead', since: runtime.now() + 3 * 3_600_000 }, 1)
    const acts = (await plans()).filter(({ sql }) => sql.includes('UPDATE delivery'))
    expect(acts.length).toBe(1)
    for (const { sql, plan } of acts) expect(plan, sql).toMatch(/Index Cond: .*\(seq >= /)
  })
})
