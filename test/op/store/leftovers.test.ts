import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { Client } from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { OpIssuerStore, OpStore, PlannedDelivery } from '../../../src/op/store/contract.ts'
import { postgresStore } from '../../../src/op-postgres.ts'
import { sqliteStore } from '../../../src/op-sqlite.ts'
import { issuer, loggedIn, opSession, testRuntime } from '../../../src/testing/op-store-bench.ts'
import { hasPostgres, startPostgres, type TestPostgres } from '../../support/postgres.ts'

// No table grows for ever: what was there once is gone when nobody needs it any more.

const day = 86_400_000
const runtime = testRuntime()
let postgres: TestPostgres | undefined
let folder: string
beforeAll(async () => {
  if (hasPostgres) postgres = await startPostgres()
  folder = await mkdtemp(join(tmpdir(), 'lockstep-leftovers-'))
}, 60_000)
afterAll(async () => {
  await postgres?.close()
  await rm(folder, { recursive: true })
})

const compromise = { cause: 'compromise', revokeOffline: true } as const
const seconds = (): number => Math.floor(runtime.now() / 1000)
const inTurn = (told: readonly { clientId: string; sid: string }[]): PlannedDelivery[] =>
  told.map(({ clientId, sid }, i) => ({ clientId, sid, mechanism: i === 0 ? 'frontchannel' : 'backchannel' }))

/** Some of all that an OP keeps. */
async function live(op: OpIssuerStore): Promise<void> {
  for (const [accountId, uid] of Object.entries({ alice: 'a', bob: 'b', carol: 'c', dora: 'd' })) {
    const rps = ['notes', 'mail'].map((app) => loggedIn(app, { sid: `${uid}-${app}`, grantId: `grant-${uid}-${app}` }))
    await op.saveOpSession(opSession(runtime, { uid, handle: uid, accountId, rps }))
    await op.saveOpSession(opSession(runtime, { uid, handle: `${uid}, new`, accountId, rps }))
    await op.retireHandle(uid)
    const owned = { accountId, clientId: 'notes', payload: { accountId } }
    const grantId = `grant-${uid}-notes`
    await op.putModel({ ...owned, kind: 'Grant', handle: grantId, grantId, expiresAt: seconds() + 1000 })
    await op.putModel({ ...owned, kind: 'RefreshToken', handle: uid, grantId, expiresAt: seconds() + 1000 })
    await op.putModel({ ...owned, kind: 'AccessToken', handle: `for ever ${uid}` })
  }
  const { accountId: _, ...anonymous } = opSession(runtime, { uid: 'anonymous', handle: 'anonymous' })
  await op.saveOpSession(anonymous)
  await op.claimLogin('never saved', { clientId: 'notes', sid: 's', grantId: 'g' })
  await op.putModel({ kind: 'Interaction', handle: 'i', payload: {}, alias: 'x', expiresAt: seconds() + 10 })
  await op.putModel({ kind: 'Client', handle: 'notes', payload: { client_id: 'notes' } })
  await op.takeAttempt([{ name: 'https://rp.example', perHour: 10 }])
  await op.noteAnswered('notes', 'uri')
  await op.noteTrouble('mail', { tellAfter: 0, pause: 1 })
  await op.secret('keys', async () => 'a key')
}

/** Months of an OP that does what it does by itself. */
async function pass(months: number, op: OpIssuerStore): Promise<void> {
  for (let month = 0; month < months; month++) {
    runtime.pass(30 * day)
    for (let turn = 0; turn < 5; turn++) {
      const expired = (await op.expiredOpSessions(100)).map(({ uid }) => uid)
      await op.endOpSessions(expired, { cause: 'expired' }, inTurn)
      const claimed = await op.claimEndJob({ limit: 100, lease: 1000 })
      if (claimed?.job.state === 'running') {
        const uids = claimed.next.map(({ uid }) => uid)
        await op.endOpSessions(uids, compromise, inTurn, { id: claimed.job.id, pause: 0 })
      }
      const times = { dueAt: runtime.now(), startedAt: runtime.now(), finishedAt: runtime.now() }
      for (const delivery of await op.claimDue({ limit: 100, lease: 1000 })) {
        await op.settle(delivery, { ...times, outcome: { state: 'delivered', status: 200 } })
      }
      await op.eraseSome({ limit: 100, pause: 0, wait: 1 })
      await op.forget({ attempts: runtime.now() - 30 * day, logouts: runtime.now() - 365 * day }, 100)
      await op.putModel({ kind: 'Interaction', handle: 'now', payload: {}, expiresAt: seconds() + 10 })
      runtime.pass(61_000)
    }
  }
}

const places: Readonly<Record<string, () => { store: OpStore; count(): Promise<Record<string, number>> }>> = {
  SQLite: () => {
    const file = join(folder, 'op.db')
    return {
      store: sqliteStore(file),
      async count() {
        const db = new Database(file, { readonly: true })
        const tables = db
          .prepare<[], { name: string }>(
            `SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'`,
          )
          .all()
        const counted = tables.map(({ name }): [string, number] => [
          name,
          db.prepare<[], { n: number }>(`SELECT count(*) AS n FROM ${name}`).get()?.n ?? Number.NaN,
        ])
        db.close()
        return Object.fromEntries(counted)
      },
    }
  },
  PostgreSQL: () => {
    const { connectionString = '' } = postgres ?? {}
    return {
      store: postgresStore({ connectionString, schema: 'leftovers', clock: () => runtime.now() }),
      async count() {
        const client = new Client(connectionString)
        await client.connect()
        await client.query('SET search_path = leftovers')
        const tables = await client.query<{ name: string }>(
          `SELECT tablename AS name FROM pg_tables WHERE schemaname = current_schema() AND tablename <> 'migration'`,
        )
        const counted: [string, number][] = []
        for (const { name } of tables.rows) {
          const { rows } = await client.query<{ n: number }>(`SELECT count(*)::int AS n FROM "${name}"`)
          counted.push([name, rows[0]?.n ?? Number.NaN])
        }
        await client.end()
        return Object.fromEntries(counted)
      },
    }
  },
}

describe.each(Object.keys(places))('in %s', (name) => {
  it.skipIf(name === 'PostgreSQL' && !hasPostgres)(
    'nothing is left of logins and logouts after two years, but what never ends: clients and secrets [T30]',
    async () => {
      const { store, count } = places[name]?.() ?? expect.unreachable()
      const op = store.forIssuer(issuer, runtime)
      await live(op)
      runtime.pass(1)
      await op.endAll({ accountId: 'alice' }, compromise, ['a'])
      await op.endAll({ accountId: 'bob' }, compromise)
      await op.eraseAccount('carol', { ...compromise, cause: 'account_deleted' })
      const full = await count()
      const empty = ['attempt', 'delivery', 'frame_notice', 'logout'] // these come with the first logouts
      expect(
        Object.keys(full)
          .filter((table) => full[table] === 0)
          .sort(),
      ).toEqual(empty)
      await pass(1, op)
      const then = await count()
      expect(empty.filter((table) => then[table] === 0)).toEqual([])
      await pass(26, op)

      expect(await count()).toEqual({
        ...Object.fromEntries(Object.keys(full).map((table) => [table, 0])),
        issuer: 1,
        secret: 1,
        model: 3, // the client, the interaction of this moment, and what nobody ended: dora's token that never expires
      })
      expect(await op.getModel('Client', { handle: 'notes' })).toBeDefined()
      // refused by a job that is forgotten: it must not come back
      for (const uid of 'abc') expect(await op.getModel('AccessToken', { handle: `for ever ${uid}` })).toBeUndefined()
      expect(await op.getModel('AccessToken', { handle: 'for ever d' })).toBeDefined()
      await store.close()
    },
  )
})
