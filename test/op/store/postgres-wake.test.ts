import { Client } from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { OpIssuerStore } from '../../../src/op/store/contract.ts'
import { postgresStore } from '../../../src/op-postgres.ts'
import { world } from '../../../src/runtime/runtime.ts'
import { owe } from '../../../src/testing/op-store-bench.ts'
import { hasPostgres, startPostgres, type TestPostgres } from '../../support/postgres.ts'

describe.skipIf(!hasPostgres)('a PostgreSQL in which every NOTIFY hangs', () => {
  let postgres: TestPostgres
  let admin: Client

  beforeAll(async () => {
    postgres = await startPostgres()
    admin = new Client({ connectionString: postgres.connectionString })
    await admin.connect()
    await admin.query('ALTER FUNCTION pg_catalog.pg_notify(text, text) RENAME TO pg_notify_at_once')
    await admin.query('CREATE TABLE public.hold ()')
    await admin.query(`CREATE FUNCTION pg_catalog.pg_notify(text, text) RETURNS void LANGUAGE plpgsql AS '
      BEGIN
        WHILE EXISTS (SELECT FROM public.hold) LOOP PERFORM pg_sleep(0.01); END LOOP;
        PERFORM pg_notify_at_once($1, $2);
      END'`)
  }, 60_000)
  afterAll(async () => {
    await admin?.end()
    await postgres?.close()
  })

  const logOut = (op: OpIssuerStore, uid: string) => owe({ op, runtime: { ...world, pass: () => {} } }, uid, ['notes'])

  it('keeps no user waiting who logs out, and the other nodes hear of all as soon as it goes on', async () => {
    const [a, b] = [1, 2].map(() => postgresStore({ connectionString: postgres.connectionString }))
    const [atA, atB] = [a, b].map((store) => store?.forIssuer('https://op.example', world) ?? expect.unreachable())
    if (!a || !b || !atA || !atB) return expect.unreachable()
    let heard = 0
    const stopListening = atB.onWake?.(() => {
      heard++
    })
    await atB.nextDueAt() // from here on it listens
    const before = heard
    await admin.query('INSERT INTO public.hold DEFAULT VALUES')
    for (const uid of ['one', 'another', 'a third']) {
      const { logout } = await logOut(atA, uid)
      expect((await atB.getLogout(logout.id))?.deliveries).toMatchObject([{ state: 'due' }])
    }
    expect(heard).toBe(before)
    await admin.query('DELETE FROM public.hold')
    await expect.poll(() => heard).toBeGreaterThan(before)
    stopListening?.()
    await Promise.all([a.close(), b.close()])
  })

  it('rings all the same when the store is closed right after a logout', async () => {
    const [a, b] = [1, 2].map(() => postgresStore({ connectionString: postgres.connectionString }))
    if (!a || !b) return expect.unreachable()
    const atB = b.forIssuer('https://op.example', world)
    let heard = 0
    const stopListening = atB.onWake?.(() => {
      heard++
    })
    await atB.nextDueAt()
    const before = heard
    await admin.query('INSERT INTO public.hold DEFAULT VALUES')
    await logOut(a.forIssuer('https://op.example', world), 'last')
    const closed = a.close()
    await admin.query('DELETE FROM public.hold')
    await closed
    await expect.poll(() => heard).toBeGreaterThan(before)
    stopListening?.()
    await b.close()
  })
})
