import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { Client } from 'pg'
import { afterEach, describe, expect, it } from 'vitest'
import type { OpStore } from '../../src/op.ts'
import { postgresStore } from '../../src/op-postgres.ts'
import { sqliteStore } from '../../src/op-sqlite.ts'
import { world } from '../../src/runtime/runtime.ts'
import { hasPostgres, startPostgres } from '../support/postgres.ts'

const cleanups: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

/** A database, and how to look at it from outside. */
interface TestDatabase {
  /** A file, or a connection string. */
  readonly place: string
  readonly open: (clock: () => number) => OpStore
  readonly query: (sql: string) => Promise<unknown[]>
}

async function sqlite(): Promise<TestDatabase> {
  const folder = await mkdtemp(join(tmpdir(), 'lockstep-erasure-'))
  cleanups.push(() => rm(folder, { recursive: true }))
  const place = join(folder, 'op.db')
  return {
    place,
    open: () => sqliteStore(place),
    async query(sql) {
      const db = new Database(place, { readonly: true })
      const rows = db.prepare<[], unknown>(sql).all()
      db.close()
      return rows
    },
  }
}

async function postgres(): Promise<TestDatabase> {
  const server = await startPostgres()
  cleanups.push(() => server.close())
  const { connectionString } = server
  return {
    place: connectionString,
    open: (clock) => postgresStore({ connectionString, clock }),
    async query(sql) {
      const db = new Client({ connectionString, options: '-c search_path=lockstep_op' })
      await db.connect()
      const { rows } = await db.query<object>(sql)
      await db.end()
      return rows
    },
  }
}

/** A real process that dies in the midst of an erasure; answers the erasure's id. */
async function eraseUntilKilled(place: string, moment: string): Promise<string> {
  const script = new URL('erasure-child.ts', import.meta.url).pathname
  const args = ['-C', '@lockstep/source', script, place, moment]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  cleanups.push(async () => child.kill('SIGKILL'))
  const exit = once(child, 'exit')
  let said = ''
  for await (const text of child.stdout.setEncoding('utf8')) said += text
  expect((await exit)[1]).toBe('SIGKILL')
  return said.trim()
}

/** How many access tokens each account has. */
const counted = `SELECT account_id, CAST(count(*) AS INTEGER) AS count FROM model WHERE kind = 'AccessToken'
  GROUP BY account_id ORDER BY 1`

describe.each([
  ['SQLite', sqlite, true],
  ['PostgreSQL', postgres, hasPostgres],
] as const)('the erasure of an account in %s', (_, startDatabase, isThere) => {
  it.skipIf(!isThere).each(['after the first step', 'in the second step'])(
    'goes on in the next process after a kill %s [T30] [design §4]',
    async (moment) => {
      const database = await startDatabase()
      const id = await eraseUntilKilled(database.place, moment)
      let skipped = 0
      const now = () => world.now() + skipped
      const store = database.open(now)
      cleanups.push(() => store.close())
      const op = store.forIssuer('https://op.example', { ...world, now })
      await op.takeOver()
      expect(await database.query(counted)).toEqual([
        { account_id: 'ada', count: 1500 },
        { account_id: 'bob', count: 1 },
      ])
      expect(await op.getErasure(id)).toMatchObject({ state: 'running', accountId: 'ada' })
      expect(await op.getModel('AccessToken', { handle: 'hers 2499' })).toBeUndefined()

      skipped = 86_400_000
      while (await op.claimEndJob({ limit: 10, lease: 1000 }));
      for (let i = 0; i < 50 && (await op.getErasure(id))?.state === 'running'; i++) {
        skipped += 61_000
        await op.eraseSome({ limit: 10, pause: 0, wait: 60_000 })
      }
      expect(await op.getErasure(id)).toMatchObject({ state: 'done' })
      expect(await database.query(counted)).toEqual([{ account_id: 'bob', count: 1 }])
    },
  )
})
