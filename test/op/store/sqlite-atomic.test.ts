import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { OpIssuerStore, OpStore, PlannedDelivery } from '../../../src/op/store/contract.ts'
import { openContext } from '../../../src/op/store/sqlite-context.ts'
import { sqliteOutbox } from '../../../src/op/store/sqlite-outbox.ts'
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

type Step = readonly ['INSERT' | 'DELETE', string, number]

/** Each of the changes by itself, counted from 1. */
function each(steps: readonly Step[]): Step[] {
  return steps.flatMap(([change, table, times]) =>
    Array.from({ length: times }, (_, i) => [change, table, i + 1] as const),
  )
}

describe('ending an OP session when the store fails in the middle', () => {
  // Every row the transaction touches: 1 uid, 1 handle and 3 grants become tombstones; 6 models, 3 RPs, 1 handle and 1
  // session go; 1 fact and 3 deliveries come.
  const steps: readonly Step[] = [
    ['INSERT', 'tombstone', 5],
    ['DELETE', 'model', 6],
    ['DELETE', 'op_session_client', 3],
    ['DELETE', 'op_session_handle', 1],
    ['DELETE', 'op_session', 1],
    ['INSERT', 'logout', 1],
    ['INSERT', 'delivery', 3],
  ]

  it.each(
    each(steps),
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

describe('ending all OP sessions of an account when the store fails in the middle', () => {
  const compromise = { cause: 'compromise', revokeOffline: true } as const
  const everyRp = (told: readonly PlannedDelivery[]) => told.map(({ clientId, sid }) => ({ clientId, sid }))

  beforeEach(async () => {
    for (const uid of ['uid-2', 'uid-3']) {
      const elsewhere = [loggedIn('a', { sid: uid, grantId: uid })]
      await op.saveOpSession(opSession(runtime, { uid, handle: uid, rps: elsewhere }))
      await op.putModel({ kind: 'Grant', handle: uid, payload: {}, grantId: uid, accountId: 'alice' })
    }
    runtime.pass(1)
  })

  // The job, and what it spares: a uid and its three grants.
  const firstCommit: readonly Step[] = [
    ['INSERT', 'end_job', 1],
    ['INSERT', 'spared', 4],
  ]
  it.each(
    each(firstCommit),
  )('refuses nothing when %s on %s fails the %i. time, and all when asked again [T2]', async (change, table, nth) => {
    const before = dump()
    sabotage(change, table, nth)
    const endAll = () => op.endAll({ accountId: 'alice' }, compromise, ['uid-1', 'unknown'])
    await expect(endAll()).rejects.toMatchObject({ code: 'store_failed' })
    expect(dump()).toBe(before)
    expect(await op.getOpSession({ uid: 'uid-2' })).toBeDefined()
    file.exec('DROP TRIGGER sabotage')
    expect(await endAll()).toMatchObject({ total: 2 })
    expect(await op.getOpSession({ uid: 'uid-2' })).toBeUndefined()
    expect(await op.getOpSession({ uid: 'uid-1' })).toBeDefined()
  })

  it.each(firstCommit)('touches no more rows by %s on %s than are failed above (%i)', async (change, table, times) => {
    sabotage(change, table, times + 1)
    expect(await op.endAll({ accountId: 'alice' }, compromise, ['uid-1', 'unknown'])).toMatchObject({ total: 2 })
  })

  // Three OP sessions: 3 uids, 3 handles and 5 grants become tombstones; 8 models, 5 RPs, 3 handles and 3 sessions go; 3
  // facts and 5 deliveries come.
  const chunk: readonly Step[] = [
    ['INSERT', 'tombstone', 11],
    ['DELETE', 'model', 8],
    ['DELETE', 'op_session_client', 5],
    ['DELETE', 'op_session_handle', 3],
    ['DELETE', 'op_session', 3],
    ['INSERT', 'logout', 3],
    ['INSERT', 'delivery', 5],
  ]
  const endChunk = async (): Promise<number> => {
    const claimed = await op.claimEndJob({ limit: 10, lease: 0 })
    const { job, next } = claimed ?? expect.unreachable()
    const uids = next.map(({ uid }) => uid)
    return (await op.endOpSessions(uids, compromise, everyRp, { id: job.id, pause: 0 })).length
  }

  it.each(
    each(chunk),
  )('ends none of a batch when %s on %s fails the %i. time, and goes on afterwards', async (change, table, nth) => {
    const { id } = await op.endAll({ accountId: 'alice' }, compromise)
    const before = dump()
    sabotage(change, table, nth)
    await expect(endChunk()).rejects.toMatchObject({ code: 'store_failed' })
    expect(dump()).toBe(before)
    expect(await op.getOpSession({ uid: 'uid-1' })).toBeUndefined()
    file.exec('DROP TRIGGER sabotage')
    expect(await endChunk()).toBe(3)
    expect(await op.getEndJob(id)).toMatchObject({ ended: 3, total: 3 })
  })

  it('ends none of a batch when the job cannot be counted on', async () => {
    await op.endAll({ accountId: 'alice' }, compromise)
    const before = dump()
    file.exec(`CREATE TRIGGER sabotage BEFORE UPDATE OF ended ON end_job BEGIN SELECT RAISE(ABORT, 'disk full'); END`)
    await expect(endChunk()).rejects.toMatchObject({ code: 'store_failed' })
    expect(dump()).toBe(before)
  })

  it.each(
    chunk,
  )('touches no more rows of a batch by %s on %s than are failed above (%i)', async (change, table, times) => {
    await op.endAll({ accountId: 'alice' }, compromise)
    sabotage(change, table, times + 1)
    expect(await endChunk()).toBe(3)
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
    const attempt = { dueAt: 1, startedAt: 1, finishedAt: 2, outcome: { state: 'delivered', status: 200 } } as const
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

  it('waits for the disk with each lease, which is given out once under its fence', async () => {
    const seen: unknown[] = []
    const now = (): number => {
      seen.push(file.pragma('synchronous', { simple: true }))
      return runtime.now()
    }
    const outbox = sqliteOutbox(openContext(file, issuer, { ...runtime, now }, () => {}))
    await outbox.claimDue({ limit: 1, lease: 1000 })
    await outbox.claimEarly({ clientId: 'rp' }, 1000)
    expect(seen).toEqual([2, 2])
  })

  it('has one row per attempt', async () => {
    const ended = await op.endOpSession('uid-1', { cause: 'op_logout' }, ([first]) => (first ? [first] : []))
    for (const outcome of [
      { state: 'due', retryAt: runtime.now(), why: 'status', status: 503 },
      { state: 'due', retryAt: runtime.now(), why: 'released' },
      { state: 'delivered', status: 200 },
    ] as const) {
      const [claimed] = await op.claimDue({ limit: 1, lease: 1000 })
      await op.settle(claimed ?? expect.unreachable(), { dueAt: 10, startedAt: 10, finishedAt: 20, outcome })
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
    const { accountId: _, ...anonymous } = opSession(runtime, { uid: 'anonymous', handle: 'anonymous' })
    await op.saveOpSession(anonymous)
    await op.claimLogin('never saved', { clientId: 'a', sid: 's', grantId: 'g' })
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
    expect(count('op_session_pending')).toBe(0)
    expect(count('tombstone')).toBe(0)
    expect(count('logout')).toBe(1)
    expect(count('delivery')).toBe(3)
    // The OP session of a user stays until it is ended, however long ago it expired: its RPs must hear of it.
    expect(await op.expiredOpSessions(10)).toMatchObject([{ uid: 'uid-1' }])
    const kept = { op_session: 1, op_session_handle: 1, op_session_client: 3 }
    for (const [table, rows] of Object.entries(kept)) expect([table, count(table)]).toEqual([table, rows])
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
