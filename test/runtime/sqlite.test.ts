import { chmodSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { openSqlite, refuseUnlessDurable } from '../../src/runtime/sqlite.ts'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'lockstep-sqlite-'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

it('makes a database, and what SQLite puts beside it, for this user alone [T6]', () => {
  chmodSync(folder, 0o755)
  const db = openSqlite(join(folder, 'op.db'))
  db.exec('CREATE TABLE t (x)')
  const modes = readdirSync(folder).map((name) => statSync(join(folder, name)).mode & 0o777)
  db.close()
  expect(modes).toEqual([0o600, 0o600, 0o600])
})

it.each([
  ['NORMAL', 'WAL'],
  ['OFF', 'WAL'],
  ['FULL', 'DELETE'],
])('refuses a database that reads back synchronous=%s and journal_mode=%s [design §4]', (synchronous, journal) => {
  const db = new Database(join(folder, 'op.db'))
  try {
    db.pragma(`journal_mode = ${journal}`)
    db.pragma(`synchronous = ${synchronous}`)
    expect(() => refuseUnlessDurable(db)).toThrow(
      expect.objectContaining({ code: 'store_not_durable', message: expect.stringContaining('synchronous=FULL') }),
    )
    db.pragma('journal_mode = WAL')
    db.pragma('synchronous = FULL')
    refuseUnlessDurable(db)
  } finally {
    db.close()
  }
})

it('says what to do about a file that cannot be opened, and that it was not', () => {
  const file = join(folder, 'nowhere', 'op.db')
  expect(() => openSqlite(file)).toThrow(
    expect.objectContaining({
      code: 'store_failed',
      message: expect.stringMatching(/nowhere.op\.db cannot be opened \(ENOENT\): .*the user of this process/),
    }),
  )
})
