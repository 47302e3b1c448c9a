import assert from 'node:assert/strict'
import {
  ending,
  identity,
  opened,
  type RpLaw,
  START,
  someNotice,
  someSession,
  statesOf,
  withoutSid,
} from './rp-store-bench.ts'

/** `endBy`, and what it means for logins that are on their way. */
export function logoutContract(law: RpLaw, durable: boolean): void {
  law('ends only the RP session whose sid is named [BC §2.7]', async ({ rp }) => {
    const laptop = someSession({ sid: 'laptop' })
    const [, phone = ''] = await opened(rp, laptop, someSession({ sid: 'phone' }))
    const result = await rp.endBy({ sid: 'laptop', sub: 'ada' }, someNotice())
    assert.deepEqual(result, { outcome: 'ended', sessions: [laptop] })
    assert.deepEqual(await statesOf(rp, laptop.handle, phone), ['ended', 'alive'])
    assert.deepEqual(await rp.get(laptop.handle), { state: 'ended', publicId: laptop.publicId, end: ending })
  })

  law('ends all RP sessions that share a sid: the index is a set [A43]', async ({ rp }) => {
    const handles = await opened(rp, someSession({ sid: 's' }), someSession({ sid: 's' }), someSession({ sid: 's' }))
    const result = await rp.endBy({ sid: 's' }, someNotice())
    assert.equal(result.outcome === 'ended' && result.sessions.length, 3)
    assert.deepEqual(await statesOf(rp, ...handles), ['ended', 'ended', 'ended'])
  })

  law('leaves a newer login with the same sid alone where an OP reuses sids [T3] [A46]', async ({ rp }) => {
    const [older = '', newer = ''] = await opened(
      rp,
      someSession({ sid: 's', firstIat: START - 10 }),
      someSession({ sid: 's', firstIat: START }),
    )
    const late = someNotice({ watermark: START - 5, sidReused: true })
    const result = await rp.endBy({ sid: 's', sub: 'ada' }, late)
    assert.equal(result.outcome === 'ended' && result.sessions.length, 1)
    assert.deepEqual(await statesOf(rp, older, newer), ['ended', 'alive'])
    const nobody = await rp.endBy({ sid: 's', sub: 'ada' }, someNotice({ watermark: START - 5, sidReused: true }))
    assert.deepEqual(nobody, { outcome: 'ended', sessions: [] })
    const mismatch = await rp.endBy({ sid: 's', sub: 'grace' }, someNotice({ sidReused: true }))
    assert.deepEqual(mismatch, { outcome: 'sub_mismatch' })
  })

  law('ends all RP sessions of the End-User when only the sub is named [BC §2.4]', async ({ rp }) => {
    const handles = await opened(rp, someSession(), withoutSid(), someSession(), someSession({ sub: 'grace' }))
    const result = await rp.endBy({ sub: 'ada' }, someNotice())
    assert.equal(result.outcome === 'ended' && result.sessions.length, 3)
    assert.deepEqual(await statesOf(rp, ...handles), ['ended', 'ended', 'ended', 'alive'])
  })

  law('does not take a sid for a sub, nor a sub for a sid [T20] [A47]', async ({ rp }) => {
    const [bySid = '', bySub = ''] = await opened(
      rp,
      someSession({ sid: 'same', sub: 'ada' }),
      someSession({ sid: 'other', sub: 'same' }),
    )
    await rp.endBy({ sid: 'same' }, someNotice())
    assert.deepEqual(await statesOf(rp, bySid, bySub), ['ended', 'alive'])
    const [another = ''] = await opened(rp, someSession({ sid: 'same 2', sub: 'x' }))
    await rp.endBy({ sub: 'same 2' }, someNotice())
    assert.deepEqual(await statesOf(rp, another), ['alive'])
  })

  law('writes nothing when the sid belongs to another sub [BC §2.6 (11)]', async ({ rp }) => {
    const [handle = ''] = await opened(rp, someSession({ sid: 's', sub: 'ada' }))
    const notice = someNotice()
    assert.deepEqual(await rp.endBy({ sid: 's', sub: 'grace' }, notice), { outcome: 'sub_mismatch' })
    assert.deepEqual(await statesOf(rp, handle), ['alive'])
    assert.equal((await rp.create(someSession({ sid: 's' }))).outcome, 'created')
    assert.equal((await rp.endBy({ sid: 's', sub: 'ada' }, notice)).outcome, 'ended')
  })

  law('counts a logout of nobody as done [BC §2.7]', async ({ rp }) => {
    assert.deepEqual(await rp.endBy({ sid: 'unknown' }, someNotice()), { outcome: 'ended', sessions: [] })
    assert.deepEqual(await rp.endBy({ sub: 'unknown' }, someNotice()), { outcome: 'ended', sessions: [] })
  })

  law('does not count what expired before [BC §2.7]', async ({ rp, clock }) => {
    const [handle = ''] = await opened(rp, someSession({ sid: 's' }))
    clock.pass(3_601)
    assert.deepEqual(await rp.endBy({ sid: 's' }, someNotice()), { outcome: 'ended', sessions: [] })
    const found = await rp.get(handle)
    assert.equal(found?.state === 'ended' && found.end.cause, 'expired')
  })

  law('takes a jti once, until its window is over [BC §2.6 (8)]', async ({ rp, clock }) => {
    const notice = someNotice({ jti: 'once', jtiExpiresAt: START + 180 })
    assert.equal((await rp.endBy({ sid: 's' }, notice)).outcome, 'ended')
    const [later = ''] = await opened(rp, someSession({ sid: 't' }))
    assert.deepEqual(await rp.endBy({ sid: 't' }, notice), { outcome: 'replay' })
    assert.deepEqual(await statesOf(rp, later), ['alive'])
    clock.pass(180)
    assert.equal((await rp.endBy({ sid: 't' }, notice)).outcome, 'ended')
  })

  law('lets exactly one of 50 parallel copies of a token have an effect [A5]', async ({ rp }) => {
    await opened(rp, someSession({ sid: 's' }), someSession({ sid: 's' }))
    const notice = someNotice()
    const results = await Promise.all(Array.from({ length: 50 }, () => rp.endBy({ sid: 's' }, notice)))
    const ended = results.filter((result) => result.outcome === 'ended')
    assert.deepEqual(
      ended.map(({ sessions }) => sessions.length),
      [2],
    )
    assert.equal(results.filter((result) => result.outcome === 'replay').length, 49)
  })

  law('discards a login that a logout of its sid overtook [T3] [A48]', async ({ rp, clock }) => {
    const requestedAt = await rp.now()
    clock.pass(1)
    await rp.endBy({ sid: 's' }, someNotice())
    clock.pass(1)
    const session = someSession({ sid: 's', firstIat: START + 2, requestedAt })
    assert.equal((await rp.create(session)).outcome, 'outdated')
    assert.deepEqual(await statesOf(rp, session.handle), ['none'])
  })

  law('discards a login that a logout of its sub overtook by a millisecond [T3]', async ({ rp, clock }) => {
    const requestedAt = await rp.now()
    clock.pass(0.001)
    await rp.endBy({ sub: 'ada' }, someNotice())
    assert.equal((await rp.create(someSession({ requestedAt }))).outcome, 'outdated')
    assert.equal((await rp.create(someSession({ sub: 'grace', requestedAt }))).outcome, 'created')
  })

  law(
    'takes a login that was asked for after the logout, even with a sid the OP uses again [T3]',
    async ({ rp, clock }) => {
      await rp.endBy({ sid: 's' }, someNotice())
      await rp.endBy({ sub: 'ada' }, someNotice())
      const atOnce = someSession({ sid: 's', requestedAt: await rp.now() })
      assert.equal((await rp.create(atOnce)).outcome, 'created')
      clock.pass(1)
      const later = someSession({ sid: 's', requestedAt: await rp.now() })
      assert.equal((await rp.create(later)).outcome, 'created')
      assert.deepEqual(await statesOf(rp, atOnce.handle, later.handle), ['alive', 'alive'])
    },
  )

  law('leaves what was ended ended when the End-User signs in again [A45]', async ({ rp, clock }) => {
    const [old = ''] = await opened(rp, someSession())
    await rp.endBy({ sub: 'ada' }, someNotice())
    clock.pass(10)
    const fresh = someSession({ firstIat: START + 10, createdAt: START + 10, requestedAt: await rp.now() })
    await rp.create(fresh)
    assert.deepEqual(await statesOf(rp, old, fresh.handle), ['ended', 'alive'])
  })

  law(
    'spares by sub a login that is younger than the logout, so that a late retry ends nobody [T3]',
    async ({ rp, clock }) => {
      const [old = '', young = ''] = await opened(
        rp,
        someSession({ firstIat: START }),
        someSession({ firstIat: START + 60, createdAt: START + 60 }),
      )
      clock.pass(120)
      await rp.endBy({ sub: 'ada' }, someNotice({ watermark: START + 30, jtiExpiresAt: START + 600 }))
      assert.deepEqual(await statesOf(rp, old, young), ['ended', 'alive'])
    },
  )

  law('ends by sid whatever its age [T3]', async ({ rp, clock }) => {
    const [young = ''] = await opened(rp, someSession({ sid: 's', firstIat: START + 60 }))
    clock.pass(120)
    await rp.endBy({ sid: 's' }, someNotice({ watermark: START + 30 }))
    assert.deepEqual(await statesOf(rp, young), ['ended'])
  })

  law('cuts a logout from the future at its own now [T3]', async ({ rp, clock }) => {
    const [young = ''] = await opened(rp, someSession({ firstIat: START + 30 }))
    clock.pass(10)
    await rp.endBy({ sub: 'ada' }, someNotice({ watermark: START + 60 }))
    assert.deepEqual(await statesOf(rp, young), ['alive'])
  })

  law('ends old and new when the id is rotated while a logout arrives [A50]', async ({ rp, clock }) => {
    const before = someSession({ sid: 's' })
    await opened(rp, before)
    const after = someSession({ sid: 's' })
    const login = { requestedAt: await rp.now(), replaces: before.handle }
    clock.pass(1)
    await Promise.all([rp.endBy({ sid: 's' }, someNotice()), rp.create(after, login)])
    const states = await statesOf(rp, before.handle, after.handle)
    assert.equal(states.includes('alive'), false)
  })

  law('keeps clients and issuers apart: sids, jtis, watermarks and hints [T20]', async ({ rp, forClient }) => {
    const strangers = [
      forClient({ issuer: identity.issuer, clientId: 'mail' }),
      forClient({ issuer: 'https://op.example/', clientId: identity.clientId }),
      forClient({ issuer: 'https://op.exampl', clientId: 'enotes' }),
    ]
    const session = someSession({ sid: 's' })
    for (const store of [rp, ...strangers]) await opened(store, session)
    const hints: string[] = []
    for (const stranger of strangers) await stranger.subscribe(session.handle, () => hints.push('stranger'))
    const notice = someNotice()
    await rp.endBy({ sid: 's' }, notice)
    await rp.endBy({ sub: 'ada' }, someNotice())
    for (const stranger of strangers) {
      assert.deepEqual(await statesOf(stranger, session.handle), ['alive'])
      assert.equal((await stranger.create(someSession({ sid: 's' }))).outcome, 'created')
      assert.deepEqual(hints, [])
      assert.equal((await stranger.endBy({ sid: 's' }, notice)).outcome, 'ended')
      hints.length = 0
    }
  })

  if (durable) {
    law('keeps jtis and watermarks over a restart [T3]', async ({ rp, store, clock, reopen }) => {
      const notice = someNotice()
      clock.pass(1)
      await rp.endBy({ sid: 's' }, notice)
      await store.close()
      assert.ok(reopen, 'a durable store can be opened again')
      const again = await reopen()
      const rpAgain = again.forClient(identity, clock)
      assert.deepEqual(await rpAgain.endBy({ sid: 's' }, notice), { outcome: 'replay' })
      assert.equal((await rpAgain.create(someSession({ sid: 's' }))).outcome, 'outdated')
      await again.close()
    })
  }
}
