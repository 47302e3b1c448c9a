import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { OpIssuerStore, OpStore } from '../../../src/op/store/contract.ts'
import { openContext } from '../../../src/op/store/sqlite-context.ts'
import { sqliteStore } from '../../../src/op-sqlite.ts'
import { openSqlite, type Sqlite } from '../../../src/runtime/sqlite.ts'
import { issuer, loggedIn, opSession, testRuntime } from '../../../src/testing/op-store-bench.ts'

const runtime = testRuntime()
const rps = ['a', 'b', 'c'].map((name) => loggedIn(name))

let folder: string
let store: OpStore
let op: OpIssuerStore
/** A second connection to the same file, for looking and for sabotage. */
let file: Sqlite

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lockstep-atomic-'))
  store = sqliteStore(join(folder, 'op.db'))
  op = store.forIssuer(issuer, runtime)
  file = openSqlite(join(folder, 'op.db'))
  await op.saveOpSession(opSession(runtime, { rps }))
  for (const { grantId = '' } of rps) {
    await op.putModel({ kind: 'Grant', handle: grantId, payload: {}, grantId })
    await op.putModel({ kind: 'RefreshToken', handle: grantId, payload: {}, grantId })
  }
})

afterEach(async () => {
  file.close()
  await store.close()
  await rm(folder, { recursive: true })
})

/** Every row of every table, as text. */
function dump(): string {
  const tables = file
    .prepare<[], { name: string }>(
      `SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name`,
    )
    .all()
  return JSON.stringify(tables.map(({ name }) => [name, file.prepare(`SELECT * FROM ${name}`).all()]))
}

/** Makes the `nth` change of that kind in a table fail, as a full disk would. */
function sabotage(change: 'INSERT' | 'DELETE', table: string, nth: number): void {
  const sign = change === 'INSERT' ? '+' : '-'
  const before = file.prepare<[], { n: number }>(`SELECT count(*) AS n FROM ${table}`).get()?.n ?? 0
  file.exec(`CREATE TRIGGER sabotage BEFORE ${change} ON ${table}
    WHEN (SELECT count(*) FROM ${table}) = ${before} ${sign} ${nth - 1}
    BEGIN SELECT RAISE(ABORT, 'disk full'); END`)
}

describe('ending an OP session when the store fails in the middle', () => {
  // Every row the transaction touches: 1 uid, 1 handle and 3 grants become tombstones; 6 models, 3 RPs, 1 handle and 1
  // session go; 1 fact and 3 deliveries come.
  const steps: readonly (readonly ['INSERT' | 'DELETE', string, number])[] = [
    ['INSERT', 'tombstone', 5],
    ['DELETE', 'model', 6],
    ['DELETE', 'op_session_client', 3],
    ['DELETE', 'op_session_handle', 1],
    ['DELETE', 'op_session', 1],
    ['INSERT', 'logout', 1],
    ['INSERT', 'delivery', 3],
  ]
  const failures = steps.flatMap(([change, table, times]) =>
    Array.from({ length: times }, (_, i) => [change, table, i + 1] as const),
  )

  it.each(
    failures,
  )('changes nothing when %s on %s fails the %i. time, and succeeds when asked again', async (change, table, nth) => {
    const before = dump()
    sabotage(change, table, nth)
    await expect(op.endOpSession('uid-1', { cause: 'op_logout' }, (told) => told)).rejects.toMatchObject({
      code: 'store_failed',
      cause: expect.objectContaining({ message: 'disk full' }),
    })
    expect(dump()).toBe(before)
    file.exec('DROP TRIGGER sabotage')
    const ended = await op.endOpSession('uid-1', { cause: 'op_logout' }, (told) => told)
    expect(ended?.deliveries).toHaveLength(3)
  })

  it.each(steps)('touches no more rows by %s on %s than are failed above (%i)', async (change, table, times) => {
    sabotage(change, table, times + 1)
    expect(await op.endOpSession('uid-1', { cause: 'op_logout' }, (told) => told)).toBeDefined()
  })
})

describe('other methods when the store fails in the middle', () => {
  it('saves nothing of an OP session', async () => {
    const before = dump()
    sabotage('INSERT', 'op_session_client', 2)
    const write = opSession(runtime, {
      handle: 'handle-2',
      payload: { changed: true },
      rps: [loggedIn('d'), loggedIn('e')],
    })
    await expect(op.saveOpSession(write)).rejects.toMatchObject({ code: 'store_failed' })
    expect(dump()).toBe(before)
  })

  it('keeps a lease when the attempt cannot be written', async () => {
    await op.endOpSession('uid-1', { cause: 'op_logout' }, ([first]) => (first ? [first] : []))
    const [claimed] = await op.claimDue({ limit: 1, lease: 1000 })
    const before = dump()
    sabotage('INSERT', 'attempt', 1)
    const attempt = { startedAt: 1, finishedAt: 2, outcome: { state: 'delivered', status: 200 } } as const
    await expect(op.settle(claimed ?? expect.unreachable(), attempt)).rejects.toMatchObject({ code: 'store_failed' })
    expect(dump()).toBe(before)
    file.exec('DROP TRIGGER sabotage')
    expect(await op.settle(claimed ?? expect.unreachable(), attempt)).toBe(true)
  })
})

describe('the file', () => {
  it('waits for the disk with each commit, except where losing it costs one more attempt', () => {
    const synchronous = (): unknown => file.pragma('synchronous', { simple: true })
    const [normal, full] = [1, 2]
    const context = openContext(file, issuer, runtime, () => {})
    expect(context.write(synchronous)).toBe(full)
    expect(context.writeSoon(synchronous)).toBe(normal)
    expect(context.write(synchronous)).toBe(full)
    const failure = new Error('in the middle')
    expect(() =>
      context.writeSoon(() => {
        throw failure
      }),
    ).toThrow(failure)
    expect(context.write(synchronous)).toBe(full)
  })

  it('has one row per attempt', async () => {
    const ended = await op.endOpSession('uid-1', { cause: 'op_logout' }, ([first]) => (first ? [first] : []))
    for (const outcome of [
      { state: 'due', retryAt: runtime.now(), why: 'status', status: 503 },
      { state: 'due', retryAt: runtime.now(), why: 'released' },
      { state: 'delivered', status: 200 },
    ] as const) {
      const [claimed] = await op.claimDue({ limit: 1, lease: 1000 })
      await op.settle(claimed ?? expect.unreachable(), { startedAt: 10, finishedAt: 20, outcome })
    }
    expect(file.prepare('SELECT number, started_at, finished_at, outcome FROM attempt ORDER BY number').all()).toEqual([
      { number: 1, started_at: 10, finished_at: 20, outcome: expect.stringContaining('503') },
      { number: 2, started_at: 10, finished_at: 20, outcome: '{"state":"delivered","status":200}' },
    ])
    expect(ended?.deliveries).toHaveLength(1)
  })

  it('loses what has expired, a little at a time, and keeps the outbox', async () => {
    for (let i = 0; i < 450; i++) {
      await op.putModel({
        kind: 'Interaction',
        handle: `h${i}`,
        payload: {},
        expiresAt: Math.floor(runtime.now() / 1000) + 60,
      })
    }
    const elsewhere = rps.map(({ clientId }) => loggedIn(clientId, { grantId: `other ${clientId}` }))
    await op.saveOpSession(opSession(runtime, { uid: 'ended', handle: 'ended', rps: elsewhere }))
    await op.endOpSession('ended', { cause: 'op_logout' }, (told) => told)
    await op.claimLogin('never saved', { clientId: 'a', sid: 's', grantId: 'g' }, false)
    const count = (table: string): number =>
      file.prepare<[], { n: number }>(`SELECT count(*) AS n FROM ${table}`).get()?.n ?? Number.NaN

    runtime.pass(3 * 86_400_000)
    const turn = (): Promise<void> => op.deleteModel('Interaction', 'any')
    await turn()
    expect(count('model')).toBe(450 + 6 - 200)
    await turn()
    await turn()
    expect(count('model')).toBe(6) // what never expires
    await turn()
    for (const table of ['op_session', 'op_session_handle', 'op_session_client', 'op_session_pending', 'tombstone']) {
      expect([table, count(table)]).toEqual([table, 0])
    }
    expect(count('logout')).toBe(1)
    expect(count('delivery')).toBe(3)
  })

  it('is refused with one sentence when a newer Lockstep wrote it', async () => {
    file.pragma('user_version = 99')
    expect(() => sqliteStore(join(folder, 'op.db'))).toThrow(/schema 99.*newer Lockstep/)
  })

  it('is opened again without change', async () => {
    const before = dump()
    const again = sqliteStore(join(folder, 'op.db'))
    await again.close()
    expect(dump()).toBe(before)
  })
})
