import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import Database from 'better-sqlite3'
import { describe, expect, it } from 'vitest'
import { sqliteHints } from '../../../src/rp/store/sqlite-hints.ts'
import { migrate } from '../../../src/rp/store/sqlite-schema.ts'
import { prepareStatements } from '../../../src/rp/store/sqlite-statements.ts'
import { sqliteStore } from '../../../src/rp-sqlite.ts'
import { openSqlite } from '../../../src/runtime/sqlite.ts'
import {
  frozenClock,
  identity,
  opened,
  START,
  someNotice,
  someSession,
  statesOf,
} from '../../../src/testing/rp-store-bench.ts'
import { rpStoreContract } from '../../../src/testing.ts'
import { createVirtualTime } from '../virtual-time.ts'

async function openFile() {
  const folder = await mkdtemp(join(tmpdir(), 'lockstep-rp-'))
  const file = join(folder, 'app.db')
  return {
    file,
    store: sqliteStore(file),
    reopen: async () => sqliteStore(file),
    dispose: () => rm(folder, { recursive: true }),
  }
}

describe('sqliteStore in a file', () => {
  rpStoreContract({ describe, it }, { open: openFile, durable: true })
})

describe('sqliteStore in memory', () => {
  const open = async () => ({ store: sqliteStore(':memory:'), dispose: async () => {} })
  rpStoreContract({ describe, it }, { open, durable: false })
})

it('sqliteStore says store_failed of a file that is no database', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'lockstep-rp-'))
  const file = join(folder, 'letter.txt')
  await writeFile(file, 'Dear Ada, this is no database at all, however long it may become. '.repeat(50))
  expect(() => sqliteStore(file)).toThrow(expect.objectContaining({ code: 'store_failed' }))
  await rm(folder, { recursive: true })
})

describe('sqliteStore when a write fails', () => {
  const steps = {
    'DELETE ON rp_session': 'the deletion',
    'INSERT ON rp_ended': 'the ended record',
    'INSERT ON rp_jti': 'the jti',
    'INSERT ON rp_logged_out': 'the watermark',
    'INSERT ON rp_owed': 'what is owed',
  }
  it.each(Object.entries(steps))('claims nothing and ends nothing when %s (%s) fails [T7]', async (event) => {
    const { file, store, dispose } = await openFile()
    const rp = store.forClient(identity, frozenClock())
    const [handle = ''] = await opened(rp, someSession({ sid: 's', refreshToken: { sealed: 'token', offline: false } }))
    const notice = someNotice()
    const db = new Database(file)
    db.exec(`CREATE TRIGGER broken BEFORE ${event} BEGIN SELECT RAISE(ABORT, 'disk on fire'); END`)
    await expect(rp.endBy({ sid: 's' }, notice)).rejects.toMatchObject({
      code: 'store_failed',
      message: expect.stringContaining('disk on fire'),
    })
    expect(await statesOf(rp, handle)).toEqual(['alive'])
    expect(await rp.nextOwedAt()).toBeUndefined()
    db.exec('DROP TRIGGER broken')
    db.close()
    expect((await rp.create(someSession({ sid: 's' }))).outcome).toBe('created')
    expect(await rp.endBy({ sid: 's' }, notice)).toMatchObject({ outcome: 'ended' })
    expect(await statesOf(rp, handle)).toEqual(['ended'])
    expect(await rp.claimOwed({ limit: 5, lease: 1 })).toHaveLength(1)
    await store.close()
    await dispose()
  })

  it('refuses a file that a newer version wrote, and says so', async () => {
    const { file, store, dispose } = await openFile()
    await store.close()
    const db = new Database(file)
    db.exec('INSERT INTO rp_schema VALUES (99)')
    db.close()
    expect(() => sqliteStore(file)).toThrow(/newer version/)
    await dispose()
  })

  it('tells the tabs of another process on the file of a logout [T18]', async () => {
    const { file, store, dispose } = await openFile()
    const other = sqliteStore(file)
    const clock = frozenClock()
    const [here, there] = [store.forClient(identity, clock), other.forClient(identity, clock)]
    const [handle = ''] = await opened(here, someSession())
    const heard = new Promise<void>((resolve, reject) => {
      there.subscribe(handle, resolve).catch(reject)
    })
    await setImmediate()
    await here.delete(handle, { cause: 'admin', at: START })
    await heard // nothing else hints there
    expect(await statesOf(there, handle)).toEqual(['ended'])
    await store.close()
    await other.close()
    await dispose()
  })

  it('gives RP sessions that an async function may return, like those of any store', async () => {
    const { store, dispose } = await openFile()
    const find = async () => store.forClient(identity, frozenClock())
    expect(await (await find()).get('nobody')).toBeUndefined()
    await store.close()
    await dispose()
  })

  it('looks for what other processes do only while somebody listens', async () => {
    const time = createVirtualTime(START * 1000)
    const { file, store, dispose } = await openFile()
    const db = openSqlite(file)
    const hints = sqliteHints(db, time)
    expect(time.waiting()).toBe(0)
    let heard = 0
    const stops = ['one', 'two'].map((name) => hints.subscribe(name, () => heard++))
    await time.pass(10)
    expect([time.waiting(), heard]).toEqual([1, 0])
    await opened(store.forClient(identity, time), someSession())
    await time.pass(0.5)
    expect([time.waiting(), heard]).toEqual([1, 2])
    for (const stop of [...stops, ...stops]) stop()
    expect(time.waiting()).toBe(0)
    hints.subscribe('three', () => heard++)
    hints.close()
    expect(time.waiting()).toBe(0)
    db.close()
    await store.close()
    await dispose()
  })

  it('lets two processes share a file: a logout in one is found by the other [A51]', async () => {
    const { file, store, dispose } = await openFile()
    const other = sqliteStore(file)
    const clock = frozenClock()
    const [here, there] = [store.forClient(identity, clock), other.forClient(identity, clock)]
    const [handle = ''] = await opened(here, someSession({ sid: 's' }))
    await there.endBy({ sid: 's' }, someNotice())
    expect(await statesOf(here, handle)).toEqual(['ended'])
    await store.close()
    await other.close()
    await dispose()
  })
})

it('no statement of sqliteStore looks through all that a client has [BC §2.7]', () => {
  const db = new Database(':memory:')
  migrate(db)
  const plans = Object.values(prepareStatements(db))
    .flat()
    .filter(({ source }) => !source.startsWith('INSERT'))
    .map(({ source }) => {
      const values = Array.from(source.matchAll(/\?/g), () => 1)
      const steps = db.prepare(`EXPLAIN QUERY PLAN ${source}`).all(...values) as { detail: string }[]
      return `${source}: ${steps.map(({ detail }) => detail).join(', ')}`
    })
  expect(plans.length).toBeGreaterThan(20)
  for (const plan of plans) expect(plan).not.toMatch(/SCAN|\(client=\?\)/)
  db.close()
})
