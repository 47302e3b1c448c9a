import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { sqliteStore } from '../../src/op-sqlite.ts'
import { world } from '../../src/runtime/runtime.ts'

let folder: string
let file: string
const cleanups: (() => Promise<unknown>)[] = []

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lockstep-erasure-'))
  file = join(folder, 'op.db')
})
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
  await rm(folder, { recursive: true })
})

/** A real process that dies in the midst of an erasure; answers the erasure's id. */
async function eraseUntilKilled(moment: string): Promise<string> {
  const script = new URL('erasure-child.ts', import.meta.url).pathname
  const args = ['-C', '@lockstep/source', script, file, moment]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  cleanups.push(async () => child.kill('SIGKILL'))
  const exit = once(child, 'exit')
  let said = ''
  for await (const text of child.stdout.setEncoding('utf8')) said += text
  expect((await exit)[1]).toBe('SIGKILL')
  return said.trim()
}

function tokens(): { account_id: string; count: number }[] {
  const db = new Database(file, { readonly: true })
  const sql = `SELECT account_id, count(*) AS count FROM model WHERE kind = 'AccessToken' GROUP BY account_id ORDER BY 1`
  const rows = db.prepare<[], { account_id: string; count: number }>(sql).all()
  db.close()
  return rows
}

it.each([
  'after the first step',
  'in the second step',
])('the next process goes on with an erasure after a kill %s [T30] [design §4]', async (moment) => {
  const id = await eraseUntilKilled(moment)
  let skipped = 0
  const store = sqliteStore(file)
  cleanups.push(() => store.close())
  const op = store.forIssuer('https://op.example', { ...world, now: () => world.now() + skipped })
  await op.takeOver()
  expect(tokens()).toEqual([
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
  expect(tokens()).toEqual([{ account_id: 'bob', count: 1 }])
})
