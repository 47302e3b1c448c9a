import { chmodSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, expect, it } from 'vitest'
import { openSqlite } from '../../src/runtime/sqlite.ts'

const folder = mkdtempSync(join(tmpdir(), 'lockstep-sqlite-'))
afterEach(() => rmSync(folder, { recursive: true, force: true }))

it('makes a database, and what SQLite puts beside it, for this user alone [T6]', () => {
  chmodSync(folder, 0o755)
  const db = openSqlite(join(folder, 'op.db'))
  db.exec('CREATE TABLE t (x)')
  const modes = readdirSync(folder).map((name) => statSync(join(folder, name)).mode & 0o777)
  db.close()
  expect(modes).toEqual([0o600, 0o600, 0o600])
})
