import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { migrate } from '../../../src/op/store/sqlite-schema.ts'
import { sqliteStore } from '../../../src/op-sqlite.ts'
import { openSqlite } from '../../../src/runtime/sqlite.ts'
import { issuer, loggedIn, opSession, testRuntime } from '../../../src/testing/op-store-bench.ts'

let folder: string
let file: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lockstep-migration-'))
  file = join(folder, 'op.db')
})
afterEach(async () => {
  await rm(folder, { recursive: true })
})

describe('a file of the first schema', () => {
  it('keeps its OP sessions, tokens and logouts, and all of them are older than an end of today [T2]', async () => {
    const runtime = testRuntime()
    const seconds = Math.floor(runtime.now() / 1000)
    const db = openSqlite(file)
    migrate(db, 1)
    db.exec(`
      INSERT INTO issuer (id, url) VALUES (1, '${issuer}');
      INSERT INTO op_session VALUES (1, 'uid-1', 'handle-1', 'alice', '{"loginTs":1}', ${seconds - 60}, ${seconds + 3600});
      INSERT INTO op_session_handle VALUES (1, 'handle-1', 'uid-1');
      INSERT INTO op_session_client VALUES (1, 'uid-1', 'notes', 'sid-notes', 'g', 1);
      INSERT INTO model VALUES (1, 'Grant', 'g', '{"accountId":"alice","clientId":"notes"}', ${seconds + 3600}, 'g', NULL);
      INSERT INTO model VALUES (1, 'RefreshToken', 'r', '{"accountId":"alice","clientId":"notes"}', ${seconds + 3600}, 'g', NULL);
      INSERT INTO model VALUES (1, 'Interaction', 'i', '{"result":{"login":{"accountId":"alice"}}}', ${seconds + 3600}, NULL, NULL);
      INSERT INTO model VALUES (1, 'Client', 'c', '{"client_id":"notes"}', NULL, NULL, NULL);
      INSERT INTO logout VALUES (1, 1, 'logout-1', 'uid-0', 'alice', 'op_logout', NULL, NULL, ${runtime.now() - 1000});
      INSERT INTO delivery (seq, issuer, id, logout, client_id, sid, state, attempts, created_at, due_at)
        VALUES (1, 1, 'delivery-1', 1, 'notes', 's', 'due', 1, ${runtime.now() - 1000}, ${runtime.now()});
      INSERT INTO attempt VALUES (1, 1, 10, 20, '{"state":"due"}');`)
    db.close()

    const store = sqliteStore(file)
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
    const models = ['Grant g', 'RefreshToken r', 'Interaction i', 'Client c'].map((name) => name.split(' '))
    const left = async (): Promise<string[]> => {
      const found = await Promise.all(models.map(([kind = '', handle = '']) => op.getModel(kind, { handle })))
      return found.flatMap((model) => (model ? [model.kind] : []))
    }
    expect(await left()).toEqual(['Grant', 'RefreshToken', 'Interaction', 'Client'])

    await op.endAll({ accountId: 'alice' }, { cause: 'compromise', revokeOffline: true })
    expect(await left()).toEqual(['Client'])
    expect(await op.saveOpSession(opSession(runtime))).toBe('ended')
    await op.forget({ attempts: 21, logouts: 0 }, 10)
    await store.close()

    const again = openSqlite(file)
    expect(again.prepare('SELECT count(*) AS n FROM attempt').get()).toEqual({ n: 0 })
    expect(again.pragma('foreign_key_check')).toEqual([])
    expect(again.pragma('integrity_check', { simple: true })).toBe('ok')
    again.close()
  })
})
