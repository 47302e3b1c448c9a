import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import {
  type RetentionOptions,
  resolveRetentionOptions,
  resolveSweepOptions,
  type SweepOptions,
} from '../../src/op/sweep-options.ts'
import { type Sweeper, startSweeper } from '../../src/op/sweeper.ts'
import type { OpIssuerStore } from '../../src/op.ts'
import { loggedIn, opSession } from '../../src/testing/op-store-bench.ts'
import { says, type VirtualWorld, virtualWorld } from './delivery/virtual-world.ts'

let world: VirtualWorld
let wakes: number
const sweepers: Sweeper[] = []

beforeEach(() => {
  world = virtualWorld()
  wakes = 0
})
afterEach(async () => {
  await Promise.all(sweepers.splice(0).map((sweeper) => sweeper.stop()))
  await world.close()
})

function start(sweep: SweepOptions = {}, over: Partial<OpIssuerStore> = {}, retention: RetentionOptions = {}): Sweeper {
  const sweeper = startSweeper({
    store: { ...world.store, ...over },
    runtime: world.runtime,
    sweep: resolveSweepOptions(sweep),
    retention: resolveRetentionOptions(retention),
    log: (event) => world.log.push(event),
    findReceiver: async (clientId) =>
      clientId === 'deaf' ? {} : { backchannelLogoutUri: 'https://rp.example/logout' },
    wake: () => {
      wakes += 1
    },
  })
  sweepers.push(sweeper)
  return sweeper
}

/** OP sessions of ada that live an hour. */
async function signIn(count: number, clientIds: readonly string[] = ['notes']): Promise<void> {
  const bench = { ...world.runtime, pass: () => {} }
  for (let i = 0; i < count; i++) {
    const [uid, rps] = [`uid ${i}`, clientIds.map((id) => loggedIn(id, { sid: `${i} ${id}`, grantId: `${i} ${id}` }))]
    await world.store.saveOpSession(opSession(bench, { uid, handle: uid, accountId: 'ada', rps }))
  }
}

const owed = async () =>
  (await world.store.claimDue({ limit: 1000, lease: 0 })).map(({ clientId, sid }) => `${clientId} ${sid}`)
const left = async () => (await world.store.expiredOpSessions(1000)).length
const hour = 3_600_000

it('is stopped within five seconds, whatever the store does', async () => {
  const sweeper = start({}, { claimEndJob: () => new Promise(() => {}) })
  sweepers.pop() // stopped here, where time passes
  await world.quiet()
  const stopped = sweeper.stop()
  await world.pass(5_000)
  await expect(stopped).resolves.toBeUndefined()
})

describe('the sweeper and OP sessions that expired', () => {
  it('ends them at its next look, tells those that can hear, and wakes the outbox [design §4]', async () => {
    await signIn(2, ['notes', 'deaf'])
    start({ interval: 60 })
    await world.pass(hour - 1000)
    expect(wakes).toBe(0)
    await world.pass(61_000)
    expect(wakes).toBe(1)
    expect((await owed()).sort()).toEqual(['notes 0 notes', 'notes 1 notes'])
    expect(await left()).toBe(0)
  })

  it('goes on at once, in batches with a breath between them, when there are many', async () => {
    await signIn(10)
    await world.pass(hour)
    start({ interval: 60, batch: 4, perSecond: 40 })
    await world.quiet()
    expect(await left()).toBe(6)
    await world.pass(99)
    expect(await left()).toBe(6)
    await world.pass(1)
    expect(await left()).toBe(2)
    await world.pass(100)
    expect(await left()).toBe(0)
  })

  it('ends each once, though three nodes look at the same moment', async () => {
    await signIn(10)
    await world.pass(hour)
    for (let node = 0; node < 3; node++) start({ batch: 4 })
    await world.pass(60_000)
    expect(await left()).toBe(0)
    expect(await owed()).toHaveLength(10)
  })
})

describe('the sweeper and a job', () => {
  const endAll = (): ReturnType<OpIssuerStore['endAll']> =>
    world.store.endAll({ accountId: 'ada' }, { cause: 'admin', actor: 'root', reason: 'r', revokeOffline: true })
  const endedBy = async (id: string) => (await world.store.getEndJob(id))?.ended

  it('keeps its pace, and says when it is done', async () => {
    await signIn(10)
    await world.pass(1)
    const sweeper = start({ batch: 2, perSecond: 4 })
    const { id } = await endAll()
    sweeper.wake()
    await world.quiet()
    for (const ended of [2, 4, 6, 8]) {
      expect(await endedBy(id)).toBe(ended)
      await world.pass(499)
      expect(await endedBy(id)).toBe(ended)
      await world.pass(1)
    }
    expect(await endedBy(id)).toBe(10)
    await world.pass(500)
    expect(world.log).toEqual([{ event: 'end_job_done', jobId: id, cause: 'admin', ended: 10, total: 10 }])
  })

  it('gives others as much time as its batches take, where those are slow, and keeps its pace where they are not', async () => {
    await signIn(10)
    await world.pass(1)
    let takes = 200
    const endOpSessions: OpIssuerStore['endOpSessions'] = async (...what) => {
      await world.runtime.sleep(takes)
      return world.store.endOpSessions(...what)
    }
    const begun: number[] = []
    const claimEndJob: OpIssuerStore['claimEndJob'] = async (how) => {
      const claimed = await world.store.claimEndJob(how)
      if (claimed?.job.state === 'running') begun.push(world.runtime.now())
      return claimed
    }
    start({ batch: 2, perSecond: 4 }, { endOpSessions, claimEndJob })
    await endAll()
    sweepers[0]?.wake()
    for (let step = 0; step < 20; step++) await world.pass(50)
    takes = 400
    for (let step = 0; step < 80; step++) await world.pass(50)
    const [first = 0] = begun
    // One each half second; of the first, and of the first slow one (the third), it is not known yet how long they take.
    expect(begun.map((at) => at - first)).toEqual([0, 200 + 500, 700 + 500, 1200 + 400 + 300, 1900 + 400 + 400])
  })

  it('keeps one pace for all nodes together', async () => {
    await signIn(10)
    await world.pass(1)
    const nodes = [1, 2, 3].map(() => start({ batch: 1, perSecond: 1 }))
    const { id } = await endAll()
    for (const node of nodes) node.wake()
    await world.pass(4_500)
    expect(await endedBy(id)).toBe(5)
  })

  it('is not held up by an RP whose registration cannot be read: that one is planned, and looked up again later', async () => {
    await signIn(2, ['notes', 'broken'])
    await world.pass(1)
    const { id } = await endAll()
    start()
    await world.pass(100)
    expect(await endedBy(id)).toBe(2)
    expect(await owed()).toHaveLength(4)
  })

  it('keeps cause, actor and reason with each fact', async () => {
    await signIn(1)
    await world.pass(1)
    const { notBefore } = await endAll()
    const facts: unknown[] = []
    start(
      {},
      {
        async endOpSessions(...args) {
          const ended = await world.store.endOpSessions(...args)
          facts.push(...ended.map(({ logout }) => logout))
          return ended
        },
      },
    )
    await world.pass(100)
    const fact = { uid: 'uid 0', accountId: 'ada', cause: 'admin', actor: 'root', reason: 'r', endedAt: notBefore }
    expect(facts).toEqual([{ ...fact, id: expect.any(String) }])
  })

  it('is found after a restart without anybody waking the sweeper', async () => {
    await signIn(3)
    await world.pass(1)
    const { id } = await endAll()
    const first = start({ batch: 1, perSecond: 1 })
    await world.quiet()
    await first.stop()
    expect(await endedBy(id)).toBe(1)
    await world.pass(5_000)
    expect(await endedBy(id)).toBe(1)
    start()
    await world.pass(100)
    expect(await endedBy(id)).toBe(3)
  })

  it.each([
    'claimEndJob',
    'endOpSessions',
    'nextEndJobAt',
    'expiredOpSessions',
    'forget',
  ] as const)('is worked off all the same when the store’s %s fails for a while, and says so', async (method) => {
    await signIn(3)
    await world.pass(1)
    const { id } = await endAll()
    let failures = 0
    const fail = async (): Promise<never> => {
      failures += 1
      throw new Error('the disk is full')
    }
    const over: Partial<Record<typeof method, unknown>> = {
      [method]: (...args: never[]) => {
        const call = world.store[method] as (...args: never[]) => Promise<unknown>
        return failures < 3 ? fail() : call(...args)
      },
    }
    start({}, over as Partial<OpIssuerStore>)
    await world.pass(200_000) // leases of batches that failed included
    expect(failures).toBe(3)
    expect(await endedBy(id)).toBe(3)
    expect(await owed()).toHaveLength(3)
    expect(world.log).toContainEqual({ event: 'op_failed', task: 'sweep', message: 'the disk is full' })
  })
})

describe('the sweeper and what was kept long enough', () => {
  it('forgets attempts after 30 days and logouts after a year, if the operator says nothing [T30]', async () => {
    const asked: { attempts: number; logouts: number }[] = []
    start(
      { interval: 86_400 },
      {
        forget: async (before) => {
          asked.push(before)
          return false
        },
      },
    )
    await world.quiet()
    const now = world.runtime.now()
    expect(asked).toEqual([{ attempts: now - 30 * 24 * hour, logouts: now - 365 * 24 * hour }])
  })

  it('forgets little by little [T30]', async () => {
    world.rps.set('notes', () => says(200))
    world.start()
    const ids: string[] = []
    for (let i = 0; i < 10; i++) ids.push((await world.logout(`uid ${i}`, 'notes')).logout.id)
    const facts = async (): Promise<number> =>
      (await Promise.all(ids.map((id) => world.store.getLogout(id)))).filter((fact) => fact !== undefined).length
    await world.pass(3 * hour)
    start({ batch: 4, perSecond: 40, interval: 60 }, {}, { attempts: 3600, logouts: 7200 })
    await world.quiet()
    expect(await facts()).toBe(6)
    await world.pass(200)
    expect(await facts()).toBe(0)
  })
})

describe('the options of the sweeper', () => {
  it.each([
    [{ interval: 0 }, 'sweep.interval'],
    [{ interval: 86_401 }, 'sweep.interval'],
    [{ batch: 0 }, 'sweep.batch'],
    [{ batch: 1.5 }, 'sweep.batch'],
    [{ batch: 1001 }, 'sweep.batch'],
    [{ perSecond: 0 }, 'sweep.perSecond'],
    [{ perSecond: Number.NaN }, 'sweep.perSecond'],
    [{ pace: 1 }, 'sweep.pace'],
  ])('%j is refused by name', (options: object, name) => {
    expect(() => resolveSweepOptions(options)).toThrow(name)
    expect(() => resolveSweepOptions(options)).toThrow(TypeError)
  })

  it.each([
    [{ attempts: 0 }, 'retention.attempts'],
    [{ logouts: 60 }, 'retention.logouts'],
    [{ facts: 60 }, 'retention.facts'],
  ])('%j is refused by name', (options: object, name) => {
    expect(() => resolveRetentionOptions(options)).toThrow(name)
    expect(() => resolveRetentionOptions(options)).toThrow(TypeError)
  })
})

describe('a job of endAll', () => {
  it('ends so many at its rate, by the clock, however many nodes work on it [T2]', async () => {
    await signIn(50)
    const begun = world.runtime.now()
    const job = await world.store.endAll({ accountId: 'ada' }, { cause: 'admin' })
    const ended = async () => (await world.store.getEndJob(job.id))?.ended
    start({ batch: 10, perSecond: 2 })
    start({ batch: 10, perSecond: 2 })
    await world.quiet()
    const counts: (number | undefined)[] = [await ended()]
    for (let i = 0; i < 4; i++) {
      await world.pass(4_999)
      counts.push(await ended())
      await world.pass(1)
      counts.push(await ended())
    }
    expect(counts).toEqual([10, 10, 20, 20, 30, 30, 40, 40, 50])
    expect(world.runtime.now() - begun).toBe(20_000) // 50 at 2 a second, of which the first 10 go at once
  })
})
