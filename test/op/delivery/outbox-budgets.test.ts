import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { hour, minute, second } from '../../../src/runtime/milliseconds.ts'
import { says, type VirtualWorld, virtualWorld } from './virtual-world.ts'

let world: VirtualWorld
beforeEach(() => {
  world = virtualWorld()
})
afterEach(() => world.close())

/** The most POSTs that went out in any hour. */
function mostInAnHour(posts: readonly { at: number }[]): number {
  return Math.max(0, ...posts.map(({ at }) => posts.filter((other) => other.at >= at && other.at < at + hour).length))
}

describe('a client that registered itself and never answered', () => {
  it('gets ten attempts an hour over all its deliveries, probes included [T8]', async () => {
    world.registered.set('victim', 'https://victim.example/')
    world.start()
    for (let i = 0; i < 40; i++) await world.logout(`u${i}`, 'victim')
    await world.pass(5 * hour)
    expect(mostInAnHour(world.posts)).toBeLessThanOrEqual(10)
    expect(world.posts.length).toBeGreaterThanOrEqual(25)
    expect(world.log.filter(({ event }) => event === 'rp_held')).toHaveLength(1)
  })

  it('gets no more by answering with errors, by hanging, or when the OP starts again [T8]', async () => {
    world.registered.set('errs', 'https://errs.example/')
    world.registered.set('hangs', 'https://hangs.example/')
    world.rps.set('errs', () => says(500))
    world.rps.set('hangs', () => 'hangs')
    for (let start = 0; start < 6; start++) {
      const outbox = world.start()
      await world.logout(`u${start}`, 'errs', 'hangs')
      await world.pass(10 * minute)
      const stopped = outbox.stop()
      await world.pass(minute)
      await stopped
    }
    for (const name of ['errs', 'hangs']) {
      expect(mostInAnHour(world.posts.filter(({ clientId }) => clientId === name))).toBeLessThanOrEqual(10)
    }
  })

  it('gets no more by a new URI each time [T8]', async () => {
    let turn = 0
    world.start(
      {},
      {
        findReceiver: async () => ({ url: `https://victim.example/${turn++}`, isRegistered: true }),
      },
    )
    for (let i = 0; i < 20; i++) await world.logout(`u${i}`, 'victim')
    await world.pass(3 * hour)
    expect(mostInAnHour(world.posts)).toBeLessThanOrEqual(10)
  })

  it('is freed by its first success, and gets all it is owed at once, ramped [T8]', async () => {
    world.registered.set('late', 'https://late.example/')
    world.start({ ratePerHost: 1000 })
    const ended = []
    for (let i = 0; i < 30; i++) ended.push(await world.logout(`u${i}`, 'late'))
    await world.pass(30 * minute)
    world.rps.set('late', () => says(200))
    await world.pass(12 * minute + 10 * second)
    for (const one of ended) expect((await world.deliveries(one))[0]?.state).toBe('delivered')
    const [first = 0, ...rest] = world.posts.slice(-30).map(({ at }) => at)
    const inSecond = [0, 1, 2, 3].map(
      (n) => rest.filter((at) => at >= first + n * second && at < first + (n + 1) * second).length,
    )
    expect(inSecond).toEqual([1, 2, 4, 8])
    expect(await world.store.nextDueAt()).toBeUndefined()
  })

  it('hears of many logouts at once when it is there from the start', async () => {
    world.registered.set('notes', 'https://notes.example/')
    world.rps.set('notes', () => says(200))
    const ended = []
    for (let i = 0; i < 100; i++) ended.push(await world.logout(`u${i}`, 'notes'))
    world.start({ ratePerHost: 1000 })
    await world.pass(10 * second)
    for (const one of ended) expect((await world.deliveries(one))[0]?.state).toBe('delivered')
  })

  it('costs about one signature for each POST, and has the whole rate of its host once it has answered [T8]', async () => {
    world.registered.set('notes', 'https://notes.example/')
    let signed = 0
    world.start(
      {},
      {
        mint: async () => `token-${++signed}`,
        runtime: {
          ...world.runtime,
          post: async (request) => {
            await request.admit?.(['203.0.113.7'])
            await request.body()
            world.posts.push({ clientId: 'notes', at: world.runtime.now(), token: '' })
            await world.runtime.sleep(20)
            return says(200)
          },
        },
      },
    )
    for (let i = 0; i < 300; i++) await world.logout(`u${i}`, 'notes')
    await world.pass(16 * second) // 20 a second, and a moment to find out that it answers
    expect(world.posts).toHaveLength(300)
    expect(signed).toBe(300)
    for (const { at } of world.posts) {
      expect(world.posts.filter((other) => other.at >= at && other.at < at + second).length).toBeLessThanOrEqual(22)
    }
  })

  it('is not waited for by a user who signs out while it is held [T8]', async () => {
    world.registered.set('victim', 'https://victim.example/')
    const outbox = world.start()
    for (let i = 0; i < 10; i++) await world.logout(`u${i}`, 'victim')
    await world.pass(20 * second)
    const ended = await world.logout('u', 'victim')
    let isDone = false
    void outbox.firstAttempts(ended.logout.id, 60_000).then(() => {
      isDone = true
    })
    await world.quiet()
    expect(isDone).toBe(true)
  })

  it('counts no attempt and keeps none that was not made [T8]', async () => {
    world.registered.set('victim', 'https://victim.example/')
    const outcomes: string[] = []
    const metrics = {
      logouts: () => {},
      attempt: ({ state }: { readonly state: string }) => void outcomes.push(state),
      propagation: () => {},
      isOn: () => true,
      close: () => {},
    }
    world.start({ unansweredPerHour: 1 }, { telemetry: { metrics, traces: undefined } })
    const ended = [await world.logout('u1', 'victim'), await world.logout('u2', 'victim')]
    await world.pass(30 * minute)
    const rows = (await Promise.all(ended.map((one) => world.deliveries(one)))).flat()
    expect(rows.map(({ attempts }) => attempts).sort()).toEqual([0, 1])
    expect(world.posts).toHaveLength(1)
    expect(outcomes).toEqual(['due'])
  })
})

describe('many clients that registered themselves at one place', () => {
  const crowd = Array.from({ length: 25 }, (_, i) => `evil${i}`)

  it('get no more attempts together than the budget of their origin [T8]', async () => {
    for (const name of crowd) world.registered.set(name, `https://victim.example/?${name}`)
    world.start({ unansweredPerOrigin: 12 })
    await world.logout('u', ...crowd)
    await world.pass(2 * hour)
    expect(mostInAnHour(world.posts)).toBeLessThanOrEqual(12)
    expect(world.posts.length).toBeGreaterThan(15)
  })

  it('get no more under many names of one address than its budget [T8]', async () => {
    for (const name of crowd) {
      world.registered.set(name, `https://${name}.evil.example/`)
      world.addresses.set(`${name}.evil.example`, ['203.0.113.7'])
    }
    world.start({ unansweredPerAddress: 12 })
    await world.logout('u', ...crowd)
    await world.pass(2 * hour)
    expect(mostInAnHour(world.posts)).toBeLessThanOrEqual(12)
  })

  it('get no more a second than one rate, once they have answered [T8]', async () => {
    for (const name of crowd) {
      world.registered.set(name, `https://shared.example/${name}`)
      world.rps.set(name, () => says(200))
    }
    world.start({ ratePerHost: 2, unansweredPerOrigin: 500, unansweredPerAddress: 500 })
    await world.logout('u1', ...crowd)
    await world.pass(10 * minute)
    expect(world.posts).toHaveLength(25)
    await world.logout('u2', ...crowd)
    await world.pass(10 * minute)
    const again = world.posts.slice(25)
    expect(again).toHaveLength(25)
    for (const { at } of again) {
      expect(again.filter((other) => other.at >= at && other.at < at + 10 * second).length).toBeLessThanOrEqual(21)
    }
  })

  it('do not keep a newcomer from its first attempt for long [T8]', async () => {
    const twenty = crowd.slice(0, 20)
    for (const name of twenty) world.registered.set(name, `https://shared.example/${name}`)
    world.registered.set('newcomer', 'https://shared.example/newcomer')
    world.rps.set('newcomer', () => says(200))
    world.start({ unansweredPerOrigin: 10 })
    await world.logout('u0', ...twenty)
    await world.pass(4 * hour) // each of the crowd has been tried by now
    const ended = await world.logout('u', 'newcomer')
    await world.pass(20 * minute)
    expect((await world.deliveries(ended))[0]?.state).toBe('delivered')
  })

  it('cost a client that has answered, at the same place, nothing [T8]', async () => {
    for (const name of crowd) world.registered.set(name, `https://shared.example/${name}`)
    world.registered.set('notes', 'https://shared.example/notes')
    world.rps.set('notes', () => says(200))
    world.start()
    await world.logout('u0', 'notes')
    await world.logout('u1', ...crowd)
    await world.pass(hour)
    const ended = await world.logout('u2', 'notes')
    await world.pass(second)
    expect((await world.deliveries(ended))[0]?.state).toBe('delivered')
  })
})

describe('a client that the operator wrote down', () => {
  it('is not put on a budget: it is asked as often as any RP that is down [T8]', async () => {
    world.start()
    await world.logout('u', 'notes')
    await world.pass(hour)
    expect(world.posts.length).toBeGreaterThan(50)
  })

  it('is, where the operator wants it so [T8]', async () => {
    world.start({ budgets: 'all' })
    for (let i = 0; i < 20; i++) await world.logout(`u${i}`, 'notes')
    await world.pass(2 * hour)
    expect(mostInAnHour(world.posts)).toBeLessThanOrEqual(10)
  })
})

describe('the rate of an RP', () => {
  it('is kept by a worker that has thousands for it, and nobody else waits for it', async () => {
    world.rps.set('notes', () => says(200))
    world.rps.set('mail', () => says(200))
    for (let i = 0; i < 100; i++) await world.logout(`u${i}`, 'notes')
    world.start({ ratePerRp: 10, concurrencyPerRp: 100 })
    await world.pass(second)
    const ended = await world.logout('u', 'mail')
    expect((await world.deliveries(ended))[0]?.state).toBe('delivered')
    await world.pass(20 * second)
    const toNotes = world.posts.filter(({ clientId }) => clientId === 'notes')
    expect(toNotes).toHaveLength(100)
    for (const { at } of toNotes) {
      expect(toNotes.filter((other) => other.at >= at && other.at < at + second).length).toBeLessThanOrEqual(11)
    }
  })

  it('begins anew at one a second, and doubles, when an RP is back that had been down [T8]', async () => {
    const outbox = world.start({ ratePerRp: 8 })
    expect(outbox).toBeDefined()
    for (let i = 0; i < 40; i++) await world.logout(`u${i}`, 'notes')
    await world.pass(2 * minute)
    const before = world.posts.length
    world.rps.set('notes', () => says(200))
    await world.pass(15 * second)
    const [probe, ...rest] = world.posts.slice(before).map(({ at }) => at)
    const inSecond = [0, 1, 2, 3, 4].map(
      (n) => rest.filter((at) => at >= (probe ?? 0) + n * second && at < (probe ?? 0) + (n + 1) * second).length,
    )
    expect(inSecond).toEqual([1, 2, 4, 8, 8])
  })

  it('does not make the worker spin while rows wait for it', async () => {
    world.rps.set('notes', () => says(200))
    for (let i = 0; i < 50; i++) await world.logout(`u${i}`, 'notes')
    let claims = 0
    const claimDue: typeof world.store.claimDue = (options) => {
      claims += 1
      return world.store.claimDue(options)
    }
    world.start({ ratePerRp: 1 }, { store: { ...world.store, claimDue } })
    await world.pass(20 * second)
    expect(world.posts).toHaveLength(21)
    expect(claims).toBeLessThan(100)
  })
})
