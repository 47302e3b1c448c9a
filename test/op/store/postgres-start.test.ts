import { Client } from 'pg'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { openSecrets, Provider } from '../../../src/op.ts'
import { type PostgresStoreOptions, postgresStore } from '../../../src/op-postgres.ts'
import { sqliteStore } from '../../../src/op-sqlite.ts'
import { issuer, opSession, testRuntime } from '../../../src/testing/op-store-bench.ts'
import { hasPostgres, startPostgres, type TestPostgres } from '../../support/postgres.ts'

const runtime = testRuntime()
const stores: { close(): Promise<void> }[] = []

function open(options: PostgresStoreOptions): ReturnType<typeof postgresStore> {
  const store = postgresStore(options)
  stores.push(store)
  return store
}

/** What the first use says. */
async function firstUse(options: PostgresStoreOptions): Promise<unknown> {
  return open(options)
    .forIssuer(issuer, runtime)
    .secret('any', async () => 'made')
    .catch((error: unknown) => error)
}

afterEach(async () => {
  await Promise.all(stores.splice(0).map((store) => store.close()))
})

describe('options of the PostgreSQL store', () => {
  const network = 'postgres://op:hunter2@db.example/op'
  const wrong: [what: string, options: PostgresStoreOptions][] = [
    ['no TLS', { connectionString: network }],
    ['no TLS to an address', { host: '192.0.2.1' }],
    ['TLS that is only hoped for', { connectionString: `${network}?sslmode=disable` }],
    ['a certificate nobody checks', { connectionString: `${network}?sslmode=no-verify` }],
    ['a certificate nobody checks, as an option', { connectionString: network, ssl: { rejectUnauthorized: false } }],
    ['a name that only looks local', { host: '127.0.0.1.example' }],
  ]
  it.each(wrong)('refuse a connection over the network with %s [T19]', (_, options) => {
    expect(() => open(options)).toThrow(expect.objectContaining({ name: 'TypeError' }))
    expect(() => open(options)).toThrow(/not protected.*sslmode=verify-full.*allowInsecure/)
    expect(() => open(options)).not.toThrow(/hunter2/)
    expect(() => open({ ...options, allowInsecure: true })).not.toThrow()
  })

  it.each<PostgresStoreOptions>([
    { connectionString: `${network}?sslmode=verify-full` },
    { host: 'db.example', ssl: true },
    { host: 'db.example', ssl: { ca: 'of our own' } },
    { host: '127.0.0.1' },
    { host: '::1' },
    { host: 'localhost' },
    { host: '/var/run/postgresql' },
    { connectionString: 'postgres://op@%2Fvar%2Frun%2Fpostgresql/op' },
  ])('take a protected or local one: %o [T19]', (options) => {
    expect(() => open(options)).not.toThrow()
  })

  it('name the one that is wrong', () => {
    expect(() => open({ schema: 'public; DROP TABLE x' })).toThrow(/^schema must be/)
    expect(() => open({ connectionString: 'postgres://op:hunter2@[/op' })).toThrow(/^connectionString is not/)
    expect(() => open({ connectionString: 'postgres://op:hunter2@[/op' })).not.toThrow(/hunter2/)
  })
})

describe.skipIf(!hasPostgres)('PostgreSQL at the start of a node', () => {
  let postgres: TestPostgres
  beforeAll(async () => {
    postgres = await startPostgres()
  }, 60_000)
  afterAll(() => postgres?.close())

  async function sql<Row extends object>(text: string): Promise<Row[]> {
    const client = new Client(postgres.connectionString)
    await client.connect()
    const { rows } = await client.query<Row>(text)
    await client.end()
    return rows
  }

  it('is made ready once by eight nodes that start at the same moment', async () => {
    const { connectionString } = postgres
    const nodes = Array.from({ length: 8 }, () => open({ connectionString, max: 2 }).forIssuer(issuer, runtime))
    const secrets = await Promise.all(nodes.map((node, i) => node.secret('keys', async () => `of ${i}`)))
    expect(new Set(secrets).size).toBe(1)
    expect(await sql('SELECT count(*) = max(step) AS each_once FROM lockstep_op.migration')).toEqual([
      { each_once: true },
    ])
    expect(await sql('SELECT count(*)::int AS n FROM lockstep_op.issuer')).toEqual([{ n: 1 }])
  })

  it('needs no right to create anything once the tables are there', async () => {
    await firstUse({ connectionString: postgres.connectionString })
    await sql(`
      CREATE ROLE app LOGIN PASSWORD 'app';
      GRANT USAGE ON SCHEMA lockstep_op TO app;
      GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA lockstep_op TO app`)
    expect(
      await firstUse({ host: '127.0.0.1', port: postgres.port, user: 'app', password: 'app', database: 'postgres' }),
    ).toBe('made')
  })

  it('waits for the disk even where the role was set not to [design §4]', async () => {
    await sql('ALTER ROLE tester SET synchronous_commit = off')
    const op = open({ connectionString: postgres.connectionString, schema: 'commits' }).forIssuer(issuer, runtime)
    await op.secret('any', async () => 'made')
    await sql(`
      CREATE TABLE commits.seen (what TEXT, setting TEXT);
      CREATE FUNCTION commits.look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO commits.seen VALUES (TG_TABLE_NAME || ' ' || TG_OP, current_setting('synchronous_commit'));
        RETURN NULL;
      END $$;
      CREATE TRIGGER look AFTER INSERT ON commits.op_session EXECUTE FUNCTION commits.look();
      CREATE TRIGGER look AFTER INSERT ON commits.model EXECUTE FUNCTION commits.look();
      CREATE TRIGGER look AFTER INSERT ON commits.logout EXECUTE FUNCTION commits.look();
      CREATE TRIGGER look AFTER UPDATE ON commits.delivery EXECUTE FUNCTION commits.look()`)
    await op.saveOpSession(opSession(runtime, { rps: [{ clientId: 'a', sid: 's', persistsLogout: false }] }))
    await op.putModel({ kind: 'Interaction', handle: 'h', payload: {} })
    await op.endOpSession('uid-1', { cause: 'admin' }, (told) => told)
    const real = open({ connectionString: postgres.connectionString, schema: 'commits' })
    await real.forIssuer(issuer, { ...runtime, now: Date.now }).claimDue({ limit: 1, lease: 1000 })
    await sql('ALTER ROLE tester RESET synchronous_commit')
    expect(await sql('SELECT what, setting FROM commits.seen ORDER BY what')).toEqual([
      { what: 'delivery UPDATE', setting: 'on' }, // a lease: two workers must never hold one fence
      { what: 'logout INSERT', setting: 'on' },
      { what: 'model INSERT', setting: 'on' },
      { what: 'op_session INSERT', setting: 'on' },
    ])
  })

  it.each([
    'fsync',
    'full_page_writes',
  ])('is refused with one sentence when it runs with %s=off [design §4]', async (name) => {
    await postgres.stop('fast')
    await postgres.start({ [name]: 'off' })
    try {
      expect(await firstUse({ connectionString: postgres.connectionString })).toMatchObject({
        code: 'store_not_durable',
        message: expect.stringMatching(
          new RegExp(`^PostgreSQL at 127.0.0.1:\\d+/postgres runs with ${name}=off .*set ${name}=on$`),
        ),
      })
    } finally {
      await postgres.stop('fast')
      await postgres.start()
    }
  })

  it('is refused when its database does not hold Unicode', async () => {
    await sql(`CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0`)
    const connectionString = postgres.connectionString.replace(/postgres$/, 'latin')
    expect(await firstUse({ connectionString })).toMatchObject({ message: expect.stringContaining('LATIN1') })
  })

  it('is refused when a newer Lockstep has been here', async () => {
    const options = { connectionString: postgres.connectionString, schema: 'newer' }
    await firstUse(options)
    await sql('INSERT INTO newer.migration (step) VALUES (99)')
    expect(await firstUse(options)).toMatchObject({
      code: 'store_failed',
      message: expect.stringMatching(/schema 99.*newer Lockstep/),
    })
  })

  it('makes op.ready() fail with where and why, never with the password', async () => {
    const elsewhere = sqliteStore(':memory:')
    stores.push(elsewhere)
    const jwks = { keys: [...(await openSecrets(elsewhere, issuer)).jwks.keys] }
    const { port } = postgres
    const cases: [PostgresStoreOptions, RegExp][] = [
      [
        { connectionString: 'postgres://op:hunter2@127.0.0.1:1/op' },
        /127\.0\.0\.1:1\/op cannot be reached: ECONNREFUSED/,
      ],
      [{ connectionString: 'postgres://op:hunter2@localhost:1/op' }, /localhost:1\/op cannot be reached: ECONNREFUSED/],
      [
        { connectionString: `postgres://tester:hunter2@127.0.0.1:${port}/postgres` },
        /28P01: password authentication failed/,
      ],
      [
        { connectionString: postgres.connectionString.replace(/postgres$/, 'none') },
        /3D000: database "none" does not exist/,
      ],
    ]
    for (const [options, words] of cases) {
      const configuration = { jwks, cookies: { keys: ['k'] }, features: { devInteractions: { enabled: false } } }
      const op = new Provider(issuer, configuration, { store: open(options), log: () => {} })
      const error: unknown = await op.ready().catch((failure: unknown) => failure)
      expect(error).toMatchObject({ code: 'store_failed', message: expect.stringMatching(words) })
      expect(String(error)).not.toMatch(/hunter2|secret/)
      await op.close()
    }
  })

  it('is found when it comes up after the node', async () => {
    await postgres.stop('fast')
    const op = open({ connectionString: postgres.connectionString }).forIssuer(issuer, runtime)
    await expect(op.getOpSession({ uid: 'u' })).rejects.toMatchObject({ code: 'store_failed' })
    await postgres.start()
    expect(await op.getOpSession({ uid: 'u' })).toBeUndefined()
  })

  it('may be closed twice, before its first use too', async () => {
    const store = open({ connectionString: postgres.connectionString })
    await Promise.all([store.close(), store.close()])
    const op = store.forIssuer(issuer, runtime)
    await expect(op.getOpSession({ uid: 'u' })).rejects.toMatchObject({ code: 'store_failed' })
  })
})
