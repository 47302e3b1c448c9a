import { Client } from 'pg'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { OpIssuerStore } from '../../../src/op/store/contract.ts'
import { postgresStore } from '../../../src/op-postgres.ts'
import { hasPostgres, startPostgres, type TestPostgres } from '../../support/postgres.ts'

const ending = { cause: 'account_deleted', revokeOffline: true } as const
const day = 86_400_000
const hers = { payload: { accountId: 'ada' }, grantId: 'hers', accountId: 'ada', clientId: 'notes' }

let postgres: TestPostgres
let db: Client
let made = 0
let skipped: number
const now = (): number => Date.now() + skipped
const opened: { close(): Promise<unknown> }[] = []

/** A node of its own; its clock may be wrong, that of the database is not. */
function openNode(skew = 0): OpIssuerStore {
  const store = postgresStore({
    connectionString: postgres.connectionString,
    schema: `erase_${made}`,
    clock: now,
  })
  opened.push(store)
  const random = (length: number) => crypto.getRandomValues(new Uint8Array(length))
  return store.forIssuer('https://op.example', { now: () => now() + skew, random })
}

const rows = async <Row extends object>(sql: string): Promise<Row[]> => (await db.query<Row>(sql)).rows

describe.skipIf(!hasPostgres)('the erasure of an account in PostgreSQL', () => {
  beforeAll(async () => {
    postgres = await startPostgres()
  }, 60_000)
  afterAll(() => postgres?.close())
  beforeEach(async () => {
    made += 1
    skipped = 0
    db = new Client(postgres.connectionString)
    await db.connect()
    await db.query(`SET search_path = erase_${made}`)
  })
  afterEach(async () => {
    for (const each of opened.splice(0).reverse()) await each.close()
    await db.end()
  })

  it('reaches a grant that was put before it and whose commit came after its walk [T30]', async () => {
    const op = openNode()
    await op.putModel({ kind: 'Client', handle: 'notes', payload: {} })
    // The commit of a grant waits until this connection lets go of what it locks.
    await db.query(`CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
      'BEGIN PERFORM pg_advisory_xact_lock_shared(4711); RETURN NEW; END'`)
    await db.query(`CREATE TRIGGER wait AFTER INSERT ON model FOR EACH ROW WHEN (NEW.kind = 'Grant')
      EXECUTE FUNCTION wait()`)
    await db.query('SELECT pg_advisory_lock(4711)')
    const putting = op.putModel({ kind: 'Grant', handle: 'hers', ...hers })
    const waiting = `SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted`
    await expect.poll(() => rows(waiting)).toHaveLength(1)

    const { id } = await op.eraseAccount('ada', ending)
    const step = () => op.eraseSome({ limit: 100, pause: 0, wait: 60_000 })
    while (await step());
    await db.query('SELECT pg_advisory_unlock(4711)')
    await putting
    expect(await rows(`SELECT 1 FROM model WHERE account_id = 'ada'`)).toHaveLength(1)
    expect(await op.getModel('Grant', { handle: 'hers' })).toBeUndefined() // refused as long as the job has her name

    while (await op.claimEndJob({ limit: 10, lease: 1000 }));
    skipped += day
    for (let i = 0; i < 20 && (await op.getErasure(id))?.state === 'running'; i++) {
      skipped += 61_000
      while ((await step())?.state === 'running');
    }
    expect(await op.getErasure(id)).toMatchObject({ state: 'done' })
    expect(await rows(`SELECT 1 FROM model WHERE account_id = 'ada'`)).toEqual([])
    expect(await op.getModel('Grant', { handle: 'hers' })).toBeUndefined()
  })

  it('is done once when nodes whose clocks differ work on it at the same moment [T30]', async () => {
    const nodes = [openNode(), openNode(3_600_000), openNode(-3_600_000)]
    const [op = expect.unreachable()] = nodes
    await op.putModel({ kind: 'Client', handle: 'notes', payload: {} })
    const [issuer] = await rows<{ id: number }>('SELECT id FROM issuer')
    await db.query(
      `INSERT INTO model (issuer, kind, handle, payload, expires_at, grant_id, account_id, since)
       SELECT $1, 'AccessToken', 'h' || i, '{}', 9000000000, who || i % 700, who, 1
       FROM generate_series(1, 3000) AS i, LATERAL (SELECT CASE i % 3 WHEN 0 THEN 'bob' ELSE 'ada' END) AS account (who)`,
      [issuer?.id],
    )
    await db.query(
      `INSERT INTO logout (issuer, id, uid, account_id, cause, ended_at)
       SELECT $1, 'l' || i, 'u' || i, 'ada', 'admin', 1 FROM generate_series(1, 300) AS i`,
      [issuer?.id],
    )
    const { id } = await op.eraseAccount('ada', { ...ending, actor: 'ada' })
    let done = 0
    const work = async (node: OpIssuerStore): Promise<void> => {
      for (let i = 0; i < 60; i++) {
        const step = await node.eraseSome({ limit: 7, pause: 0, wait: 1 })
        if (step?.state === 'done') done += 1
        await node.claimEndJob({ limit: 5, lease: 1 })
      }
    }
    await Promise.all(nodes.map(work))
    expect((await op.getErasure(id))?.state).toBe('running')
    skipped += day
    for (let i = 0; i < 20 && (await op.getErasure(id))?.state === 'running'; i++) {
      skipped += 1_000 // an erasure that waits is looked at again later, by the database's clock
      await Promise.all(nodes.map(work))
    }
    expect((await op.getErasure(id))?.state).toBe('done')
    await Promise.all(nodes.map(work))
    expect(done).toBe(1)
    expect(await rows(`SELECT 1 FROM model WHERE account_id = 'ada'`)).toEqual([])
    expect(await rows(`SELECT 1 FROM model WHERE account_id = 'bob'`)).toHaveLength(1000)
    expect(await rows(`SELECT 1 FROM logout WHERE account_id = 'ada' OR actor = 'ada'`)).toEqual([])
    expect(await rows(`SELECT 1 FROM end_job WHERE name = 'ada' OR actor = 'ada'`)).toEqual([])
  })
})
