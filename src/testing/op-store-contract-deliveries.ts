import { deepEqual, equal, ok, rejects } from 'node:assert/strict'
import type {
  AttemptOutcome,
  AttemptRecord,
  ClaimedDelivery,
  Delivery,
  DeliveryFilter,
  OpIssuerStore,
} from '../op/store/contract.ts'
import { issuer, type Law, loggedIn, type OpStoreBench, opSession, owe } from './op-store-bench.ts'

const hour = 3_600_000
const day = 24 * hour

/** What an OP store promises to operators: what it lists, and what happens to deliveries by hand. */
export function deliveriesContract(law: Law): void {
  law('keeps an attempt with its five times, its status and its error', async (bench) => {
    const { op, runtime } = bench
    await owe(bench, 'u', ['a'])
    const due = runtime.now()
    runtime.pass(7)
    const first = await claimOne(op)
    equal(first.wasDueAt, due)
    const at = runtime.now()
    const answered: AttemptRecord = {
      dueAt: due,
      startedAt: at,
      connectedAt: at + 3,
      answeredAt: at + 5,
      finishedAt: at + 6,
      outcome: { state: 'due', retryAt: at + 1000, why: 'status', status: 503, error: 'temporarily_unavailable' },
    }
    await op.settle(first, answered)
    runtime.pass(1000)
    const second = await claimOne(op)
    equal(second.wasDueAt, at + 1000)
    const hung: AttemptRecord = {
      dueAt: at + 1000,
      startedAt: at + 1000,
      finishedAt: at + 6000,
      outcome: { state: 'due', retryAt: at + 60_000, why: 'timeout' },
    }
    await op.settle(second, hung)
    deepEqual((await op.getDelivery(first.id, 10))?.attempts, [hung, answered])
    deepEqual((await op.getDelivery(first.id, 1))?.attempts, [hung])
    const found = await op.getDelivery(first.id, 10)
    deepEqual(found?.delivery.lastOutcome, hung.outcome)
    equal(found?.delivery.attempts, 2)
    equal(await op.getDelivery('unknown', 10), undefined)
  })

  law('keeps what the last attempt said when a worker gives the next one back', async (bench) => {
    const { op, runtime } = bench
    await owe(bench, 'u', ['a'])
    const outcome: AttemptOutcome = { state: 'due', retryAt: runtime.now(), why: 'status', status: 503 }
    await op.settle(await claimOne(op), attempt(bench, outcome))
    const again = await claimOne(op)
    await op.settle(again, attempt(bench, { state: 'due', retryAt: runtime.now() + 5, why: 'released' }))
    const found = await op.getDelivery(again.id, 10)
    deepEqual(found?.delivery.lastOutcome, outcome)
    equal(found?.attempts.length, 1)
    equal(found?.delivery.dueAt, runtime.now() + 5)
  })

  law('lists by each part of a filter, the newest first, every row exactly once', async (bench) => {
    const { op, runtime } = bench
    const start = runtime.now()
    const made: Delivery[] = []
    for (const uid of ['u1', 'u2', 'u3', 'u4']) {
      made.push(...(await owe(bench, uid, ['a', 'b'])).deliveries)
      runtime.pass(hour)
    }
    const newest = made.map(({ id }) => id).reverse()
    const all = await everything(op, {})
    deepEqual(all.map(({ id }) => id).sort(), [...newest].sort())
    deepEqual(
      all.map(({ logout }) => logout.uid),
      ['u4', 'u4', 'u3', 'u3', 'u2', 'u2', 'u1', 'u1'],
    )
    deepEqual(await everything(op, {}, 3), all)

    const [delivered, refused, dead, dropped] = await claimInOrder(op, 'a')
    ok(delivered && refused && dead && dropped)
    await op.settle(delivered, attempt(bench, { state: 'delivered', status: 200 }))
    await op.settle(refused, attempt(bench, { state: 'refused', status: 400, error: 'invalid_request' }))
    await op.settle(dead, attempt(bench, { state: 'dead', why: 'horizon' }))
    await op.settle(dropped, attempt(bench, { state: 'dead', why: 'horizon' }))
    equal(await op.dropDeliveries({ deliveryId: dropped.id }, 'eve', 10), 1)
    const ids = async (filter: Parameters<OpIssuerStore['listDeliveries']>[0]): Promise<string[]> =>
      (await everything(op, filter, 2)).map(({ id }) => id)
    const b = made
      .filter(({ clientId }) => clientId === 'b')
      .map(({ id }) => id)
      .reverse()
    deepEqual(await ids({ state: 'delivered' }), [delivered.id])
    deepEqual(await ids({ state: 'refused' }), [refused.id])
    deepEqual(await ids({ state: 'dead' }), [dead.id])
    deepEqual(await ids({ state: 'dropped' }), [dropped.id])
    deepEqual(await ids({ state: 'due' }), b)
    deepEqual(await ids({ state: 'in-flight' }), [])
    deepEqual(await ids({ clientId: 'b' }), b)
    deepEqual(await ids({ clientId: 'b', state: 'due' }), b)
    deepEqual(await ids({ clientId: 'b', state: 'dead' }), [])
    deepEqual(await ids({ clientId: 'a', state: 'dead' }), [dead.id])
    deepEqual(await ids({ accountId: 'alice', clientId: 'b' }), b)
    deepEqual(await ids({ accountId: 'bob' }), [])
    deepEqual(await ids({ logoutId: refused.logout.id, clientId: 'a' }), [refused.id])
    deepEqual(await ids({ deliveryId: refused.id }), [refused.id])
    deepEqual(await ids({ deliveryId: refused.id, state: 'dead' }), [])
    deepEqual(await ids({ since: start + hour, until: start + 2 * hour, clientId: 'b' }), b.slice(2, 3))
    deepEqual(await ids({ since: start + 3 * hour, state: 'due' }), b.slice(0, 1))
    await rejects(op.listDeliveries({}, { cursor: 'nonsense', limit: 1 }), TypeError)
  })

  law(
    'tries what was refused or is dead once more, now, and keeps its last word for when that fails',
    async (bench) => {
      const { op, runtime } = bench
      const refused: AttemptOutcome = { state: 'refused', status: 400, error: 'invalid_request' }
      const dead: AttemptOutcome = { state: 'dead', why: 'horizon', failure: { why: 'timeout' } }
      for (const [uid, outcome] of [
        ['u1', refused],
        ['u2', dead],
      ] as const) {
        await owe(bench, uid, ['a'])
        await op.settle(await claimOne(op), attempt(bench, outcome))
      }
      deepEqual(await op.claimDue({ limit: 9, lease: 1000 }), [])
      runtime.pass(100 * hour)
      equal(await op.retryDeliveries({ clientId: 'a' }, 10), 2)
      const claimed = await op.claimDue({ limit: 9, lease: 1000 })
      deepEqual(
        claimed.map(({ lastOutcome }) => lastOutcome),
        [refused, dead],
      )
      for (const one of claimed) {
        equal(one.attempts, 1)
        equal(one.wasDueAt, runtime.now())
      }
      // in flight: not a second time
      equal(await op.retryDeliveries({ clientId: 'a' }, 10), 0)
      const [first, second] = claimed
      ok(first && second)
      await op.settle(first, attempt(bench, { state: 'due', retryAt: runtime.now(), why: 'released' }))
      const back = await claimOne(op)
      deepEqual(back.lastOutcome, refused)
      await op.settle(back, attempt(bench, { ...refused, failure: { why: 'status', status: 503 } }))
      await op.settle(second, attempt(bench, { state: 'delivered', status: 200 }))
      deepEqual(await op.claimDue({ limit: 9, lease: 1000 }), [])
      equal((await op.getDelivery(back.id, 10))?.delivery.state, 'refused')
      equal((await op.getDelivery(second.id, 10))?.delivery.state, 'delivered')
      equal(await op.retryDeliveries({ state: 'dead' }, 10), 0)
      equal(await op.retryDeliveries({ deliveryId: second.id }, 10), 0)
    },
  )

  law('brings forward what waits, so many at a time, and what is due already not again', async (bench) => {
    const { op, runtime } = bench
    for (const uid of ['u1', 'u2', 'u3']) await owe(bench, uid, ['a', 'b'])
    for (const one of await op.claimDue({ limit: 9, lease: 1000 })) {
      await op.settle(one, attempt(bench, { state: 'due', retryAt: runtime.now() + hour, why: 'network' }))
    }
    equal(await op.retryDeliveries({ clientId: 'a' }, 2), 2)
    equal(await op.retryDeliveries({ clientId: 'a' }, 2), 1)
    equal(await op.retryDeliveries({ clientId: 'a' }, 2), 0)
    const claimed = await op.claimDue({ limit: 9, lease: 1000 })
    deepEqual(
      claimed.map(({ clientId, logout }) => `${clientId} ${logout.uid}`),
      ['a u1', 'a u2', 'a u3'],
    )
    equal(await op.nextDueAt((clientId) => (clientId === 'b' ? 1 : 0)), runtime.now() + hour)
  })

  law('gives what was given up a new horizon, as if nothing had been tried or refused', async (bench) => {
    const { op, runtime } = bench
    await owe(bench, 'u', ['a'])
    for (let i = 0; i < 2; i++) {
      await op.settle(
        await claimOne(op),
        attempt(bench, { state: 'due', retryAt: runtime.now(), why: 'refusal', status: 400 }),
      )
    }
    await op.settle(await claimOne(op), attempt(bench, { state: 'refused', status: 400 }))
    runtime.pass(100 * hour)
    equal(await op.rescheduleDeliveries({ state: 'dead' }, 10), 0)
    equal(await op.rescheduleDeliveries({}, 10), 1)
    const again = await claimOne(op)
    equal(again.scheduledAt, runtime.now())
    equal(again.lastOutcome, undefined)
    equal(again.refusals, 0)
    equal(again.refusedSince, undefined)
    equal(again.attempts, 3)
    equal(again.attemptsBefore, 3)
    equal((await op.getDelivery(again.id, 10))?.attempts.length, 3)
    equal(await op.rescheduleDeliveries({}, 10), 0)
  })

  law('drops what is owed or was given up, visibly, and brings it back only by its name', async (bench) => {
    const { op, runtime } = bench
    await owe(bench, 'u1', ['a'])
    await op.settle(await claimOne(op), attempt(bench, { state: 'refused', status: 400 }))
    await owe(bench, 'u2', ['a'])
    const held = await claimOne(op)
    await owe(bench, 'u3', ['a', 'b'])
    runtime.pass(5)
    equal(await op.dropDeliveries({ clientId: 'a' }, 'eve', 1), 1)
    equal(await op.dropDeliveries({ clientId: 'a', state: 'refused' }, 'eve', 9), 1)
    equal(await op.dropDeliveries({ clientId: 'a', state: 'due' }, 'mallory', 9), 0)
    const dropped = await everything(op, { state: 'dropped' })
    deepEqual(
      dropped.map(({ logout }) => logout.uid),
      ['u3', 'u1'],
    )
    for (const one of dropped) {
      equal(one.state, 'dead')
      equal(one.droppedBy, 'eve')
      equal(one.dueAt, runtime.now())
      deepEqual(one.lastOutcome, { state: 'dead', why: 'dropped' })
    }
    // what is in flight is left to its worker
    equal(await op.settle(held, attempt(bench, { state: 'delivered', status: 200 })), true)
    deepEqual(
      (await op.claimDue({ limit: 9, lease: 1000 })).map(({ clientId }) => clientId),
      ['b'],
    )

    equal(await op.retryDeliveries({ clientId: 'a' }, 9), 0)
    equal(await op.rescheduleDeliveries({ clientId: 'a' }, 9), 0)
    equal(await op.retryDeliveries({ deliveryId: dropped[0]?.id ?? '' }, 9), 1)
    equal((await op.countDeliveries(9)).due, 1) // it is owed again
    equal(await op.dropDeliveries({ deliveryId: dropped[0]?.id ?? '' }, 'eve', 9), 1) // and can be dropped again
    equal(await op.retryDeliveries({ deliveryId: dropped[0]?.id ?? '' }, 9), 1)
    const again = await claimOne(op)
    deepEqual(again.lastOutcome, { state: 'dead', why: 'dropped' })
    equal((await op.countDeliveries(9))['in-flight'], 2)
    const failure = { why: 'network' } as const
    await op.settle(again, attempt(bench, { state: 'dead', why: 'dropped', failure }))
    equal((await op.getDelivery(again.id, 9))?.delivery.droppedBy, 'eve')
    equal(await op.rescheduleDeliveries({ state: 'dropped' }, 9), 2)
    for (const one of await op.claimDue({ limit: 9, lease: 1000 })) equal(one.droppedBy, undefined)
  })

  law('drops what is in flight when its attempt is over, unless that arrives', async (bench) => {
    const { op, runtime } = bench
    const outcomes: Record<string, AttemptOutcome> = {
      fails: { state: 'due', why: 'network', retryAt: runtime.now() },
      refuses: { state: 'refused', status: 410 },
      takes: { state: 'delivered', status: 200 },
      waits: { state: 'due', why: 'released', retryAt: runtime.now() },
    }
    const rps = Object.keys(outcomes)
    await owe(bench, 'u', rps)
    const held = await op.claimDue({ limit: 9, lease: 1000 })
    equal(await op.dropDeliveries({ accountId: 'alice' }, 'eve', 9), rps.length)
    equal(await op.dropDeliveries({ accountId: 'alice' }, 'mallory', 9), 0)
    equal((await op.countDeliveries(9))['in-flight'], rps.length)
    deepEqual(await op.claimDue({ limit: 9, lease: 1000 }), [])
    runtime.pass(5)
    for (const one of held) equal(await op.settle(one, attempt(bench, outcomes[one.clientId] as AttemptOutcome)), true)
    const dropped = await everything(op, { state: 'dropped' })
    deepEqual(dropped.map(({ clientId }) => clientId).sort(), ['fails', 'refuses'])
    for (const one of dropped) {
      equal(one.droppedBy, 'eve')
      equal(one.attempts, 1)
      deepEqual(one.lastOutcome, { state: 'dead', why: 'dropped' })
    }
    deepEqual(
      (await everything(op, { state: 'delivered' })).map(({ clientId }) => clientId),
      ['takes'],
    )
    const again = await claimOne(op) // what was given back has one try more
    equal(again.clientId, 'waits')
    deepEqual(again.lastOutcome, { state: 'dead', why: 'dropped' })
  })

  law(
    'acts on what was planned in a time, wherever that lies, and although the clocks of nodes differ',
    async (bench) => {
      const { op, store, runtime } = bench
      const start = runtime.now()
      const wrong = [0, 25, -25].map((minutes) =>
        store.forIssuer(issuer, { ...runtime, now: () => runtime.now() + minutes * 60_000 }),
      )
      for (let i = 0; i < 24; i++) {
        await owe({ ...bench, op: wrong[i % 3] ?? op }, `u${i}`, ['a'])
        runtime.pass(hour)
      }
      const planned = (await op.listDeliveries({}, { limit: 100 })).deliveries.map(({ createdAt }) => createdAt)
      const drop = (filter: DeliveryFilter): Promise<number> => op.dropDeliveries(filter, 'eve', 100)
      const among = (from: number, to: number): number => planned.filter((at) => at >= from && at < to).length
      const at = (hours: number): number => start + hours * hour
      equal(await drop({ since: at(21) }), among(at(21), at(99)))
      equal(await drop({ until: at(3) }), among(0, at(3)))
      equal(await drop({ since: at(9), until: at(11), state: 'due' }), among(at(9), at(11)))
      equal(await drop({ since: at(14), until: at(16), clientId: 'a' }), among(at(14), at(16)))
      equal(await drop({ since: at(99) + 0.5, until: at(100) + 0.5 }), 0) // whoever reckons with times gets fractions
      deepEqual((await op.listDeliveries({ since: at(99) + 0.5 }, { limit: 1 })).deliveries, [])
      equal(await drop({ until: at(-2) }), 0)
      equal(
        await drop({ since: 0, until: at(99) }),
        among(at(3), at(9)) + among(at(11), at(14)) + among(at(16), at(21)),
      )
    },
  )

  law('counts deliveries by state, each up to a bound', async (bench) => {
    const { op } = bench
    deepEqual(await op.countDeliveries(9), { due: 0, 'in-flight': 0, refused: 0, dead: 0 })
    await owe(bench, 'u', ['a', 'b', 'c', 'd', 'e', 'f'])
    const [delivered, refused, dead, gone] = await op.claimDue({ limit: 4, lease: 1000 })
    ok(delivered && refused && dead && gone)
    deepEqual(await op.countDeliveries(9), { due: 2, 'in-flight': 4, refused: 0, dead: 0 })
    await op.settle(delivered, attempt(bench, { state: 'delivered', status: 200 }))
    await op.settle(refused, attempt(bench, { state: 'refused', status: 410 }))
    await op.settle(dead, attempt(bench, { state: 'dead', why: 'horizon' }))
    await op.settle(gone, attempt(bench, { state: 'dead', why: 'client_gone' }))
    deepEqual(await op.countDeliveries(9), { due: 2, 'in-flight': 0, refused: 1, dead: 2 })
    deepEqual(await op.countDeliveries(1), { due: 1, 'in-flight': 0, refused: 1, dead: 1 })
    await op.dropDeliveries({ deliveryId: dead.id }, 'eve', 1)
    equal((await op.countDeliveries(9)).dead, 1)
  })

  law('answers once when a logout has propagated, and not before all of its RPs have confirmed', async (bench) => {
    const { op, runtime } = bench
    const { logout, deliveries } = await owe(bench, 'u', ['a', 'b'])
    const plannedAt = runtime.now()
    const [first, second] = await op.claimDue({ limit: 2, lease: 1000 })
    ok(first && second)
    runtime.pass(10)
    await op.settle(second, attempt(bench, { state: 'delivered', status: 200 }))
    equal(await op.notePropagation(logout.id), undefined)
    runtime.pass(10)
    await op.settle(first, attempt(bench, { state: 'dead', why: 'horizon' }))
    equal(await op.notePropagation(logout.id), undefined)
    await op.retryDeliveries({ deliveryId: first.id }, 1)
    await op.settle(await claimOne(op), attempt(bench, { state: 'delivered', status: 200 }))
    const propagated = await op.notePropagation(logout.id)
    deepEqual({ ...propagated }, { plannedAt, confirmedAt: runtime.now() })
    equal(await op.notePropagation(logout.id), undefined)
    equal(await op.notePropagation('unknown'), undefined)
    equal(deliveries.length, 2)
  })

  law('keeps the trace in which a logout happened, for whoever tells of it', async ({ op, runtime }) => {
    const rps = [loggedIn('a')]
    await op.saveOpSession(opSession(runtime, { rps }))
    const trace = `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`
    const ended = await op.endOpSession('uid-1', { cause: 'admin', trace }, (told) => told)
    equal(ended?.logout.trace, trace)
    equal((await claimOne(op)).logout.trace, trace)
    equal((await op.getLogout(ended?.logout.id ?? ''))?.logout.trace, trace)
  })

  law('tells once that an RP has been in trouble for so long, until it is out of it', async ({ op, runtime }) => {
    const began = runtime.now()
    equal(await troubleOf(op, 'a'), undefined)
    runtime.pass(hour - 1)
    equal(await troubleOf(op, 'a'), undefined)
    equal(await troubleOf(op, 'b'), undefined)
    runtime.pass(1)
    const told = await Promise.all([1, 2, 3].map(() => troubleOf(op, 'a')))
    deepEqual(
      told.filter((since) => since !== undefined),
      [began],
    )
    equal(await troubleOf(op, 'b'), undefined)
    runtime.pass(9 * hour)
    equal(await troubleOf(op, 'a'), undefined)
    await op.endTrouble('a')
    equal(await troubleOf(op, 'a'), undefined)
    const again = runtime.now()
    runtime.pass(hour)
    equal(await troubleOf(op, 'a'), again)
    await op.endTrouble('unknown')
  })

  law('lets trouble begin anew with a failure that comes long after the last', async ({ op, runtime }) => {
    await troubleOf(op, 'a')
    runtime.pass(hour)
    const first = runtime.now() - hour
    equal(await troubleOf(op, 'a'), first)
    runtime.pass(day - 1)
    deepEqual(await op.noteTrouble('a', { tellAfter: hour, pause: day }), { since: first, isToTell: false })
    runtime.pass(day)
    deepEqual(await op.noteTrouble('a', { tellAfter: hour, pause: day }), { since: runtime.now(), isToTell: false })
    runtime.pass(hour)
    equal(await troubleOf(op, 'a'), runtime.now() - hour)
  })

  law('shows and changes nothing of another issuer [T20]', async (bench) => {
    const { store, op, runtime } = bench
    const other = store.forIssuer('https://other.example', runtime)
    const { logout } = await owe(bench, 'u', ['a'])
    const claimed = await claimOne(op)
    await op.settle(claimed, attempt(bench, { state: 'dead', why: 'horizon' }))
    for (const filter of [{}, { logoutId: logout.id }, { accountId: 'alice' }, { deliveryId: claimed.id }]) {
      deepEqual((await other.listDeliveries(filter, { limit: 9 })).deliveries, [])
      equal(await other.retryDeliveries(filter, 9), 0)
      equal(await other.rescheduleDeliveries(filter, 9), 0)
      equal(await other.dropDeliveries(filter, 'eve', 9), 0)
    }
    equal(await other.getDelivery(claimed.id, 9), undefined)
    equal((await other.countDeliveries(9)).dead, 0)
    await troubleOf(op, 'a')
    runtime.pass(hour)
    equal(await troubleOf(other, 'a'), undefined)
    await other.endTrouble('a')
    equal(await troubleOf(op, 'a'), runtime.now() - hour)
  })
}

/** Notes that an RP failed; answers since when it does where that is to be told now. */
async function troubleOf(op: OpIssuerStore, clientId: string): Promise<number | undefined> {
  const { since, isToTell } = await op.noteTrouble(clientId, { tellAfter: hour, pause: day })
  return isToTell ? since : undefined
}

async function everything(
  op: OpIssuerStore,
  filter: Parameters<OpIssuerStore['listDeliveries']>[0],
  limit = 100,
): Promise<Delivery[]> {
  const found: Delivery[] = []
  for (let cursor: string | undefined, isFirst = true; isFirst || cursor !== undefined; isFirst = false) {
    const page = await op.listDeliveries(filter, { limit, ...(cursor !== undefined && { cursor }) })
    ok(page.deliveries.length <= limit)
    found.push(...page.deliveries)
    cursor = page.cursor
  }
  return found
}

async function claimOne(op: OpIssuerStore): Promise<ClaimedDelivery> {
  const [claimed, ...more] = await op.claimDue({ limit: 9, lease: 1000 })
  ok(claimed)
  equal(more.length, 0)
  return claimed
}

async function claimInOrder(op: OpIssuerStore, clientId: string): Promise<readonly ClaimedDelivery[]> {
  return op.claimDue({ limit: 99, lease: 1000, room: (id) => (id === clientId ? 99 : 0) })
}

function attempt({ runtime }: Pick<OpStoreBench, 'runtime'>, outcome: AttemptOutcome): AttemptRecord {
  return { dueAt: runtime.now(), startedAt: runtime.now(), finishedAt: runtime.now(), outcome }
}
