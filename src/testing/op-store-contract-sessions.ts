import { deepEqual, equal, ok, rejects } from 'node:assert/strict'
import { byClient, issuer, type Law, loggedIn, opSession } from './op-store-bench.ts'

/** What an OP store promises about OP sessions: above all, a write never brings back what a logout removed. */
export function opSessionContract(law: Law, durable: boolean): void {
  law('gives an OP session back by handle and by uid', async ({ op, runtime }) => {
    const write = opSession(runtime, { rps: [loggedIn('notes'), loggedIn('mail', { persistsLogout: true })] })
    equal(await op.saveOpSession(write), 'saved')
    const found = await op.getOpSession({ handle: 'handle-1' })
    equal(found?.uid, 'uid-1')
    equal(found?.accountId, 'alice')
    deepEqual(found?.payload, { loginTs: 1 })
    equal(found?.expiresAt, write.expiresAt)
    deepEqual(byClient(found?.rps), byClient(write.rps))
    deepEqual(await op.getOpSession({ uid: 'uid-1' }), found)
  })

  law('gives an OP session back by what it gave one of its RPs, while it lives', async ({ op, runtime }) => {
    await op.saveOpSession(opSession(runtime, { rps: [loggedIn('notes', { sid: 'sid-a' }), loggedIn('mail')] }))
    const found = await op.getOpSession({ clientId: 'notes', sid: 'sid-a' })
    equal(found?.uid, 'uid-1')
    deepEqual(found, await op.getOpSession({ uid: 'uid-1' }))
    equal(await op.getOpSession({ clientId: 'mail', sid: 'sid-a' }), undefined)
    equal(await op.getOpSession({ clientId: 'notes', sid: 'sid-b' }), undefined)
    await op.endOpSession('uid-1', { cause: 'admin' }, () => [])
    equal(await op.getOpSession({ clientId: 'notes', sid: 'sid-a' }), undefined)
  })

  law('merges twenty logins of one browser that all began with the same OP session', async ({ op, runtime }) => {
    await op.saveOpSession(opSession(runtime))
    const names = Array.from({ length: 20 }, (_, i) => `rp-${i}`)
    await Promise.all(names.map((name) => op.saveOpSession(opSession(runtime, { rps: [loggedIn(name)] }))))
    const found = await op.getOpSession({ uid: 'uid-1' })
    deepEqual(byClient(found?.rps), byClient(names.map((name) => loggedIn(name))))
  })

  law('lets the first sid and grant of an RP win, whoever saves later', async ({ op, runtime }) => {
    const claims = await Promise.all(
      ['a', 'b', 'c'].map((tab) => op.claimLogin('uid-1', { clientId: 'notes', sid: tab, grantId: `grant-${tab}` })),
    )
    const first = claims[0]
    ok(first)
    for (const claim of claims) deepEqual(claim, first)
    await op.saveOpSession(opSession(runtime, { rps: [loggedIn('notes', { sid: 'z', grantId: 'grant-z' })] }))
    deepEqual((await op.getOpSession({ uid: 'uid-1' }))?.rps, [{ clientId: 'notes', ...first, persistsLogout: false }])
  })

  law('replaces only the grant after a fresh consent', async ({ op, runtime }) => {
    await op.saveOpSession(opSession(runtime, { rps: [loggedIn('notes', { persistsLogout: true })] }))
    const claim = await op.claimLogin('uid-1', { clientId: 'notes', sid: 'new', grantId: 'grant-2' }, 'grant-notes')
    deepEqual(claim, { sid: 'sid-notes', grantId: 'grant-2' })
    // A slower request of before the consent must not bring the old grant back, nor what was true of it.
    await op.saveOpSession(opSession(runtime, { rps: [loggedIn('notes', { persistsLogout: true })] }))
    deepEqual((await op.getOpSession({ uid: 'uid-1' }))?.rps, [loggedIn('notes', { grantId: 'grant-2' })])
  })

  law('revokes a grant that a fresh consent replaces, and no other [T1]', async ({ op, runtime }) => {
    const token = (handle: string, grantId: string) =>
      op.putModel({ kind: 'RefreshToken', handle, grantId, payload: {}, accountId: 'alice', clientId: 'notes' })
    const isThere = async (handle: string) => (await op.getModel('RefreshToken', { handle })) !== undefined
    const claim = (grantId: string, replaces?: string) =>
      op.claimLogin('uid-1', { clientId: 'notes', sid: 's', grantId }, replaces)
    await op.saveOpSession(opSession(runtime, { rps: [loggedIn('notes', { grantId: 'first', persistsLogout: true })] }))
    for (const grantId of ['first', 'second', 'third']) await token(grantId, grantId)

    deepEqual(await claim('first', 'first'), { sid: 'sid-notes', grantId: 'first' })
    equal(await isThere('first'), true)
    deepEqual(await claim('second', 'first'), { sid: 'sid-notes', grantId: 'second' })
    // another tab consented in the sight of the same grant: the first to do so wins
    deepEqual(await claim('third', 'first'), { sid: 'sid-notes', grantId: 'second' })
    deepEqual([await isThere('first'), await isThere('second'), await isThere('third')], [false, true, true])
    await token('late', 'first')
    equal(await isThere('late'), false)
  })

  law('remembers that a grant survives logout once any request said so', async ({ op, runtime }) => {
    await op.saveOpSession(opSession(runtime, { rps: [loggedIn('notes', { persistsLogout: true })] }))
    await op.saveOpSession(opSession(runtime, { rps: [loggedIn('notes')] }))
    equal((await op.getOpSession({ uid: 'uid-1' }))?.rps[0]?.persistsLogout, true)
  })

  law('keeps a login that an anonymous request of before it saves over', async ({ op, runtime }) => {
    await op.saveOpSession(opSession(runtime, { payload: { login: 'alice' } }))
    const { accountId: _, ...anonymous } = opSession(runtime, { payload: { login: null }, rps: [loggedIn('notes')] })
    equal(await op.saveOpSession(anonymous), 'saved')
    const found = await op.getOpSession({ uid: 'uid-1' })
    equal(found?.accountId, 'alice')
    deepEqual(found?.payload, { login: 'alice' })
    equal(found?.rps.length, 1)
  })

  law('never mixes two accounts in one OP session', async ({ op, runtime }) => {
    await op.saveOpSession(opSession(runtime))
    equal(await op.saveOpSession(opSession(runtime, { accountId: 'bob', rps: [loggedIn('mail')] })), 'ended')
    const found = await op.getOpSession({ uid: 'uid-1' })
    equal(found?.accountId, 'alice')
    deepEqual(found?.rps, [])
  })

  law('does not move the expiry for a background check [T11]', async ({ op, runtime }) => {
    const write = opSession(runtime)
    await op.saveOpSession(write)
    runtime.pass(600_000)
    await op.saveOpSession({ ...write, expiresAt: write.expiresAt + 600, extend: false })
    equal((await op.getOpSession({ uid: 'uid-1' }))?.expiresAt, write.expiresAt)
    await op.saveOpSession({ ...write, expiresAt: write.expiresAt + 600, extend: true })
    equal((await op.getOpSession({ uid: 'uid-1' }))?.expiresAt, write.expiresAt + 600)
  })

  law('gives a new OP session its expiry even from a background check', async ({ op, runtime }) => {
    const write = opSession(runtime, { extend: false })
    await op.saveOpSession(write)
    equal((await op.getOpSession({ uid: 'uid-1' }))?.expiresAt, write.expiresAt)
  })

  law('neither returns, saves nor logs in under an OP session that has expired', async ({ op, runtime }) => {
    await op.saveOpSession(opSession(runtime))
    runtime.pass(3_600_000)
    equal(await op.getOpSession({ uid: 'uid-1' }), undefined)
    equal(await op.getOpSession({ handle: 'handle-1' }), undefined)
    deepEqual(await op.listOpSessions({ accountId: 'alice' }), { sessions: [] })
    equal(await op.saveOpSession(opSession(runtime)), 'ended')
    await rejects(op.claimLogin('uid-1', { clientId: 'notes', sid: 's', grantId: 'g' }), {
      code: 'op_session_ended',
    })
  })

  law(
    'makes a retired handle worthless for ever, in whatever order the requests arrive [T6]',
    async ({ op, runtime }) => {
      await op.saveOpSession(opSession(runtime, { handle: 'old' }))
      await op.saveOpSession(opSession(runtime, { handle: 'new' }))
      await op.saveOpSession(opSession(runtime, { handle: 'old', rps: [loggedIn('notes')] }))
      await op.retireHandle('old')
      equal(await op.getOpSession({ handle: 'old' }), undefined)
      equal(await op.saveOpSession(opSession(runtime, { handle: 'old', rps: [loggedIn('mail')] })), 'stale')
      equal(await op.getOpSession({ handle: 'old' }), undefined)
      const found = await op.getOpSession({ handle: 'new' })
      equal(found?.handle, 'new')
      equal(found?.rps.length, 2)
      await op.retireHandle('never seen')
    },
  )

  law('knows for a while that a handle was replaced, as long as its OP session lives', async ({ op, runtime }) => {
    for (const handle of ['old', 'new']) await op.saveOpSession(opSession(runtime, { handle }))
    equal((await op.getRotated('old', 60))?.uid, undefined)
    await op.retireHandle('old')
    equal((await op.getRotated('old', 60))?.uid, 'uid-1')
    equal((await op.getRotated('new', 60))?.uid, undefined)
    equal((await op.getRotated('never seen', 60))?.uid, undefined)
    runtime.pass(60_000)
    equal((await op.getRotated('old', 60))?.uid, undefined)
    await op.retireHandle('new')
    equal((await op.getRotated('new', 60))?.uid, 'uid-1')
    await op.endOpSession('uid-1', { cause: 'op_logout' }, () => [])
    equal((await op.getRotated('new', 60))?.uid, undefined)
  })

  law('lets a background check change nothing of what the OP session says', async ({ op, runtime }) => {
    await op.saveOpSession(opSession(runtime, { payload: { acr: 'high' } }))
    await op.saveOpSession(opSession(runtime, { payload: { acr: 'low' }, extend: false, rps: [loggedIn('notes')] }))
    const found = await op.getOpSession({ uid: 'uid-1' })
    deepEqual(found?.payload, { acr: 'high' })
    deepEqual(found?.rps, [loggedIn('notes')])
  })

  law('keeps what others wrote since a request read the OP session, where it changed nothing of it', async (bench) => {
    const { op, runtime } = bench
    const base = { loginTs: 1, acr: 'low', kept: true }
    await op.saveOpSession(opSession(runtime, { payload: base }))
    const stepUp = { loginTs: 9, acr: 'high', amr: ['mfa'], kept: true }
    await op.saveOpSession(opSession(runtime, { payload: stepUp, base, handle: 'handle-2' }))
    await op.saveOpSession(opSession(runtime, { payload: { ...stepUp, state: 'switch' }, base: stepUp }))
    await op.saveOpSession(opSession(runtime, { payload: base, base, handle: 'handle-3', rps: [loggedIn('notes')] }))
    const found = await op.getOpSession({ uid: 'uid-1' })
    deepEqual(found?.payload, { ...stepUp, state: 'switch' })
    equal(found?.handle, 'handle-3')
    deepEqual(found?.rps, [loggedIn('notes')])
    const { state: _, ...switched } = found?.payload ?? {}
    await op.saveOpSession(opSession(runtime, { payload: switched, base: found?.payload ?? {} }))
    deepEqual((await op.getOpSession({ uid: 'uid-1' }))?.payload, stepUp)
  })

  law('never mixes two logins: the time of one comes with how that one was made', async ({ op, runtime }) => {
    const base = { loginTs: 1 }
    await op.saveOpSession(opSession(runtime, { payload: base }))
    await op.saveOpSession(opSession(runtime, { payload: { loginTs: 5, acr: 'high', amr: ['mfa'] }, base }))
    await op.saveOpSession(opSession(runtime, { payload: { loginTs: 6 }, base }))
    deepEqual((await op.getOpSession({ uid: 'uid-1' }))?.payload, { loginTs: 6 })
  })

  law('lets a request whose handle was replaced change nothing of what the OP session says', async (bench) => {
    const { op, runtime } = bench
    await op.saveOpSession(opSession(runtime, { handle: 'old', payload: { acr: 'low' } }))
    await op.retireHandle('old')
    await op.saveOpSession(opSession(runtime, { handle: 'new', payload: { acr: 'high' } }))
    const late = opSession(runtime, { handle: 'old', payload: { acr: 'low' }, rps: [loggedIn('notes')] })
    equal(await op.saveOpSession(late), 'stale')
    const found = await op.getOpSession({ handle: 'new' })
    deepEqual(found?.payload, { acr: 'high' })
    deepEqual(found?.rps, [loggedIn('notes')])
  })

  law('lists the live OP sessions of one account, newest first', async ({ op, runtime }) => {
    for (const uid of ['first', 'second', 'third']) {
      await op.saveOpSession(opSession(runtime, { uid, handle: uid, rps: [loggedIn(uid)] }))
      runtime.pass(1_000)
    }
    await op.saveOpSession(opSession(runtime, { uid: 'hers', handle: 'hers', accountId: 'carol' }))
    await op.endOpSession('second', { cause: 'admin' }, () => [])
    const { sessions: listed } = await op.listOpSessions({ accountId: 'alice' })
    deepEqual(
      listed.map(({ uid }) => uid),
      ['third', 'first'],
    )
    deepEqual(listed[0]?.rps, [loggedIn('third')])
  })

  law('keeps issuers apart, tombstones included [T20]', async ({ store, op, runtime }) => {
    const other = store.forIssuer('https://other.example', runtime)
    await op.saveOpSession(opSession(runtime, { rps: [loggedIn('notes')] }))
    await other.saveOpSession(opSession(runtime, { rps: [loggedIn('mail')] }))
    const ended = await other.endOpSession('uid-1', { cause: 'op_logout' }, ([rp]) => (rp ? [rp] : []))
    deepEqual((await op.getOpSession({ handle: 'handle-1' }))?.rps, [loggedIn('notes')])
    equal(await op.saveOpSession(opSession(runtime)), 'saved')
    equal((await op.listOpSessions({ accountId: 'alice' })).sessions.length, 1)
    equal((await other.listOpSessions({ accountId: 'alice' })).sessions.length, 0)
    equal(await op.getLogout(ended?.logout.id ?? ''), undefined)
  })

  law('takes any text as uid, handle, client and sid', async ({ op, runtime }) => {
    for (const text of ['__proto__', 'constructor', "'; DROP TABLE op_session; --", 'with space', '🔑']) {
      const rps = [loggedIn(text, { sid: text })]
      await op.saveOpSession(opSession(runtime, { uid: text, handle: text, accountId: text, rps }))
      deepEqual((await op.getOpSession({ handle: text }))?.rps, rps)
      const ended = await op.endOpSession(text, { cause: 'op_logout' }, (told) => told)
      equal(ended?.logout.accountId, text)
      equal(await op.getOpSession({ uid: text }), undefined)
    }
  })

  if (!durable) return

  law('has OP sessions and tombstones again after a restart', async ({ store, op, runtime, reopen }) => {
    await op.saveOpSession(opSession(runtime, { rps: [loggedIn('notes')] }))
    await op.saveOpSession(opSession(runtime, { uid: 'uid-2', handle: 'handle-2' }))
    await op.endOpSession('uid-2', { cause: 'op_logout' }, () => [])
    const before = await op.getOpSession({ uid: 'uid-1' })
    await store.close()
    const again = await reopen?.()
    const reopened = again?.forIssuer(issuer, runtime)
    deepEqual(await reopened?.getOpSession({ handle: 'handle-1' }), before)
    equal(await reopened?.saveOpSession(opSession(runtime, { uid: 'uid-2', handle: 'handle-2' })), 'ended')
    await again?.close()
  })
}
