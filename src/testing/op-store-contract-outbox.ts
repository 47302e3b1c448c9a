import { deepEqual, equal, ok } from 'node:assert/strict'
import type { AttemptOutcome, AttemptRecord, ClaimedDelivery, Delivery, OpIssuerStore } from '../op/store/contract.ts'
import { issuer, type Law, loggedIn, type OpStoreBench, opSession, owe } from './op-store-bench.ts'

/** What an OP store promises about the outbox: no notice is lost, and none is in two hands. */
export function outboxContract(law: Law, durable: boolean): void {
  law('leases a due delivery to one worker at a time', async (bench) => {
    const { op, runtime } = bench
    const { logout, deliveries } = await owe(bench, 'u', ['a', 'b', 'c'])
    const claims = await Promise.all([1, 2, 3, 4].map(() => op.claimDue({ limit: 2, lease: 1000 })))
    const claimed = claims.flat()
    deepEqual(claimed.map(({ id }) => id).sort(), deliveries.map(({ id }) => id).sort())
    for (const delivery of claimed) {
      deepEqual(delivery.logout, logout)
      equal(delivery.state, 'in-flight')
      equal(delivery.attempts, 0)
      equal(delivery.refusals, 0)
    }
    runtime.pass(999)
    deepEqual(await op.claimDue({ limit: 9, lease: 1000 }), [])
  })

  law(
    'leases a delivery again when its lease has run out, and takes nothing from the worker that slept',
    async (bench) => {
      const { op, runtime } = bench
      await owe(bench, 'u', ['a'])
      const slept = await claimOne(op)
      equal(await op.nextDueAt(), runtime.now() + 1000)
      runtime.pass(1000)
      const awake = await claimOne(op)
      equal(awake.id, slept.id)
      ok(awake.fence > slept.fence)
      equal(await op.settle(slept, attempt(bench, { state: 'dead', why: 'horizon' })), false)
      equal(await op.settle(awake, attempt(bench, { state: 'delivered', status: 200 })), true)
      equal(await op.settle(awake, attempt(bench, { state: 'dead', why: 'horizon' })), false)
      const kept = (await op.getLogout(awake.logout.id))?.deliveries[0]
      equal(kept?.state, 'delivered')
      equal(kept?.attempts, 1)
      equal(kept?.dueAt, runtime.now())
      deepEqual(kept?.lastOutcome, { state: 'delivered', status: 200 })
      equal(await op.nextDueAt(), undefined)
    },
  )

  law('takes a late outcome of a delivery that nobody else has taken meanwhile', async (bench) => {
    const { op, runtime } = bench
    await owe(bench, 'u', ['a'])
    const claimed = await claimOne(op)
    runtime.pass(5000)
    // Nobody took it meanwhile, so the late outcome is as true as an early one.
    equal(await op.settle(claimed, attempt(bench, { state: 'delivered', status: 204 })), true)
    deepEqual(await op.claimDue({ limit: 9, lease: 1000 }), [])
  })

  law('leaves a delivery alone until it is due again', async (bench) => {
    const { op, runtime } = bench
    await owe(bench, 'u', ['a'])
    const retryAt = runtime.now() + 60_000
    await op.settle(await claimOne(op), attempt(bench, { state: 'due', retryAt, why: 'status', status: 503 }))
    equal(await op.nextDueAt(), retryAt)
    runtime.pass(59_999)
    deepEqual(await op.claimDue({ limit: 9, lease: 1000 }), [])
    runtime.pass(1)
    const again = await claimOne(op)
    equal(again.attempts, 1)
    deepEqual(again.lastOutcome, { state: 'due', retryAt, why: 'status', status: 503 })
  })

  law('never leases a delivery whose outcome is final', async (bench) => {
    const { op, runtime } = bench
    const finals: AttemptOutcome[] = [
      { state: 'delivered', status: 200, sessionsEnded: 2 },
      { state: 'refused', status: 400, error: 'invalid_request' },
      { state: 'dead', why: 'horizon' },
      { state: 'dead', why: 'client_gone' },
    ]
    for (const [i, outcome] of finals.entries()) {
      await owe(bench, `u${i}`, ['a'])
      const claimed = await claimOne(op)
      equal(await op.settle(claimed, attempt(bench, outcome)), true)
      deepEqual((await op.getLogout(claimed.logout.id))?.deliveries[0]?.lastOutcome, outcome)
    }
    runtime.pass(365 * 86_400_000)
    equal(await op.hasten('all', 10), 0)
    deepEqual(await op.claimDue({ limit: 9, lease: 1000 }), [])
    equal(await op.nextDueAt(), undefined)
  })

  law('counts refusals in a row and remembers when they began', async (bench) => {
    const { op, runtime } = bench
    await owe(bench, 'u', ['a'])
    const settleWith = async (why: 'refusal' | 'status' | 'released'): Promise<void> => {
      const claimed = await claimOne(op)
      await op.settle(claimed, attempt(bench, { state: 'due', retryAt: runtime.now() + 1000, why }))
      runtime.pass(1000)
    }
    const began = runtime.now()
    await settleWith('refusal')
    await settleWith('refusal')
    await settleWith('released')
    const third = await claimOne(op)
    equal(third.refusals, 2)
    equal(third.refusedSince, began)
    equal(third.attempts, 2)
    await op.settle(third, attempt(bench, { state: 'due', retryAt: runtime.now(), why: 'status', status: 500 }))
    const fourth = await claimOne(op)
    equal(fourth.refusals, 0)
    equal(fourth.refusedSince, undefined)
    equal(fourth.attempts, 3)
  })

  law('leases to each RP only what there is room for, of each the oldest first', async (bench) => {
    const { op, runtime } = bench
    for (const uid of ['u1', 'u2', 'u3']) {
      await owe(bench, uid, ['busy'])
      runtime.pass(1)
    }
    await owe(bench, 'u4', ['full', 'idle'])
    const room = (clientId: string): number => ({ busy: 2, full: 0 })[clientId] ?? 1
    const claimed = await op.claimDue({ limit: 9, lease: 1000, room })
    deepEqual(claimed.map(({ clientId, logout }) => `${clientId} ${logout.uid}`).sort(), [
      'busy u1',
      'busy u2',
      'idle u4',
    ])
    equal(await op.nextDueAt((clientId) => (clientId === 'full' ? 0 : 1)), runtime.now() - 1)
    equal(await op.nextDueAt((clientId) => (clientId === 'full' ? 1 : 0)), runtime.now())
    equal(await op.nextDueAt(() => 0), undefined)
  })

  law('gives each RP its turn, however much the others are owed', async (bench) => {
    const { op } = bench
    for (let i = 0; i < 5; i++) await owe(bench, `u${i}`, ['a', 'b', 'c', 'd'])
    const turns: string[] = []
    for (let i = 0; i < 8; i++) {
      const [claimed] = await op.claimDue({ limit: 1, lease: 60_000, room: () => 1 })
      turns.push(claimed?.clientId ?? '')
    }
    deepEqual(turns.slice(0, 4).sort(), ['a', 'b', 'c', 'd'])
    deepEqual(turns.slice(4).sort(), ['a', 'b', 'c', 'd'])
  })

  law('leases one delivery of an RP before it is due, the one that is due first', async (bench) => {
    const { op, runtime } = bench
    for (const uid of ['u1', 'u2']) await owe(bench, uid, ['down', 'other'])
    for (const [i, claimed] of (await op.claimDue({ limit: 10, lease: 1000 })).entries()) {
      await op.settle(claimed, attempt(bench, { state: 'due', retryAt: runtime.now() + 600_000 - i, why: 'network' }))
    }
    const first = await op.claimEarly({ clientId: 'down' }, 1000)
    const second = await op.claimEarly({ clientId: 'down' }, 1000)
    deepEqual([first?.logout.uid, second?.logout.uid], ['u2', 'u1'])
    equal(first?.state, 'in-flight')
    equal(await op.claimEarly({ clientId: 'down' }, 1000), undefined)
    equal(await op.claimEarly({ clientId: 'unknown' }, 1000), undefined)
    runtime.pass(1000)
    const again = await op.claimEarly({ clientId: 'down' }, 1000)
    ok((again?.fence ?? 0) > (first?.fence ?? 0))
  })

  law('leases the one delivery that an operator has chosen, unless it is in flight or over', async (bench) => {
    const { op } = bench
    for (const uid of ['u1', 'u2']) await owe(bench, uid, ['down'])
    const { deliveries } = await owe(bench, 'u3', ['down'])
    const { id: deliveryId } = deliveries[0] ?? {}
    ok(deliveryId !== undefined)
    const chosen = await op.claimEarly({ deliveryId }, 1000)
    ok(chosen)
    deepEqual([chosen.id, chosen.state], [deliveryId, 'in-flight'])
    equal(await op.claimEarly({ deliveryId }, 1000), undefined)
    await op.settle(chosen, attempt(bench, { state: 'delivered', status: 200 }))
    equal(await op.claimEarly({ deliveryId }, 1000), undefined)
    equal(await op.claimEarly({ deliveryId: 'unknown' }, 1000), undefined)
  })

  law('brings the deliveries of one RP forward, ramped 1, 2, 4 a second up to its rate', async (bench) => {
    const { op, runtime } = bench
    for (let i = 0; i < 20; i++) await owe(bench, `u${i}`, ['down', 'other'])
    for (const [i, claimed] of (await op.claimDue({ limit: 40, lease: 1000 })).entries()) {
      await op.settle(claimed, attempt(bench, { state: 'due', retryAt: runtime.now() + 600_000 + i, why: 'network' }))
    }
    equal(await op.hasten({ clientId: 'down' }, 5), 20)
    const inSecond: number[] = []
    for (let second = 0; second < 6; second++) {
      inSecond.push(0)
      for (let tenth = 0; tenth < 10; tenth++) {
        const claimed = await op.claimDue({ limit: 40, lease: 600_000 })
        ok(claimed.every(({ clientId }) => clientId === 'down'))
        inSecond[second] = (inSecond[second] ?? 0) + claimed.length
        runtime.pass(100)
      }
    }
    deepEqual(inSecond, [1, 2, 4, 5, 5, 3])
  })

  law('spreads a ramp evenly within each second, in the order in which they were due', async (bench) => {
    const { op, runtime } = bench
    for (let i = 0; i < 4; i++) await owe(bench, `u${i}`, ['down'])
    const claimed = await op.claimDue({ limit: 4, lease: 1000 })
    for (const [i, one] of claimed.entries()) {
      await op.settle(one, attempt(bench, { state: 'due', retryAt: runtime.now() + 600_000 - i, why: 'network' }))
    }
    const began = runtime.now()
    equal(await op.hasten({ clientId: 'down' }, 250), 4)
    const again: [string, number][] = []
    while (again.length < 4) {
      for (const { id } of await op.claimDue({ limit: 4, lease: 600_000 })) again.push([id, runtime.now() - began])
      runtime.pass(250)
    }
    deepEqual(again, [
      [claimed[3]?.id, 0],
      [claimed[2]?.id, 1000],
      [claimed[1]?.id, 1500],
      [claimed[0]?.id, 2000],
    ])
  })

  law('keeps to a rate below one a second', async (bench) => {
    const { op, runtime } = bench
    for (const uid of ['u1', 'u2']) await owe(bench, uid, ['down'])
    for (const claimed of await op.claimDue({ limit: 4, lease: 1000 })) {
      await op.settle(claimed, attempt(bench, { state: 'due', retryAt: runtime.now() + 600_000, why: 'network' }))
    }
    equal(await op.hasten('all', 0.1), 2)
    equal((await op.claimDue({ limit: 4, lease: 600_000 })).length, 1)
    equal(await op.nextDueAt(() => 1), runtime.now() + 10_000)
  })

  law('brings nothing forward for a worker that is stopping', async (bench) => {
    const { op, runtime } = bench
    await owe(bench, 'u1', ['down'])
    for (const claimed of await op.claimDue({ limit: 4, lease: 1000 })) {
      await op.settle(claimed, attempt(bench, { state: 'due', retryAt: runtime.now() + 600_000, why: 'network' }))
    }
    equal(await op.hasten('all', 10, AbortSignal.abort()), 0)
    equal(await op.nextDueAt(), runtime.now() + 600_000)
  })

  law('never pushes a delivery back by bringing others forward, nor touches a leased one', async (bench) => {
    const { op, runtime } = bench
    for (const uid of ['u1', 'u2', 'u3']) await owe(bench, uid, ['a'])
    const leased = await op.claimDue({ limit: 1, lease: 60_000 })
    equal(await op.hasten('all', 0.001), 0)
    equal((await op.claimDue({ limit: 9, lease: 60_000 })).length, 2)
    equal(await op.hasten('all', 10), 0)
    runtime.pass(59_999)
    deepEqual(await op.claimDue({ limit: 9, lease: 1000 }), [])
    equal(await op.settle(leased[0] as ClaimedDelivery, attempt(bench, { state: 'delivered', status: 200 })), true)
  })

  law('ramps each RP by itself when all are brought forward', async (bench) => {
    const { op, runtime } = bench
    for (const uid of ['u1', 'u2']) await owe(bench, uid, ['a', 'b'])
    for (const claimed of await op.claimDue({ limit: 10, lease: 1000 })) {
      await op.settle(claimed, attempt(bench, { state: 'due', retryAt: runtime.now() + 600_000, why: 'network' }))
    }
    equal(await op.hasten({ clientId: 'all' }, 1), 0) // a client may be called that
    equal(await op.hasten('all', 1), 4)
    equal((await op.claimDue({ limit: 10, lease: 60_000 })).length, 2)
    runtime.pass(1000)
    equal((await op.claimDue({ limit: 10, lease: 60_000 })).length, 2)
  })

  law(
    'brings a long backlog forward whole, each RP by itself, in the order in which it was due',
    async ({ op, runtime }) => {
      const rows = 1500
      const sids = Array.from({ length: rows }, (_, i) => `sid-${i}`)
      await op.saveOpSession(opSession(runtime, { rps: [loggedIn('a')] }))
      await op.endOpSession('uid-1', { cause: 'op_logout' }, () =>
        ['a', 'b'].flatMap((clientId) => sids.map((sid) => ({ clientId, sid }))),
      )
      runtime.pass(-3_600_000) // now all of it waits for an hour
      equal(await op.hasten('all', 1000), 2 * rows)
      const told: string[] = []
      const claim = async (): Promise<number> => {
        const claimed = await op.claimDue({ limit: 2 * rows, lease: 60_000 })
        told.push(...claimed.filter(({ clientId }) => clientId === 'a').map(({ sid }) => sid))
        return claimed.length
      }
      runtime.pass(9_999)
      equal(await claim(), 2 * 1023) // 1 + 2 + 4 + ... + 512 of each RP in ten seconds
      runtime.pass(477)
      equal(await claim(), 2 * 477)
      deepEqual(told, sids)
    },
  )

  law('gives up what waits past its horizon, and nothing else, part by part', async (bench) => {
    const { op, runtime } = bench
    const failed: AttemptOutcome = { state: 'due', retryAt: runtime.now() + 60_000, why: 'status', status: 503 }
    const tried = await owe(bench, 'tried', ['a'])
    await op.settle(await claimOne(op), attempt(bench, failed))
    await owe(bench, 'once more', ['a'])
    await op.settle(await claimOne(op), attempt(bench, { state: 'refused', status: 410 }))
    await op.retryDeliveries({ state: 'refused' }, 1)
    const inFlight = await owe(bench, 'in flight', ['a'])
    const leased = await op.claimDue({ limit: 9, lease: 3_600_000 })
    const oneMore = leased.find(({ logout }) => logout.uid === 'once more') as ClaimedDelivery
    await op.settle(oneMore, attempt(bench, { state: 'due', retryAt: runtime.now(), why: 'released' }))
    await op.saveOpSession(opSession(runtime, { rps: [loggedIn('a')] }))
    await op.endOpSession('uid-1', { cause: 'op_logout' }, () =>
      Array.from({ length: 1200 }, (_, i) => ({ clientId: i % 2 === 0 ? 'a' : 'b', sid: `sid-${i}` })),
    )
    const begun = runtime.now()
    runtime.pass(1000)
    await owe(bench, 'young', ['a'])
    deepEqual((await op.giveUp('a', begun - 1_000_000)).deliveries, [])

    const given: Delivery[] = []
    let part: Awaited<ReturnType<OpIssuerStore['giveUp']>> | undefined
    do {
      part = await op.giveUp('a', begun, part?.cursor)
      given.push(...part.deliveries)
    } while (part.cursor)
    equal(given.length, 601)
    equal(new Set(given.map(({ id }) => id)).size, 601)
    ok(given.every(({ state, clientId }) => state === 'dead' && clientId === 'a'))
    deepEqual((await op.getLogout(tried.logout.id))?.deliveries, [
      given.find(({ logout }) => logout.id === tried.logout.id),
    ])
    deepEqual((await op.getLogout(tried.logout.id))?.deliveries[0]?.lastOutcome, {
      state: 'dead',
      why: 'horizon',
      failure: { why: 'status', status: 503 },
    })
    equal((await op.getLogout(inFlight.logout.id))?.deliveries[0]?.state, 'in-flight')
    deepEqual(await op.countDeliveries(10_000), { due: 602, 'in-flight': 1, refused: 0, dead: 601 })
  })

  law('keeps issuers apart [T20]', async (bench) => {
    const { store, op, runtime } = bench
    const other = store.forIssuer('https://other.example', runtime)
    await owe(bench, 'u', ['a'])
    equal(await other.nextDueAt(), undefined)
    deepEqual(await other.claimDue({ limit: 9, lease: 1000 }), [])
    const claimed = await claimOne(op)
    equal(await other.settle(claimed, attempt(bench, { state: 'dead', why: 'horizon' })), false)
    equal(await other.takeOver(), 0)
    deepEqual(await other.giveUp('a', runtime.now()), { deliveries: [] })
    await op.settle(claimed, attempt(bench, { state: 'due', retryAt: runtime.now() + 60_000, why: 'timeout' }))
    equal(await other.hasten('all', 10), 0)
    equal(await other.hasten({ clientId: 'a' }, 10), 0)
  })

  law('keeps the fact and its deliveries after all is delivered', async (bench) => {
    const { op, runtime } = bench
    const { logout } = await owe(bench, 'u', ['a'])
    await op.settle(await claimOne(op), attempt(bench, { state: 'delivered', status: 200, suspicious: true }))
    runtime.pass(30 * 86_400_000)
    await op.saveOpSession({ uid: 'x', handle: 'x', payload: {}, rps: [], expiresAt: runtime.now(), extend: true })
    const kept = await op.getLogout(logout.id)
    deepEqual(kept?.logout, logout)
    equal(kept?.deliveries.length, 1)
    equal(await op.getLogout('unknown'), undefined)
  })

  if (!durable) return

  law('has what is due again after a restart', async (bench) => {
    const { store, op, runtime, reopen } = bench
    const { logout } = await owe(bench, 'u', ['a', 'b'])
    const [inFlight] = await op.claimDue({ limit: 1, lease: 60_000 })
    await store.close()
    const again = await reopen?.()
    const reopened = again?.forIssuer(issuer, runtime)
    ok(reopened)
    equal((await reopened.getLogout(logout.id))?.deliveries.length, 2)
    await reopened.takeOver()
    runtime.pass(60_000)
    const claimed = await reopened.claimDue({ limit: 9, lease: 1000 })
    equal(claimed.length, 2)
    ok((claimed.find(({ id }) => id === inFlight?.id)?.fence ?? 0) > (inFlight?.fence ?? 0))
    equal(await reopened.settle(inFlight as ClaimedDelivery, attempt(bench, { state: 'dead', why: 'horizon' })), false)
    await again?.close()
  })
}

async function claimOne(op: OpIssuerStore): Promise<ClaimedDelivery> {
  const [claimed, ...more] = await op.claimDue({ limit: 9, lease: 1000 })
  ok(claimed)
  equal(more.length, 0)
  return claimed
}

function attempt({ runtime }: Pick<OpStoreBench, 'runtime'>, outcome: AttemptOutcome): AttemptRecord {
  return { dueAt: runtime.now(), startedAt: runtime.now(), finishedAt: runtime.now(), outcome }
}
