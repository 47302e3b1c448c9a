import { Client } from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type PostgresStoreOptions, postgresStore } from '../../../src/rp-postgres.ts'
import {
  atStart,
  frozenClock,
  identity,
  opened,
  START,
  someNotice,
  someSession,
  statesOf,
} from '../../../src/testing/rp-store-bench.ts'
import { rpStoreContract } from '../../../src/testing.ts'
import { hasPostgres, startPostgres, type TestPostgres } from '../../support/postgres.ts'

let postgres: TestPostgres
let schemas = 0

beforeAll(async () => {
  if (hasPostgres) postgres = await startPostgres()
})
afterAll(() => postgres?.close())

/** A store in a schema of its own, and what a test does to it behind its back. */
async function openBench(more: Partial<PostgresStoreOptions> = {}) {
  const options = { connectionString: postgres.connectionString, schema: `rp_${++schemas}`, ...more }
  const clock = frozenClock()
  const store = postgresStore({ clock: clock.now, ...options })
  const admin = new Client({ connectionString: postgres.connectionString, options: `-c search_path=${options.schema}` })
  admin.on('error', () => {}) // some tests end its connection too
  await admin.connect()
  return {
    options: { clock: clock.now, ...options },
    clock,
    store,
    rp: store.forClient(identity, clock),
    sql: async (text: string) => (await admin.query<Record<string, unknown>>(text)).rows,
    async close() {
      await store.close()
      await admin.end()
    },
  }
}

describe.runIf(hasPostgres)('postgresStore', () => {
  rpStoreContract(
    { describe, it },
    {
      durable: true,
      shared: true,
      async open(clock) {
        const options = { connectionString: postgres.connectionString, schema: `rp_${++schemas}`, clock, max: 4 }
        const store = postgresStore(options)
        return { store, reopen: async () => postgresStore(options), dispose: () => store.close() }
      },
    },
  )

  it('is made once when several nodes start at the same moment [T20]', async () => {
    const bench = await openBench()
    const stores = [1, 2, 3, 4].map(() => postgresStore(bench.options))
    const session = someSession()
    const found = await Promise.all(stores.map((store) => store.forClient(identity, bench.clock).get('none')))
    expect(found).toEqual([undefined, undefined, undefined, undefined])
    await opened(bench.rp, session)
    for (const store of stores) {
      expect(await statesOf(store.forClient(identity, bench.clock), session.handle)).toEqual(['alive'])
      await store.close()
    }
    await bench.close()
  })

  it('refuses a schema that a newer version wrote, and says so [T7]', async () => {
    const bench = await openBench()
    await bench.rp.now()
    await bench.sql('INSERT INTO rp_migration (step) VALUES (99)')
    const older = postgresStore(bench.options)
    await expect(older.forClient(identity, bench.clock).now()).rejects.toThrow(/newer Lockstep/)
    await older.close()
    await bench.close()
  })

  it('takes the time from the database, not from the node [T3]', async () => {
    const bench = await openBench()
    const { clock: _frozen, ...options } = bench.options
    const store = postgresStore(options)
    const [row] = await bench.sql('SELECT extract(epoch FROM clock_timestamp()) * 1000 AS now')
    const now = await store.forClient(identity, { now: () => 0 }).now()
    expect(Math.abs(now - Number(row?.now))).toBeLessThan(60_000)
    await store.close()
    await bench.close()
  })

  it('refuses to go over the network without TLS, unless told that the network is safe [T19]', async () => {
    expect(() => postgresStore({ host: '192.0.2.1' })).toThrow(TypeError)
    await postgresStore({ host: '192.0.2.1', allowInsecure: true }).close()
    await postgresStore({ host: '192.0.2.1', ssl: true }).close()
  })
})

describe.runIf(hasPostgres)('postgresStore when something fails', () => {
  it.each([
    'rp_session:DELETE',
    'rp_ended:INSERT',
    'rp_jti:INSERT',
    'rp_logged_out:INSERT',
    'rp_owed:INSERT',
    'rp_owed_downstream:INSERT',
  ])('claims nothing and ends nothing when %s fails [T7]', async (step) => {
    const [table, event] = step.split(':')
    const bench = await openBench()
    const { rp, sql } = bench
    const refreshToken = { sealed: 'token', offline: false }
    const [handle = ''] = await opened(rp, someSession({ sid: 's', refreshToken }))
    await sql(`CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'disk on fire'; END $$;
        CREATE TRIGGER broken BEFORE ${event} ON ${table} FOR EACH ROW EXECUTE FUNCTION broken()`)
    const notice = someNotice({ downstream: 'note' })
    await expect(rp.endBy({ sid: 's' }, notice)).rejects.toMatchObject({ code: 'store_failed' })
    expect(await statesOf(rp, handle)).toEqual(['alive'])
    expect(await rp.nextOwedAt()).toBeUndefined()
    expect(await rp.nextOwedAt('downstream')).toBeUndefined()
    await sql(`DROP TRIGGER broken ON ${table}`)
    expect((await rp.create(someSession({ sid: 's' }))).outcome).toBe('created')
    expect(await rp.endBy({ sid: 's' }, notice)).toMatchObject({ outcome: 'ended' })
    expect(await statesOf(rp, handle)).toEqual(['ended'])
    expect(await rp.claimOwed({ limit: 5, lease: 1 })).toHaveLength(1)
    await bench.close()
  })

  it('loses no refresh token, however a logout and a rotation meet [T7]', async () => {
    const bench = await openBench({ max: 4 })
    const { rp } = bench
    const names = Array.from({ length: 20 }, (_, i) => `s${i}`)
    const before = { sealed: 'before', offline: false }
    const sessions = names.map((sid) => someSession({ sid, refreshToken: before }))
    await opened(rp, ...sessions)
    await Promise.all(
      sessions.flatMap(({ handle, sid = '' }) => [
        rp.endBy({ sid }, someNotice()),
        rp.saveTokens(handle, { tokens: 'new', refreshToken: { sealed: `after ${sid}`, offline: false } }, 'before'),
      ]),
    )
    const owed = (await rp.claimOwed({ limit: 100, lease: 60_000 })).map(({ debt }) => debt)
    expect(owed).toEqual(expect.arrayContaining(names.map((sid) => `after ${sid}`)))
    const states = await statesOf(rp, ...sessions.map(({ handle }) => handle))
    expect(states).toEqual(names.map(() => 'ended'))
    await bench.close()
  })

  it('brings nothing back that the front channel ended, should the clock be set back [T4]', async () => {
    const bench = await openBench()
    const { rp, clock } = bench
    const [handle = ''] = await opened(rp, someSession({ sid: 's' }))
    await rp.deleteBySid('s', { cause: 'frontchannel', at: START })
    clock.pass(-2) // as when a standby takes over
    expect(await rp.updateIfExists(handle, { idleExpiresAt: START + 9_000 })).toBe(false)
    expect(await statesOf(rp, handle)).toEqual(['ended'])
    await bench.close()
  })

  it('takes hints for hints: a forged one changes nothing [T18]', async () => {
    const bench = await openBench()
    const { rp, sql } = bench
    const [handle = ''] = await opened(rp, someSession())
    const hint = Promise.withResolvers<void>()
    await rp.subscribe(handle, hint.resolve)
    const channels = await sql(`SELECT query FROM pg_stat_activity WHERE query LIKE 'LISTEN "rp_%'`)
    const keys =
      await sql(`SELECT replace(translate(encode(sha256(convert_to(client || ' ' || handle, 'UTF8')), 'base64'), '+/', '-_'),
      '=', '') AS key FROM rp_session`)
    for (const { query } of channels) {
      await sql(`SELECT pg_notify('${/"(.*)"/.exec(String(query))?.[1]}', 'forged ${keys[0]?.key}')`)
    }
    await hint.promise
    expect(await statesOf(rp, handle)).toEqual(['alive'])
    await bench.close()
  })

  it('hears again by itself when it has stopped hearing, and hints at everything, once [T18]', async () => {
    const bench = await openBench()
    const { rp, sql, options, clock } = bench
    const other = postgresStore(options)
    const [handle = ''] = await opened(rp, someSession({ sid: 's' }))
    let hints = 0
    let wake = (): void => {}
    const next = () =>
      new Promise<void>((resolve) => {
        wake = resolve
      })
    await rp.subscribe(handle, () => {
      hints += 1
      wake()
    })
    const heardAgain = next()
    await sql(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN "rp_%'`)
    await heardAgain // something may have been told meanwhile
    expect(await statesOf(rp, handle)).toEqual(['alive'])
    expect(hints).toBe(1)
    const hint = next()
    await other.forClient(identity, clock).endBy({ sid: 's' }, someNotice())
    await hint
    expect(hints).toBe(2)
    expect(await statesOf(rp, handle)).toEqual(['ended'])
    await other.close()
    await bench.close()
  })

  it('lets two nodes claim refreshes at once while leases of others have run out', async () => {
    const { rp, clock, sql, close } = await openBench()
    const handles = await opened(rp, ...Array.from({ length: 60 }, () => someSession()))
    for (const handle of handles) {
      await rp.claimRefresh(handle, 500)
      clock.pass(0.001)
    }
    clock.pass(10)
    // Widens the moment in which each has the rows that the other sweeps.
    await sql(`CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.3); RETURN NEW; END $$;
      CREATE TRIGGER dawdle BEFORE INSERT ON rp_refreshing FOR EACH ROW EXECUTE FUNCTION dawdle()`)
    const both = [25, 5].map((i) => rp.claimRefresh(handles[i] ?? '', 30_000))
    expect(await Promise.all(both)).toEqual([true, true])
    await close()
  })

  it('scans no table, however many RP sessions there are [BC §2.7]', async () => {
    const bench = await openBench()
    const { sql, clock } = bench
    const first = postgresStore(bench.options)
    await opened(first.forClient(identity, clock), someSession({ handle: 'h', sid: 's', sub: 'u' }))
    await first.close() // a connection reports what it scanned when it ends; while empty, tables are scanned
    await sql(`INSERT INTO rp_session SELECT client, 'handle ' || i, public_id, sub, 'sub ' || i, sid, 'sid ' || i, first_iat,
        created_at, idle_expires_at, expires_at, data, session_state, tokens, 't', false, requested_at
      FROM rp_session, generate_series(1, 20000) AS i;
      INSERT INTO rp_ended SELECT 1, 'ended ' || i, 'p', '{}', 1900000000 FROM generate_series(1, 20000) AS i;
      INSERT INTO rp_logged_out SELECT 1, 'sid', 'sid ' || i, 0, 1900000000 FROM generate_series(1, 20000) AS i;
      INSERT INTO rp_jti SELECT 1, 'jti ' || i, 1900000000 FROM generate_series(1, 20000) AS i;
      INSERT INTO rp_owed (client, token, owed_since, attempts, due_at)
        SELECT 1, 't', 0, 0, 1900000000000 FROM generate_series(1, 20000) AS i;
      INSERT INTO rp_owed_downstream (client, debt, owed_since, attempts, due_at)
        SELECT 1, 't', 0, 0, 1900000000000 FROM generate_series(1, 20000) AS i;
      INSERT INTO rp_refreshing SELECT 1, 'handle ' || i, 1900000000 FROM generate_series(1, 20000) AS i;
      INSERT INTO rp_further_sid SELECT 1, 'handle ' || i, 'further ' || i, 0, false, 1 FROM generate_series(1, 20000) AS i;
      ANALYZE`)
    const reads = async (how: 'seq_scan' | 'idx_scan') => {
      const rows = await sql(`SELECT relname, ${how} AS times FROM pg_stat_user_tables
        WHERE schemaname = current_schema() AND relname NOT IN ('rp_client', 'rp_migration') ORDER BY relname`)
      return rows.map(({ relname, times }) => `${relname} ${times}`)
    }
    const store = postgresStore({ ...bench.options, max: 1 }) // whose statements are planned for what is there now
    const many = store.forClient(identity, clock)
    await many.now()
    await sql('SELECT pg_stat_force_next_flush()') // else what this connection scanned above is counted below
    const [scanned, looked] = [await reads('seq_scan'), await reads('idx_scan')]
    for (let i = 0; i < 12; i++) {
      const [one, two] = [
        someSession({ handle: `a${i}`, sid: `a${i}` }),
        someSession({ handle: `b${i}`, sub: `b${i}` }),
      ]
      await many.create(one, { replaces: 'nobody' })
      await many.create(two, { replaces: one.handle })
      await many.get(two.handle)
      await many.get(one.handle)
      await many.updateIfExists(two.handle, { sessionState: 'x.y' })
      await many.addSid(two.handle, { sid: `further b${i}`, ...atStart, from: 'browser' })
      await many.claimRefresh(two.handle, 1_000)
      await many.saveTokens(two.handle, { tokens: 't' }, 'before')
      await many.saveTokens(one.handle, { tokens: 't', refreshToken: { sealed: 't', offline: false } }, 'before')
      await many.listBySub(two.sub)
      await many.isGrantInUse({ sub: two.sub, sids: [] })
      await many.isGrantInUse({ sub: two.sub, sids: [two.sid ?? '', 'another'] })
      await many.deleteBySid(`sid ${i + 101}`, { cause: 'frontchannel', at: 1 })
      await many.deleteBySid(two.sid ?? '', { cause: 'frontchannel', at: 1 })
      await many.endBy({ sid: two.sid ?? '' }, someNotice())
      await many.endBy({ sub: two.sub }, someNotice())
      await many.delete(`handle ${i + 1}`, { cause: 'admin', at: 1 })
      await many.claimOwed({ limit: 10, lease: 1 })
      await many.nextOwedAt()
      await many.settleOwed('1', 'done')
      await many.owe('t')
      await many.claimOwed({ kind: 'downstream', limit: 10, lease: 1 })
      await many.nextOwedAt('downstream')
      await many.settleOwed('1', 'done', 'downstream')
      await many.loggedOutAt({ sid: `sid ${i}`, sub: 'u', firstIat: START }, { sidReused: false })
    }
    await store.close() // its connection reports what it did when it ends
    const same = (now: readonly string[]) => now.some((line) => looked.includes(line))
    await expect.poll(async () => same(await reads('idx_scan'))).toBe(false)
    expect(await reads('seq_scan')).toEqual(scanned)
    await bench.close()
  })

  it('is a store failure while the database is away, and recovers by itself [BC §2.8]', async () => {
    const bench = await openBench()
    const { rp } = bench
    const [handle = ''] = await opened(rp, someSession({ sid: 's' }))
    await rp.subscribe(handle, () => {})
    const notice = someNotice()
    await postgres.stop('fast')
    await expect(rp.endBy({ sid: 's' }, notice)).rejects.toMatchObject({ code: 'store_failed' })
    await postgres.start()
    expect(await rp.endBy({ sid: 's' }, notice)).toMatchObject({ outcome: 'ended', sessions: [{ handle }] })
    await bench.store.close()
  })

  it('keeps a logout that it has confirmed through a crash of the database [T7]', async () => {
    const bench = await openBench()
    const { rp } = bench
    const [handle = ''] = await opened(rp, someSession({ sid: 's', refreshToken: { sealed: 'token', offline: false } }))
    const notice = someNotice()
    await rp.endBy({ sid: 's' }, notice)
    await postgres.stop('immediate')
    await postgres.start()
    expect(await statesOf(rp, handle)).toEqual(['ended'])
    expect(await rp.endBy({ sid: 's' }, notice)).toEqual({ outcome: 'replay' })
    expect(await rp.claimOwed({ limit: 5, lease: 1 })).toHaveLength(1)
    await bench.store.close()
  })
})
