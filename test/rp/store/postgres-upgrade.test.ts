import { createHash } from 'node:crypto'
import { Client } from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { steps } from '../../../src/rp/store/postgres-steps.ts'
import { postgresStore } from '../../../src/rp-postgres.ts'
import { frozenClock, identity, opened, START, someNotice, someSession } from '../../../src/testing/rp-store-bench.ts'
import { hasPostgres, startPostgres, type TestPostgres } from '../../support/postgres.ts'

let postgres: TestPostgres
let schemas = 0

beforeAll(async () => {
  if (hasPostgres) postgres = await startPostgres()
})
afterAll(() => postgres?.close())

const key = (name: string) => createHash('sha256').update(name).digest('base64url')
const framed = { cause: 'frontchannel', at: START }

/** Some of the functions that there were: one that is gone, and three whose parameters were others. */
const oldFunctions = `
  CREATE FUNCTION rp_change_sid(p_client INTEGER, p_handle TEXT) RETURNS TEXT LANGUAGE sql AS $$ SELECT 'changed' $$;
  CREATE FUNCTION rp_live(p_client INTEGER) RETURNS SETOF rp_session LANGUAGE sql AS $$ SELECT * FROM rp_session $$;
  CREATE FUNCTION rp_delete(p_client INTEGER, p_handle TEXT, p_end TEXT, p_now BIGINT, p_downstream TEXT DEFAULT NULL)
    RETURNS SETOF rp_session LANGUAGE sql AS $$ SELECT * FROM rp_session $$;
  CREATE FUNCTION rp_end_put_by(p_left rp_put_by) RETURNS VOID LANGUAGE sql AS $$ SELECT NULL::void $$;`

/** A schema as the seventh step left it, with what was kept in it. */
async function openOldSchema() {
  const options = { connectionString: postgres.connectionString, schema: `rp_old_${++schemas}` }
  const admin = new Client({ connectionString: postgres.connectionString, options: `-c search_path=${options.schema}` })
  await admin.connect()
  await admin.query(`CREATE SCHEMA ${options.schema};
    CREATE TABLE rp_migration (step INTEGER PRIMARY KEY, taken_at TIMESTAMPTZ NOT NULL DEFAULT now());
    ${steps.slice(0, 7).join('\n')}
    ${oldFunctions}
    INSERT INTO rp_migration (step) SELECT generate_series(1, 7);
    INSERT INTO rp_client (issuer, client_id) VALUES ('${identity.issuer}', '${identity.clientId}');
    INSERT INTO rp_session VALUES (1, 'alive', 'public alive', 'ada', '${key('ada')}', 's', '${key('s')}', ${START}, ${START},
      ${START + 3_600}, ${START + 86_400}, '{}', NULL, 'sealed tokens', 'of one that is alive', false);
    INSERT INTO rp_further_sid VALUES (1, 'alive', '${key('further')}', 0, true, 1);
    INSERT INTO rp_ended VALUES (1, 'framed', 'public framed', '${JSON.stringify(framed)}', ${START + 86_400}, false);
    INSERT INTO rp_put_by VALUES
      (1, 'framed', '${key('t')}', '${key('ada')}', ${START}, 'put by', false, ${START + 86_400}),
      (1, 'framed too', '${key('t')}', '${key('ada')}', ${START}, 'with offline_access', true, ${START + 86_400});
    INSERT INTO rp_logged_out VALUES (1, 'sid', '${key('logged out')}', ${START * 1000 + 1}, ${START + 86_400}, ${START});
    INSERT INTO rp_jti VALUES (1, '${key('seen')}', ${START + 180})`)
  const texts = async (query: string): Promise<unknown[]> => {
    const { rows } = await admin.query<unknown[]>({ text: query, rowMode: 'array' })
    return rows.flat()
  }
  const clock = frozenClock()
  const open = () => postgresStore({ clock: clock.now, ...options })
  return {
    clock,
    open,
    texts,
    async shape() {
      return { functions: await texts(functions), tables: await texts(tables), columns: await texts(columns) }
    },
    close: () => admin.end(),
  }
}

const functions = `SELECT proname::text FROM pg_proc WHERE pronamespace = current_schema()::regnamespace ORDER BY proname`
const tables = `SELECT tablename::text FROM pg_tables WHERE schemaname = current_schema() ORDER BY tablename`
const columns = `SELECT column_name::text FROM information_schema.columns
  WHERE table_schema = current_schema() AND table_name = 'rp_session' ORDER BY ordinal_position`

describe.runIf(hasPostgres)('an RP schema of the version before', () => {
  it('is brought up to date once by nodes that start at the same moment, and loses nothing [T7]', async () => {
    const old = await openOldSchema()
    const stores = [1, 2, 3].map(old.open)
    const nodes = stores.map((store) => store.forClient(identity, old.clock))
    const kept = {
      ...someSession({ handle: 'alive', publicId: 'public alive', sid: 's', data: '{}' }),
      refreshToken: { sealed: 'of one that is alive', offline: false },
    }
    for (const found of await Promise.all(nodes.map((rp) => rp.get('alive')))) {
      expect(found).toEqual({ state: 'alive', session: kept })
    }
    const [rp] = nodes
    if (rp === undefined) throw new Error('no node')
    expect(await rp.get('framed')).toEqual({ state: 'ended', publicId: 'public framed', end: framed })
    expect(await rp.isGrantInUse({ sub: 'ada', sids: ['further'] })).toBe(true)
    const owed = await rp.claimOwed({ limit: 9, lease: 60_000 })
    expect(owed.map(({ debt }) => debt)).toEqual(['put by'])
    expect(await rp.create(someSession({ sid: 'logged out' }))).toEqual({ outcome: 'outdated' })
    expect(await rp.endBy({ sid: 's' }, someNotice({ jti: 'seen' }))).toEqual({ outcome: 'replay' })
    await opened(rp, someSession({ handle: 'new', sid: 's' }))
    expect(await rp.deleteBySid('s', { cause: 'frontchannel', at: START })).toHaveLength(2)
    await rp.endBy({ sid: 'further' }, someNotice())
    expect((await rp.claimOwed({ limit: 9, lease: 60_000 })).map(({ debt }) => debt)).toEqual(['of one that is alive'])
    await Promise.all(stores.map((store) => store.close()))
    await old.close()
  })

  it('gets the tables and functions of a new one, and no other', async () => {
    const old = await openOldSchema()
    const store = old.open()
    await store.forClient(identity, old.clock).now()
    const fresh = await openOldSchema()
    await fresh.texts(`DROP SCHEMA rp_old_${schemas} CASCADE`)
    const other = fresh.open()
    await other.forClient(identity, old.clock).now()
    const shape = await old.shape()
    expect(shape).toEqual(await fresh.shape())
    expect(shape.functions).toContain('rp_end_by')
    expect(shape.functions).not.toContain('rp_change_sid')
    await Promise.all([store.close(), other.close(), old.close(), fresh.close()])
  })

  it('is left as it was by a step that fails halfway, and taken up again by the next use [T7]', async () => {
    const old = await openOldSchema()
    const store = old.open()
    const rp = store.forClient(identity, old.clock)
    const before = await old.shape()
    await old.texts('CREATE VIEW in_the_way AS SELECT * FROM rp_put_by')
    await expect(rp.now()).rejects.toMatchObject({ code: 'store_failed' })
    expect(await old.shape()).toEqual(before)
    expect(await old.texts('SELECT max(step) FROM rp_migration')).toEqual([7])
    expect(await old.texts('SELECT token FROM rp_owed')).toEqual([])
    await old.texts('DROP VIEW in_the_way')
    expect((await rp.get('alive'))?.state).toBe('alive')
    expect(await old.texts('SELECT token FROM rp_owed')).toEqual(['put by'])
    await Promise.all([store.close(), old.close()])
  })
})
