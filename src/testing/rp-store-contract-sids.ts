import assert from 'node:assert/strict'
import { ending, opened, type RpLaw, START, someNotice, someSession, statesOf, withoutSid } from './rp-store-bench.ts'

/** What the browser was found to have at the OP, so many seconds after the start. */
function shown(sid: string, after: number) {
  return { sid, requestedAt: (START + after) * 1000, from: 'browser' } as const
}

/** What came with refreshed tokens, so many seconds after the start. */
function refreshed(sid: string, after: number) {
  return { sid, requestedAt: (START + after) * 1000, from: 'grant' } as const
}

/** `addSid`: an RP session by whose further names, too, the OP may end it. */
export function sidsContract(law: RpLaw): void {
  law('ends an RP session by each sid that it has, of the login or learnt later [BC §2.7]', async ({ rp, clock }) => {
    const [one = '', two = ''] = await opened(rp, someSession({ sid: 'login 1' }), someSession({ sid: 'login 2' }))
    const [three = '', bare = ''] = await opened(rp, someSession({ sid: 'login 3' }), withoutSid())
    clock.pass(10)
    for (const handle of [one, two, three, bare]) {
      assert.equal(await rp.addSid(handle, shown(`shown to ${handle}`, 5)), 'added')
      assert.equal(await rp.addSid(handle, refreshed(`refreshed for ${handle}`, 6)), 'added')
    }
    const late = { watermark: START + 9, jtiExpiresAt: START + 600 }
    await rp.endBy({ sid: 'login 1', sub: 'ada' }, someNotice(late))
    await rp.endBy({ sid: `shown to ${two}`, sub: 'ada' }, someNotice(late))
    await rp.endBy({ sid: `refreshed for ${three}` }, someNotice(late))
    await rp.deleteBySid(`shown to ${bare}`, { cause: 'frontchannel', at: START + 10 })
    assert.deepEqual(await statesOf(rp, one, two, three, bare), ['ended', 'ended', 'ended', 'ended'])
  })

  law('changes nothing else: the sid that is told is that of the login', async ({ rp }) => {
    const session = someSession({ sid: 'login', refreshToken: { sealed: 'r', offline: false } })
    await opened(rp, session)
    await rp.addSid(session.handle, shown('another', 0))
    assert.deepEqual(await rp.get(session.handle), { state: 'alive', session })
    assert.deepEqual(await rp.endBy({ sid: 'another' }, someNotice()), { outcome: 'ended', sessions: [session] })
  })

  law('spares whom the browser has shown to have signed in anew since the logout [T3]', async ({ rp, clock }) => {
    const [handle = ''] = await opened(rp, someSession({ sid: 'old' }))
    clock.pass(60)
    await rp.addSid(handle, shown('new', 50))
    const late = (watermark: number) => someNotice({ watermark: START + watermark, jtiExpiresAt: START + 600 })
    assert.deepEqual(await rp.endBy({ sid: 'old' }, late(40)), { outcome: 'ended', sessions: [] })
    assert.deepEqual(await statesOf(rp, handle), ['alive'])
    await rp.endBy({ sid: 'new' }, late(0)) // the last one that was shown counts whatever the OP's clock says
    assert.deepEqual(await statesOf(rp, handle), ['ended'])
  })

  law('counts the login as the first time that its sid was shown [T3]', async ({ rp, clock }) => {
    clock.pass(60)
    const [refreshedLater = '', refreshing = ''] = await opened(
      rp,
      someSession({ sid: 'new 1', requestedAt: (START + 60) * 1000 }),
      someSession({ sid: 'new 2', requestedAt: (START + 60) * 1000 }),
    )
    await rp.addSid(refreshedLater, refreshed('old 1', 60))
    clock.pass(1)
    const late = (watermark: number) => someNotice({ watermark: START + watermark, jtiExpiresAt: START + 600 })
    await rp.endBy({ sid: 'old 1' }, late(50))
    await rp.endBy({ sid: 'old 2' }, late(50))
    assert.equal(await rp.addSid(refreshing, refreshed('old 2', 60)), 'added')
    assert.deepEqual(await statesOf(rp, refreshedLater, refreshing), ['alive', 'alive'])
    await rp.endBy({ sid: 'old 1' }, late(61))
    await rp.endBy({ sid: 'old 2' }, late(61))
    assert.deepEqual(await statesOf(rp, refreshedLater, refreshing), ['ended', 'ended'])
  })

  law(
    'knows that the browser has shown the sid of the login again, whatever is answered later',
    async ({ rp, clock }) => {
      const [handle = ''] = await opened(rp, someSession({ sid: 'login' }))
      clock.pass(60)
      await rp.addSid(handle, shown('login', 30))
      await rp.addSid(handle, shown('asked for earlier', 10))
      await rp.endBy({ sid: 'login' }, someNotice({ watermark: START + 5, jtiExpiresAt: START + 600 }))
      assert.deepEqual(await statesOf(rp, handle), ['ended'])
    },
  )

  law(
    'ends by a sid that was left behind when the logout is no older than that, to the second',
    async ({ rp, clock }) => {
      const [handle = ''] = await opened(rp, someSession({ sid: 'old' }))
      clock.pass(60)
      await rp.addSid(handle, shown('new', 50.9))
      await rp.endBy({ sid: 'old' }, someNotice({ watermark: START + 50 }))
      assert.deepEqual(await statesOf(rp, handle), ['ended'])
    },
  )

  law(
    'loses no sid to an answer that overtakes another, or to refreshed tokens of the older login',
    async ({ rp, clock }) => {
      const handles = await opened(rp, ...['a', 'b', 'c', 'd'].map((name) => someSession({ sid: `login ${name}` })))
      clock.pass(60)
      for (const handle of handles) {
        await rp.addSid(handle, shown(`second to ${handle}`, 31)) // asked later, answered earlier
        await rp.addSid(handle, shown(`first to ${handle}`, 30))
        await rp.addSid(handle, refreshed(`refreshed for ${handle}`, 40))
      }
      const [a = '', b = '', c = '', d = ''] = handles
      const after = { watermark: START + 50, jtiExpiresAt: START + 600 }
      await rp.endBy({ sid: `second to ${a}` }, someNotice({ ...after, watermark: START + 31 }))
      await rp.endBy({ sid: `first to ${b}` }, someNotice(after))
      await rp.endBy({ sid: `refreshed for ${c}` }, someNotice(after))
      await rp.endBy({ sid: 'login d' }, someNotice(after))
      assert.deepEqual(await statesOf(rp, a, b, c, d), ['ended', 'ended', 'ended', 'ended'])
    },
  )

  law('takes the sid of the login up again when the browser comes back to it', async ({ rp, clock }) => {
    const [handle = ''] = await opened(rp, someSession({ sid: 'login' }))
    clock.pass(60)
    await rp.addSid(handle, shown('between', 20))
    await rp.addSid(handle, shown('login', 40))
    const old = { watermark: START + 10, jtiExpiresAt: START + 600 }
    await rp.endBy({ sid: 'between' }, someNotice(old))
    assert.deepEqual(await statesOf(rp, handle), ['alive'])
    await rp.endBy({ sid: 'login' }, someNotice(old))
    assert.deepEqual(await statesOf(rp, handle), ['ended'])
  })

  law('keeps eight further sids at most, the latest', async ({ rp, clock }) => {
    const [one = '', two = ''] = await opened(rp, someSession({ sid: 'login' }), someSession({ sid: 'other login' }))
    clock.pass(60)
    for (let i = 0; i < 9; i++) {
      await rp.addSid(one, shown(`one ${i}`, i))
      await rp.addSid(two, shown(`two ${i}`, i))
    }
    const late = { watermark: START + 59, jtiExpiresAt: START + 600 }
    await rp.endBy({ sid: 'one 0' }, someNotice(late))
    await rp.endBy({ sid: 'two 1' }, someNotice(late))
    assert.deepEqual(await statesOf(rp, one, two), ['alive', 'ended'])
    await rp.endBy({ sid: 'login' }, someNotice(late))
    assert.deepEqual(await statesOf(rp, one), ['ended'])
  })

  law('keeps eight also where all were shown at one moment', async ({ rp, clock }) => {
    const [handle = ''] = await opened(rp, someSession({ sid: 'login' }))
    clock.pass(60)
    for (let i = 0; i < 9; i++) await rp.addSid(handle, shown(`shown ${i}`, 30))
    const late = { watermark: START + 59, jtiExpiresAt: START + 600 }
    await rp.endBy({ sid: 'shown 0' }, someNotice(late))
    assert.deepEqual(await statesOf(rp, handle), ['alive'])
    await rp.endBy({ sid: 'shown 1' }, someNotice(late))
    assert.deepEqual(await statesOf(rp, handle), ['ended'])
  })

  law('keeps the sids of refreshed tokens that were learnt last, whatever the browser shows', async ({ rp, clock }) => {
    const [many = '', mixed = ''] = await opened(rp, someSession({ sid: 'login' }), someSession({ sid: 'other login' }))
    const [over = ''] = await opened(rp, someSession({ sid: 'third login' }))
    clock.pass(60)
    for (let i = 9; i > 0; i--) await rp.addSid(many, refreshed(`of tokens ${i}`, 0))
    for (let i = 0; i < 8; i++) await rp.addSid(mixed, shown(`shown ${i}`, i))
    await rp.addSid(mixed, refreshed('of its tokens', 20))
    await rp.addSid(mixed, shown('shown 8', 21))
    for (let i = 1; i < 10; i++) await rp.addSid(over, refreshed(`over ${i}`, 0))
    const late = { watermark: START + 59, jtiExpiresAt: START + 600 }
    await rp.endBy({ sid: 'of tokens 9' }, someNotice(late))
    await rp.endBy({ sid: 'shown 1' }, someNotice(late))
    await rp.endBy({ sid: 'over 1' }, someNotice(late))
    assert.deepEqual(await statesOf(rp, many, mixed, over), ['alive', 'alive', 'alive'])
    await rp.endBy({ sid: 'of tokens 8' }, someNotice(late))
    await rp.endBy({ sid: 'of its tokens' }, someNotice(late))
    await rp.endBy({ sid: 'over 2' }, someNotice(late))
    assert.deepEqual(await statesOf(rp, many, mixed, over), ['ended', 'ended', 'ended'])
  })

  law('keeps the sid that the browser has shown last, however many refreshed tokens bring', async ({ rp, clock }) => {
    const [handle = ''] = await opened(rp, someSession({ sid: 'login' }))
    clock.pass(60)
    await rp.addSid(handle, shown('browser', 1))
    for (let i = 0; i < 9; i++) await rp.addSid(handle, refreshed(`of tokens ${i}`, i))
    await rp.endBy({ sid: 'browser' }, someNotice({ watermark: START + 59, jtiExpiresAt: START + 600 }))
    assert.deepEqual(await statesOf(rp, handle), ['ended'])
  })

  law(
    'with a sid that is reused, a late logout of an older login overtakes nothing that was asked for [T3]',
    async ({ rp, clock }) => {
      clock.pass(50)
      const [young = '', old = ''] = await opened(
        rp,
        someSession({ sid: 'of young', firstIat: START + 50 }),
        someSession({ sid: 'of old', firstIat: START + 10 }),
      )
      clock.pass(0.001)
      await rp.endBy({ sid: 'a' }, someNotice({ watermark: START + 10, sidReused: true }))
      assert.equal(await rp.addSid(young, shown('a', 50), { sidReused: true }), 'added')
      assert.equal(await rp.addSid(old, shown('a', 50), { sidReused: true }), 'outdated')
      assert.equal(await rp.addSid(old, refreshed('a', 50), { sidReused: false }), 'outdated')
    },
  )

  law(
    'gives no RP session a sid that was logged out meanwhile, and none to what is gone [T3]',
    async ({ rp, clock }) => {
      const [alive = '', dead = ''] = await opened(rp, someSession({ sid: 'a' }), someSession({ sid: 'b' }))
      clock.pass(0.001)
      await rp.endBy({ sid: 'new' }, someNotice())
      await rp.endBy({ sid: 'b' }, someNotice())
      assert.equal(await rp.addSid(alive, shown('new', 0)), 'outdated')
      assert.equal(await rp.addSid(alive, refreshed('new', 0)), 'outdated')
      assert.equal(await rp.addSid(dead, shown('other', 0)), 'gone')
      assert.equal(await rp.addSid('unknown', shown('other', 0)), 'gone')
      assert.deepEqual(await statesOf(rp, alive, dead, 'unknown'), ['alive', 'ended', 'none'])
      await rp.endBy({ sid: 'a' }, someNotice())
      assert.deepEqual(await statesOf(rp, alive), ['ended'])
    },
  )

  law('loses no logout of a sid that an RP session gets or leaves at the same moment [T3]', async ({ rp, clock }) => {
    for (let i = 0; i < 20; i++) {
      const [handle = '', leaving = ''] = await opened(
        rp,
        someSession({ sid: `a ${i}` }),
        someSession({ sid: `b ${i}` }),
      )
      const requestedAt = await rp.now()
      clock.pass(0.001)
      const sid = `new ${i}`
      const [, outcome] = await Promise.all([
        rp.endBy({ sid }, someNotice()),
        rp.addSid(handle, { sid, requestedAt, from: 'browser' }),
        rp.endBy({ sid: `b ${i}` }, someNotice()),
        rp.addSid(leaving, { sid: `other ${i}`, requestedAt, from: 'browser' }),
      ])
      const [state, left] = await statesOf(rp, handle, leaving)
      assert.ok(state === 'ended' || outcome === 'outdated', `${state} although ${outcome}`)
      assert.equal(left, 'ended')
    }
  })

  law('forgets further sids with their RP session', async ({ rp }) => {
    const session = someSession({ sid: 'login' })
    await opened(rp, session)
    await rp.addSid(session.handle, shown('further', 0))
    await rp.delete(session.handle, ending)
    await opened(rp, session)
    assert.deepEqual(await rp.endBy({ sid: 'further' }, someNotice()), { outcome: 'ended', sessions: [] })
    assert.deepEqual(await statesOf(rp, session.handle), ['alive'])
  })
}

/** A login of another tab that is under way while the End-User signs out of the app in this browser. */
export function leavingContract(law: RpLaw): void {
  for (const cause of ['this_app', 'rp_initiated'] as const) {
    law(
      `signs nobody in again whom ${cause} has signed out since the login was asked for [T3]`,
      async ({ rp, clock }) => {
        const [before = '', elsewhere = ''] = await opened(rp, someSession(), someSession())
        clock.pass(10)
        const at = (await rp.now()) - 1
        await rp.delete(before, { cause, at: Math.floor(at / 1000), at_ms: at })
        const again = someSession({ requestedAt: at - 1 })
        const late = await rp.create(again, { replaces: before })
        assert.deepEqual(late, { outcome: 'outdated' })
        assert.deepEqual(await statesOf(rp, before, again.handle, elsewhere), ['ended', 'none', 'alive'])
        assert.deepEqual(await rp.create({ ...again, requestedAt: at }, { replaces: before }), { outcome: 'created' })
      },
    )
  }

  law('forgets that the End-User has left when the RP session would have expired by now', async ({ rp, clock }) => {
    const [handle = ''] = await opened(rp, someSession({ expiresAt: START + 10 }))
    clock.pass(8)
    const at_ms = await rp.now()
    await rp.delete(handle, { cause: 'this_app', at: START + 8, at_ms })
    clock.pass(2)
    assert.deepEqual(await rp.create(someSession(), { replaces: handle }), { outcome: 'created' })
  })

  law('takes a login in place of an RP session that ended by itself, or for another cause', async ({ rp, clock }) => {
    const [expired = '', silent = ''] = await opened(rp, someSession(), someSession())
    clock.pass(10)
    await rp.delete(silent, { cause: 'silent_check', at: START + 10 })
    assert.deepEqual(await rp.create(someSession(), { replaces: silent }), { outcome: 'created' })
    clock.pass(3_600)
    assert.deepEqual(await rp.create(someSession(), { replaces: expired }), { outcome: 'created' })
  })
}
