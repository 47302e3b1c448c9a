import assert from 'node:assert/strict'
import { ending, identity, opened, type RpLaw, START, someNotice, someSession, statesOf } from './rp-store-bench.ts'

/** RP sessions as such: found, used, replaced, expired, and never brought back. */
export function rpSessionContract(law: RpLaw, durable: boolean): void {
  law('gives back what was created', async ({ rp }) => {
    const session = someSession({
      sessionState: 'hash.salt',
      refreshToken: { sealed: 'sealed refresh', offline: true },
    })
    assert.equal((await rp.create(session)).outcome, 'created')
    assert.deepEqual(await rp.get(session.handle), { state: 'alive', session })
    assert.equal(await rp.get('another'), undefined)
  })

  law('keeps what it was given apart from what the caller does with it later', async ({ rp }) => {
    const session = { ...someSession() }
    await rp.create(session)
    session.sub = 'grace'
    const found = await rp.get(session.handle)
    assert.equal(found?.state === 'alive' && found.session.sub, 'ada')
  })

  law('moves the idle expiry forward and never back [T11]', async ({ rp }) => {
    const session = someSession()
    await opened(rp, session)
    assert.equal(await rp.updateIfExists(session.handle, { idleExpiresAt: START + 5_000 }), true)
    assert.equal(await rp.updateIfExists(session.handle, { idleExpiresAt: START + 4_000 }), true)
    const found = await rp.get(session.handle)
    assert.equal(found?.state === 'alive' && found.session.idleExpiresAt, START + 5_000)
  })

  law('replaces the session_state and leaves the rest alone [SM-3.1-h]', async ({ rp }) => {
    const session = someSession({ sessionState: 'old.salt' })
    await opened(rp, session)
    await rp.updateIfExists(session.handle, { sessionState: 'new.salt' })
    assert.deepEqual(await rp.get(session.handle), {
      state: 'alive',
      session: { ...session, sessionState: 'new.salt' },
    })
  })

  law('does not bring back by an update what was ended [A49]', async ({ rp }) => {
    const [bySid = '', byDelete = ''] = await opened(rp, someSession({ sid: 's' }), someSession())
    await rp.endBy({ sid: 's' }, someNotice())
    await rp.delete(byDelete, ending)
    assert.equal(await rp.updateIfExists(bySid, { idleExpiresAt: START + 9_000 }), false)
    assert.equal(await rp.updateIfExists(byDelete, { sessionState: 'x.y' }), false)
    assert.deepEqual(await statesOf(rp, bySid, byDelete), ['ended', 'ended'])
    assert.equal(await rp.updateIfExists('never there', { idleExpiresAt: START + 9_000 }), false)
    assert.equal(await rp.get('never there'), undefined)
  })

  law('ends one RP session and says which, once', async ({ rp }) => {
    const session = someSession()
    const [, other = ''] = await opened(rp, session, someSession({ sid: 'another' }))
    assert.deepEqual(await rp.delete(session.handle, ending), session)
    assert.equal(await rp.delete(session.handle, { ...ending, cause: 'admin' }), undefined)
    const found = await rp.get(session.handle)
    assert.deepEqual(found, { state: 'ended', publicId: session.publicId, end: ending })
    assert.deepEqual(await statesOf(rp, other), ['alive'])
  })

  law('finds an unused RP session as expired until its cookie is dead too', async ({ rp, clock }) => {
    const session = someSession()
    await opened(rp, session)
    clock.pass(3_600)
    const end = { cause: 'expired', at: START + 3_600 } as const
    assert.deepEqual(await rp.get(session.handle), { state: 'ended', publicId: session.publicId, end })
    assert.equal(await rp.updateIfExists(session.handle, { idleExpiresAt: START + 9_000 }), false)
    assert.deepEqual(await rp.listBySub('ada'), [])
    clock.pass(86_400)
    assert.equal(await rp.get(session.handle), undefined)
  })

  law('forgets how an RP session ended once its cookie is dead', async ({ rp, clock }) => {
    const [handle = ''] = await opened(rp, someSession())
    await rp.delete(handle, ending)
    clock.pass(86_399)
    assert.deepEqual(await statesOf(rp, handle), ['ended'])
    clock.pass(1)
    assert.deepEqual(await statesOf(rp, handle), ['none'])
  })

  law('lists the live RP sessions of an End-User, newest first', async ({ rp }) => {
    const older = someSession({ createdAt: START })
    const newer = someSession({ createdAt: START + 10 })
    const [, , gone = ''] = await opened(rp, older, newer, someSession(), someSession({ sub: 'grace' }))
    await rp.delete(gone, ending)
    assert.deepEqual(await rp.listBySub('ada'), [newer, older])
    assert.deepEqual(await rp.listBySub('nobody'), [])
  })

  law('replaces the RP session the browser had, in one step', async ({ rp }) => {
    const before = someSession({ sid: 's' })
    const after = someSession({ sid: 's' })
    await opened(rp, before)
    const result = await rp.create(after, { replaces: before.handle })
    assert.deepEqual(result, { outcome: 'created', replaced: before })
    assert.deepEqual(await statesOf(rp, before.handle, after.handle), ['none', 'alive'])
    assert.deepEqual(await rp.listBySub('ada'), [after])
  })

  law('tells the tabs of another End-User that the user was switched [CORE-3.1.2.2-4]', async ({ rp }) => {
    const before = someSession({ sub: 'ada' })
    await opened(rp, before)
    await rp.create(someSession({ sub: 'grace', createdAt: START + 5 }), { replaces: before.handle })
    const end = { cause: 'user_switched', at: START + 5 } as const
    assert.deepEqual(await rp.get(before.handle), { state: 'ended', publicId: before.publicId, end })
  })

  law('hints to subscribers of that RP session only, and stops when told to [T18]', async ({ rp }) => {
    const [first = '', second = ''] = await opened(rp, someSession({ sid: 's1' }), someSession({ sid: 's2' }))
    const hints: string[] = []
    const stop = await rp.subscribe(first, () => hints.push('first'))
    await rp.subscribe(second, () => hints.push('second'))
    await rp.endBy({ sid: 's1' }, someNotice())
    assert.deepEqual(hints, ['first'])
    stop()
    await rp.delete(first, ending)
    await rp.updateIfExists(second, { sessionState: 'x.y' })
    assert.deepEqual(hints, ['first', 'second'])
  })

  law('has already committed when it hints [T18]', async ({ rp }) => {
    const [handle = ''] = await opened(rp, someSession({ sid: 's' }))
    const { promise: found, resolve } = Promise.withResolvers<readonly string[]>()
    await rp.subscribe(handle, () => resolve(statesOf(rp, handle)))
    await rp.endBy({ sid: 's' }, someNotice())
    assert.deepEqual(await found, ['ended'])
  })

  law('takes any text as an id', async ({ rp }) => {
    for (const text of [
      '__proto__',
      'constructor',
      'toString',
      '',
      ' ',
      'a:b',
      "'; DROP TABLE rp_session; --",
      '\u{1f510}',
    ]) {
      const session = someSession({ handle: `handle ${text}`, sid: text, sub: `sub ${text}` })
      await opened(rp, session)
      assert.deepEqual(await rp.listBySub(`sub ${text}`), [session])
      const result = await rp.endBy({ sid: text }, someNotice({ jti: text }))
      assert.deepEqual(result, { outcome: 'ended', sessions: [session] })
    }
  })

  if (durable) {
    law('keeps RP sessions and how they ended over a restart', async ({ rp, store, clock, reopen }) => {
      const session = someSession()
      const [, ended = ''] = await opened(rp, session, someSession())
      await rp.delete(ended, ending)
      await store.close()
      assert.ok(reopen, 'a durable store can be opened again')
      const again = await reopen()
      const rpAgain = again.forClient(identity, clock)
      assert.deepEqual(await rpAgain.get(session.handle), { state: 'alive', session })
      assert.deepEqual(await statesOf(rpAgain, ended), ['ended'])
      await again.close()
    })
  }
}
