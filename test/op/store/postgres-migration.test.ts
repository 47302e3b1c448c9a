import { Client } from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { migrate } from '../../../src/op/store/postgres-schema.ts'
import { postgresStore } from '../../../src/op-postgres.ts'
import { openPostgres } from '../../../src/runtime/postgres.ts'
import { resolvePostgresOptions } from '../../../src/runtime/postgres-connection.ts'
import { issuer, loggedIn, opSession, testRuntime } from '../../../src/testing/op-store-bench.ts'
import { hasPostgres, startPostgres, type TestPostgres } from '../../support/postgres.ts'

let postgres: TestPostgres

describe.skipIf(!hasPostgres)('tables of the first schema', () => {
  beforeAll(async () => {
    postgres = await startPostgres()
  }, 60_000)
  afterAll(() => postgres?.close())

  it('keep their OP sessions, tokens and logouts, and all of them are older than an end of today [T2]', async () => {
    const runtime = testRuntime()
    const now = runtime.now()
    const later = Math.floor(now / 1000) + 3600
    const { connectionString } = postgres
    const resolved = resolvePostgresOptions({ connectionString }, 'lockstep_op')
    const db = openPostgres(resolved)
    await migrate(db, resolved, 1)
    await db.close()
    const admin = new Client({ connectionString })
    await admin.connect()
    await admin.query(`
      SET search_path = lockstep_op;
      INSERT INTO issuer (url) VALUES ('${issuer}');
      INSERT INTO op_session VALUES (1, 'uid-1', 'handle-1', 'alice', '{"loginTs":1}', ${later - 3660}, ${later});
      INSERT INTO op_session_handle VALUES (1, 'handle-1', 'uid-1');
      INSERT INTO op_session_client VALUES (1, 'uid-1', 'notes', 'sid-notes', 'g', true);
      INSERT INTO model VALUES
        (1, 'Grant', 'g', '{"accountId":"alice","clientId":"notes"}', ${later}, 'g'),
        (1, 'RefreshToken', 'r', '{"accountId":"alice","clientId":"notes"}', ${later}, 'g'),
        (1, 'Interaction', 'i', '{"result":{"login":{"accountId":"alice"}}}', ${later}, NULL),
        (1, 'Interaction', 'odd', '{"params":{"state":"\\u0000 \\ud800"}}', ${later}, NULL),
        (1, 'Client', 'c', '{"client_id":"notes"}', NULL, NULL);
      INSERT INTO logout (issuer, id, uid, account_id, cause, ended_at)
        VALUES (1, 'logout-1', 'uid-0', 'alice', 'op_logout', ${now - 1000});
      INSERT INTO delivery (issuer, id, logout, client_id, sid, state, attempts, created_at, due_at)
        VALUES (1, 'delivery-1', 1, 'notes', 's', 'due', 1, ${now - 1000}, ${now});
      INSERT INTO attempt VALUES (1, 1, 10, 20, '{"state":"due"}')`)

    const store = postgresStore({ connectionString, clock: runtime.now })
    const op = store.forIssuer(issuer, runtime)
    expect(await op.getOpSession({ handle: 'handle-1' })).toMatchObject({
      accountId: 'alice',
      rps: [loggedIn('notes', { grantId: 'g', persistsLogout: true })],
    })
    expect((await op.listOpSessions('everyone')).sessions).toMatchObject([{ uid: 'uid-1' }])
    expect(await op.getLogout('logout-1')).toMatchObject({ deliveries: [{ clientId: 'notes', attempts: 1 }] })
    expect((await op.getDelivery('delivery-1', 9))?.attempts).toEqual([
      { dueAt: 10, startedAt: 10, finishedAt: 20, outcome: { state: 'due' } },
    ])
    expect((await op.listDeliveries({ accountId: 'alice' }, { limit: 9 })).deliveries).toHaveLength(1)
    const models = ['Grant g', 'RefreshToken r', 'Interaction i', 'Interaction odd', 'Client c']
    const left = async (): Promise<string[]> => {
      const found = await Promise.all(
        models.map((name) => name.split(' ')).map(([kind = '', handle = '']) => op.getModel(kind, { handle })),
      )
      return found.flatMap((model) => (model ? [`${model.kind} ${model.handle}`] : []))
    }
    expect(await left()).toEqual(models)

    await op.endAll({ accountId: 'alice' }, { cause: 'compromise', revokeOffline: true })
    expect(await left()).toEqual(['Interaction odd', 'Client c'])
    expect(await op.saveOpSession(opSession(runtime))).toBe('ended')
    await op.forget({ attempts: 21, logouts: 0 }, 10)
    expect((await admin.query('SELECT count(*)::int AS n FROM attempt')).rows).toEqual([{ n: 0 }])
    await admin.end()
    await store.close()
  })
})
