import { deepEqual, equal, ok, rejects } from 'node:assert/strict'
import type { OpIssuerStore, OpSessionScope, PlannedDelivery, StoredModel } from '../op/store/contract.ts'
import { issuer, type Law, loggedIn, type OpStoreBench, opSession } from './op-store-bench.ts'

const everyRp = (told: readonly { clientId: string; sid: string }[]): PlannedDelivery[] =>
  told.map(({ clientId, sid }) => ({ clientId, sid }))
const compromise = { cause: 'compromise', revokeOffline: true } as const

/** A login of an account at these RPs, a millisecond later than all that was before. */
async function logIn(
  { op, runtime }: Pick<OpStoreBench, 'op' | 'runtime'>,
  uid: string,
  accountId: string,
  clientIds: readonly string[] = ['notes'],
): Promise<void> {
  runtime.pass(1)
  const rps = clientIds.map((clientId) => loggedIn(clientId, { sid: `${uid}-${clientId}`, grantId: `grant-${uid}` }))
  equal(await op.saveOpSession(opSession(runtime, { uid, handle: `handle-${uid}`, accountId, rps })), 'saved')
}

const isAlive = async (op: OpIssuerStore, uid: string): Promise<boolean> =>
  (await op.getOpSession({ uid })) !== undefined
const uidsOf = async (op: OpIssuerStore, scope: OpSessionScope): Promise<string[]> =>
  (await op.listOpSessions(scope)).sessions.map(({ uid }) => uid)

/** Works on the jobs until none is due, as the OP does, and answers how many OP sessions it ended. */
async function workOff({ op, runtime }: Pick<OpStoreBench, 'op' | 'runtime'>, limit = 10): Promise<number> {
  let ended = 0
  for (;;) {
    const claimed = await op.claimEndJob({ limit, lease: 1000 })
    if (!claimed) return ended
    const { job, next } = claimed
    if (job.state === 'done') continue
    const { id, cause, revokeOffline } = job
    const uids = next.map(({ uid }) => uid)
    ended += (await op.endOpSessions(uids, { cause, revokeOffline }, everyRp, { id, pause: 100 })).length
    runtime.pass(100)
  }
}

/** What an OP store promises about lists, and about the end of all OP sessions of a scope. */
export function endAllContract(law: Law, durable: boolean): void {
  law('lists the OP sessions of an account, of a client and of everyone, the newest login first', async (bench) => {
    const { op, runtime } = bench
    await logIn(bench, 'a1', 'alice', ['notes'])
    await logIn(bench, 'c1', 'carol', ['mail', 'notes'])
    await logIn(bench, 'a2', 'alice', ['mail'])
    runtime.pass(1)
    const { accountId: _, ...anonymous } = opSession(runtime, { uid: 'anonymous', handle: 'anonymous' })
    await op.saveOpSession(anonymous)
    deepEqual(await uidsOf(op, { accountId: 'alice' }), ['a2', 'a1'])
    deepEqual(await uidsOf(op, { clientId: 'notes' }), ['c1', 'a1'])
    deepEqual(await uidsOf(op, 'everyone'), ['a2', 'c1', 'a1'])
    deepEqual(await uidsOf(op, { clientId: 'unknown' }), [])
    runtime.pass(1)
    await op.claimLogin('a1', { clientId: 'mail', sid: 's', grantId: 'g' })
    deepEqual(await uidsOf(op, { clientId: 'mail' }), ['a1', 'a2', 'c1'])
  })

  law('lists in parts, each OP session once while others come and go', async (bench) => {
    const { op } = bench
    const uids = Array.from({ length: 25 }, (_, i) => `uid ${String(i).padStart(2, '0')}`)
    for (const uid of uids) await logIn(bench, uid, 'alice')
    for (const scope of [{ accountId: 'alice' }, { clientId: 'notes' }, 'everyone'] as const) {
      const seen: string[] = []
      let cursor: string | undefined
      do {
        const page = await op.listOpSessions(scope, { limit: 10, ...(cursor !== undefined && { cursor }) })
        ok(page.sessions.length <= 10)
        seen.push(...page.sessions.map(({ uid }) => uid))
        cursor = page.cursor
        await logIn(bench, `later ${JSON.stringify(scope)} ${seen.length}`, 'alice')
      } while (cursor !== undefined)
      deepEqual(
        seen.filter((uid) => uid.startsWith('uid')),
        [...uids].reverse(),
      )
      equal(new Set(seen).size, seen.length)
    }
    equal((await op.listOpSessions({ accountId: 'carol' }, { limit: 1 })).cursor, undefined)
  })

  law('refuses all OP sessions of an account from the moment endAll answers [T2]', async (bench) => {
    const { op, runtime } = bench
    const write = opSession(runtime, { rps: [loggedIn('notes')] })
    await op.saveOpSession(write)
    await logIn(bench, 'hers', 'carol')
    equal(await op.countOpSessions({ accountId: 'alice' }), 1)
    runtime.pass(1)
    const job = await op.endAll({ accountId: 'alice' }, { ...compromise, actor: 'root', reason: 'stolen' })
    const { id, ...facts } = job
    ok(id.length >= 16)
    deepEqual(facts, {
      scope: { accountId: 'alice' },
      cause: 'compromise',
      actor: 'root',
      reason: 'stolen',
      revokeOffline: true,
      notBefore: runtime.now(),
      state: 'running',
      total: 1,
      ended: 0,
    })
    runtime.pass(1)
    equal(await isAlive(op, 'uid-1'), false)
    equal(await op.getOpSession({ handle: 'handle-1' }), undefined)
    equal(await op.saveOpSession(write), 'ended')
    await rejects(op.claimLogin('uid-1', { clientId: 'mail', sid: 's', grantId: 'g' }), {
      code: 'op_session_ended',
    })
    deepEqual(await uidsOf(op, { accountId: 'alice' }), [])
    equal(await op.countOpSessions({ accountId: 'alice' }), 0)
    equal(await isAlive(op, 'hers'), true)
    // Whoever signs in afterwards is let in.
    await logIn(bench, 'new', 'alice')
    equal(await isAlive(op, 'new'), true)
    equal(await workOff(bench), 1)
    equal(await isAlive(op, 'new'), true)
  })

  law('refuses a login that began before endAll and is saved after it [T2]', async (bench) => {
    const { op, runtime } = bench
    const interaction = { kind: 'Interaction', handle: 'i', payload: {} } satisfies StoredModel
    await op.putModel(interaction)
    const since = (await op.getModel('Interaction', { handle: 'i' }))?.since ?? Number.NaN
    runtime.pass(1)
    await op.endAll({ accountId: 'alice' }, { cause: 'op_logout' })
    runtime.pass(1)
    // the password was right a moment ago
    await op.putModel({ ...interaction, accountId: 'alice', payload: { checked: true } })
    deepEqual((await op.getModel('Interaction', { handle: 'i' }))?.payload, {})
    const write = opSession(runtime, { login: { since, interaction: 'i' } })
    equal(await op.saveOpSession(write), 'ended')
    equal(await isAlive(op, 'uid-1'), false)
    equal(await op.saveOpSession({ ...write, accountId: 'carol' }), 'saved')
  })

  law('refuses what came out of a login that was checked before endAll [T2]', async ({ op, runtime }) => {
    await op.putModel({ kind: 'Interaction', handle: 'i', payload: {}, accountId: 'alice' })
    runtime.pass(1)
    await op.endAll({ accountId: 'alice' }, { cause: 'op_logout' })
    equal(await op.getModel('Interaction', { handle: 'i' }), undefined)
  })

  law('lets an anonymous OP session of before endAll sign in afterwards', async ({ op, runtime }) => {
    const { accountId: _, ...anonymous } = opSession(runtime)
    await op.saveOpSession(anonymous)
    runtime.pass(1)
    await op.endAll('everyone', compromise)
    equal(await isAlive(op, 'uid-1'), true)
    runtime.pass(1)
    equal(await op.saveOpSession(opSession(runtime)), 'saved')
    equal((await op.getOpSession({ uid: 'uid-1' }))?.accountId, 'alice')
  })

  law('refuses all tokens under grants of before, offline ones without an OP session too [T1] [T2]', async (bench) => {
    const { op, runtime } = bench
    const put = (kind: string, grantId: string, accountId = 'alice', clientId = 'notes'): Promise<void> =>
      op.putModel({ kind, handle: `${kind} ${grantId}`, payload: {}, grantId, accountId, clientId })
    const has = async (kind: string, grantId: string): Promise<boolean> =>
      (await op.getModel(kind, { handle: `${kind} ${grantId}` })) !== undefined
    for (const kind of ['Grant', 'AuthorizationCode', 'RefreshToken', 'AccessToken']) {
      await put(kind, 'old')
      await put(kind, 'hers', 'carol')
    }
    runtime.pass(1)
    await op.endAll({ accountId: 'alice' }, compromise)
    runtime.pass(1)
    for (const kind of ['Grant', 'AuthorizationCode', 'RefreshToken', 'AccessToken']) {
      equal(await has(kind, 'old'), false)
      equal(await has(kind, 'hers'), true)
    }
    // A refresh that was under way saves a new token under the old grant, and the grant itself.
    await put('RefreshToken', 'old')
    await put('Grant', 'old')
    equal(await has('RefreshToken', 'old'), false)
    equal(await has('Grant', 'old'), false)
    await put('Grant', 'new')
    await put('RefreshToken', 'new')
    equal(await has('RefreshToken', 'new'), true)
  })

  law('leaves grants that survive logout alone where the cause does [T1]', async (bench) => {
    const { op, runtime } = bench
    const rps = [loggedIn('notes'), loggedIn('mail', { persistsLogout: true })]
    await op.saveOpSession(opSession(runtime, { rps }))
    for (const { grantId = '' } of rps) {
      await op.putModel({ kind: 'Grant', handle: grantId, payload: {}, grantId, accountId: 'alice' })
    }
    runtime.pass(1)
    await op.endAll({ accountId: 'alice' }, { cause: 'op_logout' })
    equal(await isAlive(op, 'uid-1'), false)
    await workOff(bench)
    equal(await op.getModel('Grant', { handle: 'grant-notes' }), undefined)
    equal((await op.getModel('Grant', { handle: 'grant-mail' }))?.grantId, 'grant-mail')
    runtime.pass(1)
    await op.endAll({ accountId: 'alice' }, compromise)
    equal(await op.getModel('Grant', { handle: 'grant-mail' }), undefined)
  })

  law('revokes grants that survive logout with an OP session that ends for a compromise [T1]', async (bench) => {
    const { op, runtime } = bench
    await op.saveOpSession(opSession(runtime, { rps: [loggedIn('mail', { persistsLogout: true })] }))
    await op.putModel({ kind: 'RefreshToken', handle: 'r', payload: {}, grantId: 'grant-mail' })
    await op.endOpSession('uid-1', compromise, () => [])
    equal(await op.getModel('RefreshToken', { handle: 'r' }), undefined)
    await op.putModel({ kind: 'RefreshToken', handle: 'r', payload: {}, grantId: 'grant-mail' })
    equal(await op.getModel('RefreshToken', { handle: 'r' }), undefined)
  })

  law('leaves alone what except names, with its grants of before and after [T2]', async (bench) => {
    const { op, runtime } = bench
    const grant = (grantId: string): Promise<void> =>
      op.putModel({ kind: 'Grant', handle: grantId, payload: {}, grantId, accountId: 'alice' })
    await logIn(bench, 'this', 'alice')
    await logIn(bench, 'other', 'alice')
    for (const grantId of ['grant-this', 'grant-other', 'under way']) await grant(grantId)
    await op.putModel({ kind: 'Interaction', handle: 'i', payload: {}, accountId: 'alice' })
    const since = (await op.getModel('Interaction', { handle: 'i' }))?.since ?? Number.NaN
    runtime.pass(1)
    equal(await op.countOpSessions({ accountId: 'alice' }, ['this']), 1)
    const job = await op.endAll({ accountId: 'alice' }, compromise, ['this', 'i', 'unknown'])
    equal(job.total, 1)
    runtime.pass(1)

    equal(await isAlive(op, 'this'), true)
    equal(await isAlive(op, 'other'), false)
    equal((await op.getModel('Grant', { handle: 'grant-this' }))?.grantId, 'grant-this')
    equal(await op.getModel('Grant', { handle: 'grant-other' }), undefined)
    // A login of before the end is recorded under the OP session that stays.
    equal(await op.getModel('Grant', { handle: 'under way' }), undefined)
    await op.claimLogin('this', { clientId: 'mail', sid: 's', grantId: 'under way' })
    equal((await op.getModel('Grant', { handle: 'under way' }))?.grantId, 'under way')
    // The password was changed in this interaction, on the way to a login.
    equal((await op.getModel('Interaction', { handle: 'i' }))?.handle, 'i')
    const login = { since, interaction: 'i' }
    const write = opSession(runtime, { uid: 'reset', handle: 'reset', login })
    equal(await op.saveOpSession(write), 'saved')
    equal(await op.saveOpSession(write), 'saved')

    equal(await workOff(bench), 1)
    deepEqual((await uidsOf(op, { accountId: 'alice' })).sort(), ['reset', 'this'])
    // The next end spares neither of them.
    runtime.pass(1)
    await op.endAll({ accountId: 'alice' }, { cause: 'op_logout' }, ['other'])
    equal(await isAlive(op, 'this'), false)
    equal(await isAlive(op, 'reset'), false)
    equal(await isAlive(op, 'other'), false)
  })

  law('refuses the OP sessions in which a client was logged in, and that client’s tokens [T2]', async (bench) => {
    const { op, runtime } = bench
    await logIn(bench, 'with', 'alice', ['notes', 'mail'])
    await logIn(bench, 'without', 'alice', ['mail'])
    const token = (clientId: string): Promise<void> =>
      op.putModel({ kind: 'AccessToken', handle: clientId, payload: {}, accountId: 'alice', clientId })
    await token('notes')
    await token('mail')
    await op.claimLogin('unsaved', { clientId: 'notes', sid: 's', grantId: 'g' })
    runtime.pass(1)
    equal(await op.countOpSessions({ clientId: 'notes' }), 1)
    equal((await op.endAll({ clientId: 'notes' }, compromise)).total, 1)
    runtime.pass(1)
    equal(await isAlive(op, 'with'), false)
    equal(await isAlive(op, 'without'), true)
    equal(await op.getModel('AccessToken', { handle: 'notes' }), undefined)
    equal((await op.getModel('AccessToken', { handle: 'mail' }))?.handle, 'mail')
    equal(await op.saveOpSession(opSession(runtime, { uid: 'unsaved', handle: 'unsaved' })), 'ended')
    await op.claimLogin('without', { clientId: 'notes', sid: 's', grantId: 'g2' })
    equal(await isAlive(op, 'without'), true)
    equal(await workOff(bench), 1)
    deepEqual(await uidsOf(op, 'everyone'), ['without'])
  })

  law('refuses everyone, and nothing that is nobody’s [T2]', async (bench) => {
    const { op, runtime } = bench
    await logIn(bench, 'a', 'alice')
    await logIn(bench, 'c', 'carol')
    await op.putModel({ kind: 'Client', handle: 'notes', payload: { client_id: 'notes' } })
    await op.putModel({ kind: 'AccessToken', handle: 't', payload: {}, accountId: 'carol', clientId: 'notes' })
    runtime.pass(1)
    equal((await op.endAll('everyone', compromise)).total, 2)
    deepEqual([await isAlive(op, 'a'), await isAlive(op, 'c')], [false, false])
    equal(await op.getModel('AccessToken', { handle: 't' }), undefined)
    equal((await op.getModel('Client', { handle: 'notes' }))?.handle, 'notes')
    equal(await workOff(bench), 2)
  })

  law('works a job off in batches at its pace, counts, and says once that it is done', async (bench) => {
    const { op, runtime } = bench
    for (let i = 0; i < 5; i++) await logIn(bench, `uid ${i}`, 'alice', ['notes', 'mail'])
    runtime.pass(1)
    const { id, notBefore } = await op.endAll({ accountId: 'alice' }, compromise)
    equal(await op.nextEndJobAt(), notBefore)
    runtime.pass(10)
    const claimed = await op.claimEndJob({ limit: 2, lease: 1000 })
    deepEqual(
      claimed?.next.map(({ uid, rps }) => [uid, rps.length]),
      [
        ['uid 0', 2],
        ['uid 1', 2],
      ],
    )
    equal(await op.claimEndJob({ limit: 2, lease: 1000 }), undefined)
    equal(await op.nextEndJobAt(), runtime.now() + 1000)
    const uids = claimed?.next.map(({ uid }) => uid) ?? []
    const ended = await op.endOpSessions(uids, compromise, everyRp, { id, pause: 400 })
    deepEqual(
      ended.map(({ logout, deliveries }) => [logout.uid, logout.endedAt, deliveries.length]),
      [
        ['uid 0', notBefore, 2],
        ['uid 1', notBefore, 2],
      ],
    )
    // The same batch by another node, which slept past its lease: nothing ends twice.
    deepEqual(await op.endOpSessions(uids, compromise, everyRp, { id, pause: 400 }), [])
    equal(await op.nextEndJobAt(), runtime.now() + 400)
    deepEqual(await op.claimEndJob({ limit: 2, lease: 1000 }), undefined)
    deepEqual({ ...(await op.getEndJob(id)) }, { ...claimed?.job, ended: 2 })
    runtime.pass(400)
    equal(await workOff(bench, 2), 3)
    const done = await op.getEndJob(id)
    deepEqual([done?.state, done?.ended, done?.total], ['done', 5, 5])
    ok(done?.finishedAt)
    equal(await op.nextEndJobAt(), undefined)
    equal(await op.claimEndJob({ limit: 2, lease: 1000 }), undefined)
    deepEqual(await op.listEndJobs(10), [done])
    equal((await op.claimDue({ limit: 100, lease: 1000 })).length, 10)
  })

  law('gives a job to another when its holder is gone', async (bench) => {
    const { op, runtime } = bench
    await logIn(bench, 'a', 'alice')
    await op.endAll('everyone', compromise)
    equal((await op.claimEndJob({ limit: 1, lease: 1000 }))?.next.length, 1)
    runtime.pass(1000)
    equal(await workOff(bench), 1)
  })

  law('ends a batch whole or not at all', async (bench) => {
    const { op, runtime } = bench
    for (const uid of ['a', 'b', 'c']) await logIn(bench, uid, 'alice', [`at ${uid}`])
    runtime.pass(1)
    const { id } = await op.endAll('everyone', compromise)
    const failure = new Error('the plan failed')
    const failing = op.endOpSessions(
      ['a', 'b', 'c'],
      compromise,
      ([rp]) => {
        if (rp?.clientId === 'at c') throw failure
        return rp ? [rp] : []
      },
      { id, pause: 0 },
    )
    await rejects(failing, failure)
    equal(await op.nextDueAt(), undefined)
    equal((await op.getEndJob(id))?.ended, 0)
    equal((await op.claimEndJob({ limit: 10, lease: 0 }))?.next.length, 3)
    equal(await workOff(bench), 3)
  })

  law('names the OP sessions that have expired until each is ended, once, at the time of its expiry', async (bench) => {
    const { op, runtime } = bench
    await logIn(bench, 'first', 'alice')
    runtime.pass(60_000)
    await logIn(bench, 'second', 'alice', ['notes', 'mail'])
    const { expiresAt = Number.NaN } = (await op.getOpSession({ uid: 'first' })) ?? {}
    const { accountId: _, ...anonymous } = opSession(runtime, { uid: 'anonymous', handle: 'anonymous' })
    await op.saveOpSession(anonymous)
    deepEqual(await op.expiredOpSessions(10), [])
    runtime.pass(40 * 86_400_000) // the OP was off
    await op.putModel({ kind: 'Interaction', handle: 'i', payload: {} })
    deepEqual(
      (await op.expiredOpSessions(10)).map(({ uid, rps }) => [uid, rps.length]),
      [
        ['first', 1],
        ['second', 2],
      ],
    )
    equal((await op.expiredOpSessions(1)).length, 1)
    const sweep = (): ReturnType<OpIssuerStore['endOpSessions']> =>
      op.endOpSessions(['first', 'second'], { cause: 'expired' }, everyRp)
    const [one, two] = await Promise.all([sweep(), sweep()])
    equal(one.length + two.length, 2)
    deepEqual(
      [...one, ...two].map(({ logout }) => logout.endedAt),
      [expiresAt * 1000, (expiresAt + 60) * 1000],
    )
    deepEqual(await op.expiredOpSessions(10), [])
    equal((await op.claimDue({ limit: 10, lease: 1000 })).length, 3)
  })

  law('forgets attempts and facts by their age, never what is still owed [T30]', async (bench) => {
    const { op, runtime } = bench
    const settle = async (clientId: string): Promise<void> => {
      for (const claimed of await op.claimDue({ limit: 10, lease: 1000, room: (c) => (c === clientId ? 1 : 0) })) {
        const times = { dueAt: runtime.now(), startedAt: runtime.now(), finishedAt: runtime.now() }
        await op.settle(claimed, { ...times, outcome: { state: 'delivered', status: 200 } })
      }
    }
    await logIn(bench, 'told', 'alice', ['notes'])
    await logIn(bench, 'owed', 'alice', ['mail'])
    const told = await op.endOpSession('told', { cause: 'op_logout', reason: 'r' }, everyRp)
    const owed = await op.endOpSession('owed', { cause: 'op_logout' }, everyRp)
    const job = await op.endAll({ accountId: 'alice' }, compromise)
    await workOff(bench)
    await settle('notes')
    equal((await op.getLogout(told?.logout.id ?? ''))?.logout.reason, 'r')
    const day = 86_400_000
    const before = (): { attempts: number; logouts: number } => ({
      attempts: runtime.now() - 30 * day,
      logouts: runtime.now() - 365 * day,
    })
    runtime.pass(364 * day)
    while (await op.forget(before(), 1));
    ok(await op.getLogout(told?.logout.id ?? ''))
    runtime.pass(2 * day)
    while (await op.forget(before(), 1));
    equal(await op.getLogout(told?.logout.id ?? ''), undefined)
    equal((await op.getLogout(owed?.logout.id ?? ''))?.deliveries.length, 1)
    equal(await op.getEndJob(job.id), undefined)
    await settle('mail')
    while (await op.forget(before(), 1));
    equal(await op.getLogout(owed?.logout.id ?? ''), undefined)
  })

  law('keeps the ends of issuers apart [T20]', async (bench) => {
    const { store, op, runtime } = bench
    const other = store.forIssuer('https://other.example', runtime)
    await logIn(bench, 'a', 'alice')
    runtime.pass(1)
    const job = await other.endAll('everyone', compromise)
    equal(job.total, 0)
    equal(await isAlive(op, 'a'), true)
    equal(await op.getEndJob(job.id), undefined)
    deepEqual(await op.listEndJobs(10), [])
    equal(await op.claimEndJob({ limit: 10, lease: 1000 }), undefined)
    equal(await other.countOpSessions('everyone'), 0)
    deepEqual(await other.listOpSessions({ clientId: 'notes' }), { sessions: [] })
  })

  // Where each write waits for the disk, a tenth has to do.
  const many = durable ? 1_000 : 10_000
  law(`ends ${many} OP sessions of one account in batches, and lets others in between`, async (bench) => {
    const { op, runtime } = bench
    for (let i = 0; i < many; i++) {
      await op.saveOpSession(opSession(runtime, { uid: `u${i}`, handle: `h${i}`, rps: [loggedIn('notes')] }))
    }
    await logIn(bench, 'this', 'alice')
    runtime.pass(1)
    equal(await op.countOpSessions({ accountId: 'alice' }), many + 1)
    const job = await op.endAll({ accountId: 'alice' }, compromise, ['this'])
    equal(job.total, many)
    deepEqual(await uidsOf(op, { accountId: 'alice' }), ['this'])
    equal(await isAlive(op, 'u777'), false)
    const [ended] = await Promise.all([workOff(bench, 100), logIn(bench, 'hers', 'carol')])
    equal(ended, many)
    equal((await op.getEndJob(job.id))?.ended, many)
    deepEqual((await uidsOf(op, 'everyone')).sort(), ['hers', 'this'])
  })

  if (!durable) return

  law('still refuses and goes on after a restart [T2]', async (bench) => {
    const { store, op, runtime, reopen } = bench
    for (const uid of ['a', 'b', 'c']) await logIn(bench, uid, 'alice')
    runtime.pass(1)
    const { id } = await op.endAll({ accountId: 'alice' }, compromise, ['c'])
    await op.endOpSessions(['a'], compromise, everyRp, { id, pause: 100 })
    await store.close()
    const again = await reopen?.()
    const reopened = again?.forIssuer(issuer, runtime)
    ok(again && reopened)
    runtime.pass(100)
    equal(await isAlive(reopened, 'b'), false)
    equal(await isAlive(reopened, 'c'), true)
    equal(await workOff({ op: reopened, runtime }), 1)
    deepEqual(
      { ended: 2, state: 'done' },
      (({ ended, state }) => ({ ended, state }))((await reopened.getEndJob(id)) ?? { ended: 0, state: 'running' }),
    )
    await again.close()
  })
}
