import { deepEqual, equal, match, ok } from 'node:assert/strict'
import type { Delivery, Erasure, OpIssuerStore, PlannedDelivery } from '../op/store/contract.ts'
import { issuer, type Law, loggedIn, type OpStoreBench, opSession, owe } from './op-store-bench.ts'

const ending = { cause: 'account_deleted', revokeOffline: true } as const
const step = { limit: 10, pause: 40, wait: 60_000 }
const day = 86_400_000
const tellAll = (told: readonly { clientId: string; sid: string }[]): PlannedDelivery[] =>
  told.map(({ clientId, sid }) => ({ clientId, sid }))

/** A login with a token that outlives it, a millisecond later than all that was before. */
async function logIn({ op, runtime }: OpStoreBench, uid: string, accountId: string): Promise<void> {
  runtime.pass(1)
  const grantId = `grant-${uid}`
  const rps = [loggedIn('notes', { sid: `sid-${uid}`, grantId, persistsLogout: true })]
  await op.putModel({ kind: 'Grant', handle: grantId, grantId, accountId, clientId: 'notes', payload: { accountId } })
  const token = { handle: `token-${uid}`, grantId, accountId, clientId: 'notes', payload: { accountId } }
  await op.putModel({ kind: 'RefreshToken', ...token })
  equal(await op.saveOpSession(opSession(runtime, { uid, handle: `handle-${uid}`, accountId, rps })), 'saved')
}

/** Works off the jobs of `endAll` that are due, as the OP does. */
async function endSessions({ op, runtime }: OpStoreBench): Promise<void> {
  for (;;) {
    const claimed = await op.claimEndJob({ limit: 10, lease: 1000 })
    if (!claimed) return
    const { job, next } = claimed
    const uids = next.map(({ uid }) => uid)
    if (job.state === 'running') await op.endOpSessions(uids, ending, tellAll, { id: job.id, pause: 0 })
    runtime.pass(1)
  }
}

/** Every RP that is owed something has heard it. */
async function tellRps({ op, runtime }: OpStoreBench): Promise<void> {
  const times = { dueAt: runtime.now(), startedAt: runtime.now(), finishedAt: runtime.now() }
  for (const claimed of await op.claimDue({ limit: 100, lease: 1000 })) {
    ok(await op.settle(claimed, { ...times, outcome: { state: 'delivered', status: 200 } }))
  }
}

/** Takes the steps that are due in the next minutes, and answers the last. */
async function erase({ op, runtime }: OpStoreBench, minutes = 3): Promise<Erasure | undefined> {
  const until = runtime.now() + minutes * 60_000
  let last: Erasure | undefined
  while (runtime.now() < until) {
    last = (await op.eraseSome(step)) ?? last
    if (last?.state === 'done') return last
    runtime.pass(10_000)
  }
  return last
}

const deliveriesOf = async (op: OpIssuerStore, accountId: string): Promise<readonly Delivery[]> =>
  (await op.listDeliveries({ accountId }, { limit: 100 })).deliveries

/** What an OP store promises about the erasure of an account. */
export function eraseContract(law: Law, durable: boolean): void {
  law('refuses an account from the moment its erasure is recorded [T30] [T2]', async (bench) => {
    const { op, runtime } = bench
    await logIn(bench, 'hers', 'alice')
    await logIn(bench, 'his', 'bob')
    runtime.pass(1)
    const { id, jobId, pseudonym, ...facts } = await op.eraseAccount('alice', { ...ending, actor: 'root' })
    deepEqual(facts, { accountId: 'alice', state: 'running', requestedAt: runtime.now() })
    match(pseudonym, /^erased:[\w-]{22}$/)
    equal(await op.getOpSession({ uid: 'hers' }), undefined)
    equal(await op.getModel('RefreshToken', { handle: 'token-hers' }), undefined)
    ok(await op.getOpSession({ uid: 'his' }))
    const job = await op.getEndJob(jobId)
    deepEqual([job?.scope, job?.cause, job?.actor, job?.total], [{ accountId: 'alice' }, 'account_deleted', 'root', 1])
    equal((await op.getErasure(id))?.state, 'running')
    equal(await op.nextErasureAt(), runtime.now())
  })

  law('keeps the account where an RP has still to be told of it, and nowhere afterwards [T30]', async (bench) => {
    const { op, runtime } = bench
    const told = await owe(bench, 'earlier', ['notes', 'mail'])
    await logIn(bench, 'hers', 'alice')
    await logIn(bench, 'his', 'bob')
    const his = await op.endOpSession('his', { cause: 'op_logout' }, tellAll)
    runtime.pass(1)
    const { jobId, pseudonym } = await op.eraseAccount('alice', { ...ending, actor: 'alice' })
    await endSessions(bench)
    await erase(bench)
    deepEqual((await deliveriesOf(op, 'alice')).map(({ clientId }) => clientId).sort(), ['mail', 'notes', 'notes'])
    const [claimed] = await op.claimDue({ limit: 1, lease: 1000 })
    equal(claimed?.logout.accountId, 'alice') // the Logout Token names it
    await tellRps(bench)
    runtime.pass(2000)
    await tellRps(bench)
    await erase(bench)
    deepEqual(await deliveriesOf(op, 'alice'), [])
    equal((await deliveriesOf(op, pseudonym)).length, 3)
    equal((await op.getLogout(told.logout.id))?.logout.accountId, pseudonym)
    equal((await op.getLogout(his?.logout.id ?? ''))?.logout.accountId, 'bob')
    deepEqual((await op.getEndJob(jobId))?.scope, { accountId: 'alice' }) // requests that are under way are refused by it
    equal((await op.listErasures(10))[0]?.state, 'running')

    runtime.pass(day)
    const done = await erase(bench)
    const { accountId, state, finishedAt } = done ?? {}
    deepEqual([accountId, state, finishedAt], [undefined, 'done', runtime.now()])
    const job = await op.getEndJob(jobId)
    deepEqual([job?.scope, job?.actor], [{ accountId: pseudonym }, pseudonym])
    equal(await op.nextErasureAt(), undefined)
    equal(await op.eraseSome(step), undefined)
  })

  law('waits until the job has ended all OP sessions of the account [T30]', async (bench) => {
    const { op, runtime } = bench
    await logIn(bench, 'hers', 'alice')
    runtime.pass(1)
    await op.eraseAccount('alice', ending)
    runtime.pass(day)
    equal((await erase(bench))?.state, 'running')
    await endSessions(bench)
    equal((await erase(bench))?.state, 'running')
    await tellRps(bench)
    equal((await erase(bench))?.state, 'done')
  })

  law('deletes grants and tokens for good, a part at a time, and nobody else’s [T30]', async (bench) => {
    const { op, runtime } = bench
    for (let i = 0; i < 1500; i += 100) {
      const handles = Array.from({ length: 100 }, (_, j) => `x${i + j}`)
      await Promise.all(handles.map((handle) => op.putModel({ kind: 'AccessToken', handle, payload: {} })))
    }
    await logIn(bench, 'hers', 'alice')
    await logIn(bench, 'his', 'bob')
    const login = { kind: 'Interaction', accountId: 'alice', payload: {} }
    await op.putModel({ ...login, handle: 'before' })
    runtime.pass(1)
    await op.eraseAccount('alice', ending)
    runtime.pass(1)
    await op.putModel({ ...login, handle: 'after' })
    await erase(bench)
    // a refresh that was under way: without its grant it would be as old as it is saved
    const token = { grantId: 'grant-hers', accountId: 'alice', payload: {} }
    await op.putModel({ kind: 'RefreshToken', handle: 'rotated', ...token })
    await op.putModel({ kind: 'Grant', handle: 'grant-hers', ...token })
    equal(await op.getModel('RefreshToken', { handle: 'rotated' }), undefined)
    equal(await op.getModel('Grant', { handle: 'grant-hers' }), undefined)
    equal(await op.getModel('Interaction', { handle: 'before' }), undefined)
    ok(await op.getModel('Interaction', { handle: 'after' }))
    ok(await op.getModel('RefreshToken', { handle: 'token-his' }))
    ok(await op.getModel('AccessToken', { handle: 'x1499' }))
  })

  law('drops what RPs answered in their own words [T30]', async (bench) => {
    const { op, runtime } = bench
    await owe(bench, 'uid-1', ['notes', 'mail'])
    const times = { dueAt: runtime.now(), startedAt: runtime.now(), finishedAt: runtime.now() }
    const failure = { why: 'refusal', status: 400, error: 'x', errorDescription: 'alice \u0000 \ud800' } as const
    for (const claimed of await op.claimDue({ limit: 10, lease: 1000 })) {
      const outcome =
        claimed.clientId === 'notes'
          ? ({ state: 'refused', status: 400, error: 'x', errorDescription: 'no alice here' } as const)
          : ({ state: 'dead', why: 'horizon', failure } as const)
      ok(await op.settle(claimed, { ...times, outcome }))
    }
    const { pseudonym } = await op.eraseAccount('alice', ending)
    await erase(bench)
    const found = await deliveriesOf(op, pseudonym)
    deepEqual(
      new Map(found.map(({ clientId, lastOutcome }) => [clientId, lastOutcome])),
      new Map<string, unknown>([
        ['mail', { state: 'dead', why: 'horizon', failure: { why: 'refusal', status: 400, error: 'x' } }],
        ['notes', { state: 'refused', status: 400, error: 'x' }],
      ]),
    )
    for (const { id } of found) deepEqual((await op.getDelivery(id, 10))?.attempts, [])
  })

  law('erases many logouts in steps, and each account for itself [T30]', async (bench) => {
    const { op, runtime } = bench
    for (let i = 0; i < 25; i++) await owe(bench, `uid-${i}`, ['notes'])
    await tellRps(bench)
    const { pseudonym } = await op.eraseAccount('alice', ending)
    const again = await op.eraseAccount('alice', ending)
    await op.eraseAccount('bob', ending)
    const counts: number[] = []
    for (let i = 0; i < 12; i++) {
      await op.eraseSome(step)
      counts.push((await deliveriesOf(op, 'alice')).length)
      runtime.pass(40)
    }
    ok(counts.includes(15) || counts.includes(5), counts.join())
    deepEqual(await deliveriesOf(op, 'alice'), [])
    equal((await deliveriesOf(op, pseudonym)).length + (await deliveriesOf(op, again.pseudonym)).length, 25)
    runtime.pass(day)
    await endSessions(bench)
    for (let i = 0; i < 3; i++) await erase(bench)
    deepEqual(
      (await op.listErasures(10)).map(({ state }) => state),
      ['done', 'done', 'done'],
    )
  })

  law('erases with the account what a later end of it refuses, and the name of that end [T30] [T2]', async (bench) => {
    const { op, runtime } = bench
    await op.eraseAccount('alice', ending)
    runtime.pass(1000)
    await logIn(bench, 'late', 'alice') // findAccount still knew her
    const alone = { grantId: 'alone', accountId: 'alice', payload: {} } // outlived its OP session
    for (const kind of ['Grant', 'RefreshToken']) await op.putModel({ kind, handle: 'alone', ...alone })
    await erase(bench)
    runtime.pass(day / 2)
    const { id, notBefore } = await op.endAll({ accountId: 'alice' }, { ...ending, actor: 'alice' })
    await endSessions(bench)
    await tellRps(bench)
    runtime.pass(notBefore + day - 600_000 - runtime.now())
    equal((await erase(bench))?.state, 'running') // the later end has still requests to refuse
    runtime.pass(600_000)
    const done = await erase(bench)
    deepEqual([done?.state, done?.accountId], ['done', undefined])
    const job = await op.getEndJob(id)
    deepEqual([job?.scope, job?.actor], [{ accountId: done?.pseudonym }, done?.pseudonym])
    for (const handle of ['token-late', 'alone']) equal(await op.getModel('RefreshToken', { handle }), undefined)
    equal(await op.getModel('Grant', { handle: 'alone' }), undefined)
  })

  law('waits for a later end of the account that has not ended all OP sessions yet [T30]', async (bench) => {
    const { op, runtime } = bench
    await op.eraseAccount('alice', ending)
    await endSessions(bench)
    await logIn(bench, 'late', 'alice')
    runtime.pass(1)
    await op.endAll({ accountId: 'alice' }, ending)
    runtime.pass(2 * day)
    equal((await erase(bench))?.state, 'running')
    await endSessions(bench)
    await tellRps(bench)
    equal((await erase(bench))?.state, 'done')
  })

  law('leaves alone what a later end of the account leaves alone [T30]', async (bench) => {
    const { op, runtime } = bench
    await op.eraseAccount('alice', ending)
    await logIn(bench, 'late', 'alice')
    runtime.pass(1)
    await op.endAll({ accountId: 'alice' }, ending, ['late'])
    await endSessions(bench)
    runtime.pass(day)
    equal((await erase(bench))?.state, 'done')
    ok(await op.getModel('RefreshToken', { handle: 'token-late' }))
  })

  law('leaves an account of another issuer alone [T20]', async (bench) => {
    const { op, runtime, store } = bench
    const other = store.forIssuer('https://other.example', runtime)
    await logIn({ ...bench, op: other }, 'there', 'alice')
    runtime.pass(1)
    await op.eraseAccount('alice', ending)
    equal(await other.nextErasureAt(), undefined)
    equal(await other.eraseSome(step), undefined)
    await erase(bench)
    ok(await other.getModel('RefreshToken', { handle: 'token-there' }))
    ok(await other.getOpSession({ uid: 'there' }))
  })

  law('forgets an erasure with the logouts of its time, and none that is under way [T30]', async (bench) => {
    const { op, runtime } = bench
    await op.eraseAccount('alice', ending)
    await endSessions(bench)
    const before = { attempts: 0, logouts: runtime.now() + 10 * day }
    await op.forget(before, 10)
    equal((await op.listErasures(10)).length, 1)
    runtime.pass(day)
    equal((await erase(bench))?.state, 'done')
    await op.forget({ attempts: 0, logouts: runtime.now() - 1000 }, 10)
    equal((await op.listErasures(10)).length, 1)
    await op.forget(before, 10)
    deepEqual(await op.listErasures(10), [])
  })

  law(
    'keeps an erasure as long as a logout has its pseudonym: that is how the pseudonym is known [T30]',
    async (bench) => {
      const { op, runtime } = bench
      await owe(bench, 'uid-1', ['notes'])
      const times = { dueAt: runtime.now(), startedAt: runtime.now(), finishedAt: runtime.now() }
      const [claimed] = await op.claimDue({ limit: 1, lease: 1000 })
      ok(claimed && (await op.settle(claimed, { ...times, outcome: { state: 'dead', why: 'horizon' } })))
      await op.eraseAccount('alice', ending)
      await endSessions(bench)
      runtime.pass(day)
      equal((await erase(bench))?.state, 'done')
      equal(await op.rescheduleDeliveries({ clientId: 'notes' }, 1), 1)
      const before = { attempts: 0, logouts: runtime.now() + 10 * day }
      await op.forget(before, 10) // what an RP is owed is kept
      equal((await op.listErasures(10)).length, 1)
      await tellRps(bench)
      await op.forget(before, 10)
      deepEqual(await op.listErasures(10), [])
    },
  )

  if (!durable) return
  law('goes on with an erasure after a restart [T30]', async (bench) => {
    const { op, store, runtime, reopen } = bench
    ok(reopen)
    await logIn(bench, 'hers', 'alice')
    runtime.pass(1)
    const { id } = await op.eraseAccount('alice', ending)
    await op.eraseSome(step)
    await store.close()
    const opened = await reopen()
    try {
      const later = { ...bench, store: opened, op: opened.forIssuer(issuer, runtime) }
      await endSessions(later)
      await tellRps(later)
      runtime.pass(day)
      equal((await erase(later))?.id, id)
      equal((await later.op.getErasure(id))?.state, 'done')
    } finally {
      await opened.close()
    }
  })
}
