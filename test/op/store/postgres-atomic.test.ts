import { createHash } from 'node:crypto'
import { Client } from 'pg'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { OpIssuerStore, OpStore, PlannedDelivery } from '../../../src/op/store/contract.ts'
import { postgresStore } from '../../../src/op-postgres.ts'
import { issuer, loggedIn, opSession, testRuntime } from '../../../src/testing/op-store-bench.ts'
import { hasPostgres, startPostgres, type TestPostgres } from '../../support/postgres.ts'

const runtime = testRuntime()
const rps = ['a', 'b', 'c'].map((name) => loggedIn(name))
/** Each RP gets a Logout Token and a frame. */
const tellAll = (told: readonly PlannedDelivery[]): readonly PlannedDelivery[] => [
  ...told,
  ...told.map((rp): PlannedDelivery => ({ ...rp, mechanism: 'frontchannel' })),
]

let postgres: TestPostgres
/** A connection of the test's own, for looking and for sabotage. */
let admin: Client
let store: OpStore
let op: OpIssuerStore
let made = 0

/** Every row of every table, as text. */
async function dump(): Promise<string> {
  const { rows: tables } = await admin.query<{ name: string }>(
    'SELECT tablename AS name FROM pg_tables WHERE schemaname = current_schema() ORDER BY name',
  )
  const content = []
  for (const { name } of tables) {
    const { rows } = await admin.query(`SELECT t::text FROM "${name}" t ORDER BY 1`)
    content.push([name, rows])
  }
  return JSON.stringify(content)
}

async function count(table: string): Promise<number> {
  const { rows } = await admin.query<{ n: number }>(`SELECT count(*)::int AS n FROM ${table}`)
  return rows[0]?.n ?? Number.NaN
}

type Failure = 'a full disk' | 'a lost connection'

/** Makes a change of a table fail, or the commit of a transaction that made it. */
async function sabotage(failure: Failure, change: 'INSERT' | 'DELETE' | 'COMMIT', table: string): Promise<void> {
  const call = `EXECUTE FUNCTION sabotage('${failure}')`
  await admin.query(
    change === 'COMMIT'
      ? `CREATE CONSTRAINT TRIGGER sabotage AFTER INSERT ON ${table} DEFERRABLE INITIALLY DEFERRED FOR EACH ROW ${call}`
      : `CREATE TRIGGER sabotage BEFORE ${change} ON ${table} FOR EACH STATEMENT ${call}`,
  )
}

describe.skipIf(!hasPostgres)('PostgreSQL that fails in the middle', () => {
  beforeAll(async () => {
    postgres = await startPostgres()
  }, 60_000)
  afterAll(() => postgres?.close())

  beforeEach(async () => {
    const schema = `atomic_${++made}`
    const { connectionString } = postgres
    store = postgresStore({ connectionString, schema, clock: runtime.now })
    op = store.forIssuer(issuer, runtime)
    await op.saveOpSession(opSession(runtime, { rps }))
    for (const { grantId = '' } of rps) {
      await op.putModel({ kind: 'Grant', handle: grantId, payload: {}, grantId })
      await op.putModel({ kind: 'RefreshToken', handle: grantId, payload: {}, grantId })
    }
    admin = new Client({ connectionString })
    await admin.connect()
    await admin.query(`SET search_path = ${schema}`)
    await admin.query(`
      CREATE FUNCTION sabotage() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN
        IF TG_ARGV[0] = 'a full disk' THEN RAISE EXCEPTION 'disk full'; END IF;
        PERFORM pg_terminate_backend(pg_backend_pid());
        PERFORM pg_sleep(60);
        RETURN NULL;
      END $$`)
  })
  afterEach(async () => {
    await admin.end()
    await store.close()
  })

  const changes = [
    ['INSERT', 'tombstone'],
    ['DELETE', 'model'],
    ['DELETE', 'op_session_client'],
    ['DELETE', 'op_session_handle'],
    ['DELETE', 'op_session'],
    ['INSERT', 'logout'],
    ['INSERT', 'delivery'],
    ['INSERT', 'frame_notice'],
    ['COMMIT', 'logout'],
  ] as const
  const failures = (['a full disk', 'a lost connection'] as const).flatMap((failure) =>
    changes.map(([change, table]) => [failure, change, table] as const),
  )

  it.each(
    failures,
  )('ends nothing of an OP session when %s meets %s on %s, and all of it when asked again [design §4]', async (failure, change, table) => {
    const before = await dump()
    await sabotage(failure, change, table)
    await expect(op.endOpSession('uid-1', { cause: 'op_logout' }, tellAll)).rejects.toMatchObject({
      code: 'store_failed',
    })
    expect(await dump()).toBe(before)
    expect(await op.getOpSession({ handle: 'handle-1' })).toMatchObject({ accountId: 'alice', rps })
    await admin.query(`DROP TRIGGER sabotage ON ${table}`)
    const ended = await op.endOpSession('uid-1', { cause: 'op_logout' }, tellAll)
    expect(ended?.deliveries).toHaveLength(3)
    expect([await count('op_session'), await count('op_session_client'), await count('model')]).toEqual([0, 0, 0])
  })

  it('changes no other table when it ends an OP session: the list above is complete', async () => {
    const tables = [
      'answered_uri',
      'attempt',
      'attempt_budget',
      'client_trouble',
      'end_job',
      'erasure',
      'issuer',
      'migration',
      'op_session_pending',
      'secret',
      'spared',
    ]
    for (const table of tables) {
      await admin.query(`CREATE TRIGGER sabotage BEFORE INSERT OR UPDATE OR DELETE ON ${table}
        FOR EACH STATEMENT EXECUTE FUNCTION sabotage('a full disk')`)
    }
    expect(await op.endOpSession('uid-1', { cause: 'op_logout' }, tellAll)).toBeDefined()
    const all = [...new Set(changes.map(([, table]) => table))]
    expect([...tables, ...all].sort()).toEqual(
      (
        await admin.query<{ name: string }>(
          `SELECT tablename AS name FROM pg_tables WHERE schemaname = current_schema()`,
        )
      ).rows
        .map(({ name }) => name)
        .sort(),
    )
  })

  const compromise = { cause: 'compromise', revokeOffline: true } as const
  const endAll = () => op.endAll({ accountId: 'alice' }, compromise, ['uid-2'])
  const endBatch = async (id: string) => op.endOpSessions(['uid-1', 'uid-3'], compromise, tellAll, { id, pause: 0 })
  const twoMore = async (): Promise<void> => {
    for (const uid of ['uid-2', 'uid-3']) {
      await op.saveOpSession(opSession(runtime, { uid, handle: uid, rps: [loggedIn('a', { grantId: uid })] }))
    }
    runtime.pass(1)
  }

  it.each([
    ['INSERT', 'end_job'],
    ['INSERT', 'spared'],
    ['COMMIT', 'end_job'],
  ] as const)('refuses nothing when %s of endAll fails on %s, and all when asked again [T2]', async (change, table) => {
    await twoMore()
    const before = await dump()
    await sabotage('a full disk', change, table)
    await expect(endAll()).rejects.toMatchObject({ code: 'store_failed' })
    expect(await dump()).toBe(before)
    await admin.query(`DROP TRIGGER sabotage ON ${table}`)
    expect(await endAll()).toMatchObject({ total: 2 })
    expect([await op.getOpSession({ uid: 'uid-1' }), await op.getOpSession({ uid: 'uid-3' })]).toEqual([
      undefined,
      undefined,
    ])
    expect(await op.getOpSession({ uid: 'uid-2' })).toBeDefined()
  })

  it.each(
    failures,
  )('ends none of a batch when %s meets %s on %s, and goes on afterwards', async (failure, change, table) => {
    await twoMore()
    const { id } = await endAll()
    const before = await dump()
    await sabotage(failure, change, table)
    await expect(endBatch(id)).rejects.toMatchObject({ code: 'store_failed' })
    expect(await dump()).toBe(before)
    await admin.query(`DROP TRIGGER sabotage ON ${table}`)
    expect(await endBatch(id)).toHaveLength(2)
    expect(await op.getEndJob(id)).toMatchObject({ ended: 2, total: 2 })
  })

  it('saves nothing of an OP session [design §4]', async () => {
    const before = await dump()
    await sabotage('a full disk', 'INSERT', 'op_session_client')
    const write = opSession(runtime, { handle: 'handle-2', payload: { changed: true }, rps: [loggedIn('d')] })
    await expect(op.saveOpSession(write)).rejects.toMatchObject({ code: 'store_failed' })
    expect(await dump()).toBe(before)
  })

  it('keeps a lease when the attempt cannot be written', async () => {
    await op.endOpSession('uid-1', { cause: 'op_logout' }, ([first]) => (first ? [first] : []))
    const [claimed] = await op.claimDue({ limit: 1, lease: 1000 })
    const before = await dump()
    await sabotage('a full disk', 'INSERT', 'attempt')
    const attempt = { dueAt: 1, startedAt: 1, finishedAt: 2, outcome: { state: 'delivered', status: 200 } } as const
    await expect(op.settle(claimed ?? expect.unreachable(), attempt)).rejects.toMatchObject({ code: 'store_failed' })
    expect(await dump()).toBe(before)
    await admin.query('DROP TRIGGER sabotage ON attempt')
    expect(await op.settle(claimed ?? expect.unreachable(), attempt)).toBe(true)
  })

  it('answers again after every connection was cut', async () => {
    await Promise.all([1, 2, 3].map(() => op.getOpSession({ uid: 'uid-1' })))
    await admin.query('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()')
    await expect.poll(() => op.getOpSession({ uid: 'uid-1' }).catch(() => undefined)).toMatchObject({ uid: 'uid-1' })
  })

  it('tries again what a deadlock undid', async () => {
    // The end of an OP session deletes the models of a grant; the test holds one of them and wants what the end has locked.
    await admin.query('BEGIN')
    await admin.query(`UPDATE model SET payload = payload WHERE handle = 'grant-a'`)
    const ending = op.endOpSession('uid-1', { cause: 'op_logout' }, tellAll)
    await expect.poll(waiting).toBe(1)
    const wanting = admin.query(`INSERT INTO tombstone SELECT id, 'uid', 'uid-1', 0 FROM issuer`)
    // PostgreSQL undoes one of the two
    await wanting.then(
      () => admin.query('ROLLBACK'),
      () => admin.query('ROLLBACK'),
    )
    expect((await ending)?.deliveries).toHaveLength(3)
  })

  it('hears the other nodes again after the connection that listens was cut, and nothing else they say [T18]', async () => {
    let heard = 0
    const stop = op.onWake?.(() => {
      heard += 1
    })
    const ring = async (payload: string): Promise<void> => {
      await admin.query('SELECT pg_notify($1, $2)', [`atomic_${made}`, payload])
    }
    await op.nextDueAt()
    expect(heard).toBe(1) // for what was rung before it listened
    await admin.query(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'`)
    await expect.poll(() => heard).toBe(2) // it may have missed something
    await op.nextDueAt()
    expect(heard).toBe(3)
    await ring('no hash of an issuer')
    await ring(createHash('sha256').update('https://other.example').digest('base64url'))
    await ring(createHash('sha256').update(issuer).digest('base64url'))
    await expect.poll(() => heard).toBe(4)
    stop?.()
  })

  it('gives up on a lock that a frozen node holds, and says so', async () => {
    const { connectionString } = postgres
    const impatient = postgresStore({
      connectionString,
      schema: `atomic_${made}`,
      clock: runtime.now,
      lock_timeout: 50,
    })
    await admin.query('BEGIN')
    await admin.query('LOCK TABLE op_session_client')
    await expect(
      impatient.forIssuer(issuer, runtime).saveOpSession(opSession(runtime, { rps: [loggedIn('d')] })),
    ).rejects.toMatchObject({
      code: 'store_failed',
      message: expect.stringContaining('55P03'),
    })
    await admin.query('ROLLBACK')
    await impatient.close()
  })

  it('measures leases by its own clock when the nodes differ by twenty minutes', async () => {
    const real = postgresStore({ connectionString: postgres.connectionString, schema: `atomic_${made}` })
    const [ahead, behind] = [600_000, -600_000].map((skew) =>
      real.forIssuer(issuer, { ...runtime, now: () => Date.now() + skew }),
    )
    if (!ahead || !behind) return expect.unreachable()
    await behind.saveOpSession(
      opSession({ ...runtime, now: Date.now }, { uid: 'u', handle: 'h', accountId: 'carol', rps: [loggedIn('z')] }),
    )
    await behind.endOpSession('u', { cause: 'admin' }, (told) => told)
    expect(await behind.claimDue({ limit: 9, lease: 60_000 })).toHaveLength(1)
    expect(await ahead.claimDue({ limit: 9, lease: 60_000 })).toEqual([])
    const due = (await ahead.nextDueAt()) ?? 0
    expect(due - (Date.now() + 600_000)).toBeGreaterThan(0)
    expect(due - (Date.now() + 600_000)).toBeLessThanOrEqual(61_000)
    await real.close()
  })

  it('has a job end all that it refuses, also what was being saved while it was recorded [T2]', async () => {
    const real = postgresStore({ connectionString: postgres.connectionString, schema: `atomic_${made}`, max: 20 })
    const now = { ...runtime, now: Date.now }
    const node = real.forIssuer(issuer, now)
    let refused = 0
    for (let round = 0; round < 10; round++) {
      const accountId = `account ${round}`
      const uids = Array.from({ length: 16 }, (_, i) => `${round} ${i}`)
      const logins = uids.map((uid) => node.saveOpSession(opSession(now, { uid, handle: uid, accountId, rps: [] })))
      await Promise.race(logins)
      const { id } = await node.endAll({ accountId }, { cause: 'compromise', revokeOffline: true })
      const first = await node.claimEndJob({ limit: 100, lease: 0 })
      await Promise.all(logins)
      const named = new Set(first?.next.map(({ uid }) => uid))
      for (const uid of uids) expect([uid, named.has(uid)]).toEqual([uid, !(await node.getOpSession({ uid }))])
      refused += named.size
      const plan = (told: readonly PlannedDelivery[]) => told
      await node.endOpSessions([...named], { cause: 'compromise' }, plan, { id, pause: 0 })
      expect((await node.getEndJob(id))?.ended).toBe(named.size)
      expect(await node.claimEndJob({ limit: 100, lease: 0 })).toMatchObject({ job: { id, state: 'done' } })
    }
    expect(refused).toBeGreaterThan(0)
    await real.close()
  })

  async function waiting(): Promise<number> {
    const { rows } = await admin.query<{ n: number }>(
      `SELECT count(*)::int AS n FROM pg_stat_activity WHERE wait_event_type = 'Lock'`,
    )
    return rows[0]?.n ?? 0
  }

  it('merges logins under whatever isolation the role was given [race 1]', async () => {
    await admin.query(`ALTER ROLE tester SET default_transaction_isolation = 'serializable'`)
    const again = postgresStore({ connectionString: postgres.connectionString, schema: `atomic_${made}` })
    try {
      const names = Array.from({ length: 20 }, (_, i) => `rp-${i}`)
      const node = again.forIssuer(issuer, runtime)
      await Promise.all(names.map((name) => node.saveOpSession(opSession(runtime, { rps: [loggedIn(name)] }))))
      expect((await op.getOpSession({ uid: 'uid-1' }))?.rps).toHaveLength(23)
    } finally {
      await admin.query('ALTER ROLE tester RESET default_transaction_isolation')
      await again.close()
    }
  })

  it('loses what has expired, a little at a time, and keeps the outbox', async () => {
    const expiresAt = Math.floor(runtime.now() / 1000) + 60
    await Promise.all(
      Array.from({ length: 450 }, (_, i) =>
        op.putModel({ kind: 'Interaction', handle: `h${i}`, payload: {}, expiresAt }),
      ),
    )
    const elsewhere = rps.map(({ clientId }) => loggedIn(clientId, { grantId: `other ${clientId}` }))
    await op.saveOpSession(opSession(runtime, { uid: 'ended', handle: 'ended', rps: elsewhere }))
    await op.endOpSession('ended', { cause: 'op_logout' }, tellAll)
    await op.claimLogin('never saved', { clientId: 'a', sid: 's', grantId: 'g' })
    const { accountId: _, ...anonymous } = opSession(runtime, { uid: 'anonymous', handle: 'anonymous' })
    await op.saveOpSession(anonymous)

    runtime.pass(3 * 86_400_000)
    const turn = (): Promise<void> => op.retireHandle('any')
    await turn()
    expect(await count('model')).toBe(450 + 6 - 200)
    for (let i = 0; i < 3; i++) await turn()
    expect(await count('model')).toBe(6) // what never expires
    // The OP session of a user stays until it is ended, however long ago it expired: its RPs must hear of it.
    expect(await op.expiredOpSessions(10)).toMatchObject([{ uid: 'uid-1' }])
    const kept = { op_session: 1, op_session_handle: 1, op_session_client: 3, op_session_pending: 0 }
    for (const [table, rows] of Object.entries(kept)) expect([table, await count(table)]).toEqual([table, rows])
    expect([await count('tombstone'), await count('logout'), await count('delivery')]).toEqual([1, 1, 3])
  })
})
