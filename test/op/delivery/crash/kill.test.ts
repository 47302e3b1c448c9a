import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { afterEach, expect, it } from 'vitest'
import { sqliteStore } from '../../../../src/op-sqlite.ts'
import { world } from '../../../../src/runtime/runtime.ts'
import { openSqlite } from '../../../../src/runtime/sqlite.ts'
import { crashWorld, seedOf, times } from './crash-world.ts'

const cleanups: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

it('an OP that is killed at random moments while 2,000 deliveries are due loses no logout and sends no wrong token [design §4]', async () => {
  const kills = times(20)
  const folder = await mkdtemp(join(tmpdir(), 'lockstep-crash-'))
  cleanups.push(() => rm(folder, { recursive: true }))
  const file = join(folder, 'op.db')
  const atStart = 2 * kills
  const crash = await crashWorld({
    seed: seedOf('kill -9'),
    rps: 50,
    logouts: atStart + kills,
    store: { file },
    openStore: () => sqliteStore(file),
  })
  cleanups.push(() => crash.close())
  const { rps, chance, uids } = crash

  let op = await crash.start()
  rps.allow(0)
  await crash.endAll(op, uids.slice(0, atStart))
  for (let kill = 0; kill < kills; kill++) {
    const answers = chance.below(90)
    rps.allow(answers)
    await rps.more(chance.below(answers + 1))
    op.end(uids[atStart + kill] ?? '') // the kill may meet it before, in or after its transaction
    await wait(chance.below(12))
    expect(crash.untold(), 'the kill came too late').toBeGreaterThan(0)
    await op.kill()
    rps.senderDied()
    op = await crash.start()
  }
  rps.allow(Number.POSITIVE_INFINITY)
  await crash.endAll(op, uids)
  await crash.told()
  const look = openSqlite(file)
  cleanups.push(async () => look.close())
  const states = () => look.prepare('SELECT state, count(*) AS n FROM delivery GROUP BY state').all()
  await expect.poll(states, { timeout: 300_000, interval: 250 }).toEqual([{ state: 'delivered', n: uids.length * 50 }])
  await op.stop()

  expect(crash.violations({ mayOverlap: false })).toEqual([])
  const store = sqliteStore(file)
  cleanups.push(() => store.close())
  const left = store.forIssuer('https://op.example', world)
  for (const uid of uids) expect(await left.getOpSession({ uid })).toBeUndefined()
  expect(rps.received.length).toBeGreaterThanOrEqual(uids.length * 50)
}, 600_000)
