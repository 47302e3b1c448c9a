import { setTimeout as wait } from 'node:timers/promises'
import { Client } from 'pg'
import { afterEach, describe, expect, it } from 'vitest'
import { postgresStore } from '../../../../src/op-postgres.ts'
import { hasPostgres, startPostgres, type TestPostgres } from '../../../support/postgres.ts'
import { type CrashWorld, crashWorld, type OpProcess, seedOf, times } from './crash-world.ts'

let postgres: TestPostgres
const cleanups: (() => Promise<unknown>)[] = []

/** Leases are this many milliseconds here. */
const lease = 1000

async function startWorld(what: string, rps: number, logouts: number): Promise<CrashWorld> {
  postgres = await startPostgres()
  cleanups.push(() => postgres.close())
  const { connectionString } = postgres
  const crash = await crashWorld({
    seed: seedOf(what),
    rps,
    logouts,
    store: { connectionString },
    openStore: () => postgresStore({ connectionString }),
    lease,
  })
  cleanups.push(() => crash.close())
  return crash
}

/** What the database says when all is over: states of deliveries, and how many of them were delivered more than once. */
async function whatIsLeft(): Promise<{ states: Record<string, number>; deliveredTwice: number }> {
  const admin = new Client({ connectionString: postgres.connectionString, options: '-c search_path=lockstep_op' })
  await admin.connect()
  try {
    const states = await admin.query<{ state: string; n: number }>(
      'SELECT state, count(*)::int AS n FROM delivery GROUP BY 1',
    )
    const twice = await admin.query<{ n: number }>(
      `SELECT count(*)::int AS n FROM (SELECT delivery FROM attempt WHERE outcome::json->>'state' = 'delivered'
       GROUP BY delivery HAVING count(*) > 1) AS twice`,
    )
    return {
      states: Object.fromEntries(states.rows.map(({ state, n }) => [state, n])),
      deliveredTwice: twice.rows[0]?.n ?? Number.NaN,
    }
  } finally {
    await admin.end()
  }
}

/** All is delivered once the rows say so: an outcome may be written a moment after the RP has answered. */
async function settled(deliveries: number): Promise<void> {
  const states = async () => (await whatIsLeft()).states
  await expect.poll(states, { timeout: 300_000, interval: 250 }).toEqual({ delivered: deliveries })
}

describe.skipIf(!hasPostgres)('two OP nodes on PostgreSQL while 2,000 deliveries are due', () => {
  afterEach(async () => {
    for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
  })

  it('lose nothing when one is frozen for longer than two leases, and what it says when it wakes is refused by its fence [design §4]', async () => {
    const freezes = times(5)
    const crash = await startWorld('SIGSTOP', 50, 8 * freezes)
    const { rps, uids } = crash
    const nodes = [await crash.start(), await crash.start()] as const
    for (let freeze = 0; freeze < freezes; freeze++) {
      const [frozen, awake] = freeze % 2 === 0 ? nodes : [nodes[1], nodes[0]]
      const before = crash.refusedOutcomes.length
      rps.allow(0)
      await crash.endAll(awake, uids.slice(8 * freeze, 8 * freeze + 8))
      // Both nodes have some of these in their hands; they will hear of failures when others have the rows.
      const held = await rps.hold(40)
      frozen.child.kill('SIGSTOP')
      rps.allow(Number.POSITIVE_INFINITY)
      await wait(2.2 * lease + crash.chance.below(lease))
      await held.again()
      held.answer(500)
      frozen.child.kill('SIGCONT')
      await expect.poll(() => crash.refusedOutcomes.length, { timeout: 60_000 }).toBeGreaterThan(before)
    }
    rps.allow(Number.POSITIVE_INFINITY)
    await crash.told()
    await settled(uids.length * 50)
    await Promise.all(nodes.map((node) => node.stop()))
    expect(crash.violations({ mayOverlap: true })).toEqual([])
    // Had a late failure been written over a success, the delivery would have been made once more.
    expect((await whatIsLeft()).deliveredTwice).toBe(0)
  }, 900_000)

  it('lose nothing when the database crashes again and again [design §4]', async () => {
    const crashes = times(20)
    const atStart = 2 * crashes
    const crash = await startWorld('pg_ctl stop -m immediate', 50, atStart + 2 * crashes)
    const { rps, uids, chance } = crash
    const nodes = [await crash.start(), await crash.start()] as const
    rps.allow(0)
    await crash.endAll(nodes[0], uids.slice(0, atStart))
    for (let round = 0; round < crashes; round++) {
      rps.allow(chance.below(300))
      const asked = uids.slice(atStart + 2 * round, atStart + 2 * round + 2)
      for (const [i, uid] of asked.entries()) nodes[i % 2]?.end(uid)
      await wait(chance.below(20))
      expect(crash.untold(), 'the crash came too late').toBeGreaterThan(0)
      await postgres.stop('immediate')
      await postgres.start()
      await crash.endAll(nodes[round % 2] as OpProcess, asked)
    }
    rps.allow(Number.POSITIVE_INFINITY)
    await crash.told()
    await settled(uids.length * 50)
    await Promise.all(nodes.map((node) => node.stop()))
    expect(crash.violations({ mayOverlap: true })).toEqual([])
  }, 900_000)
})
