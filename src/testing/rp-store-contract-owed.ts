import assert from 'node:assert/strict'
import {
  ending,
  identity,
  opened,
  owedBy,
  type RpLaw,
  START,
  someNotice,
  someSession,
  statesOf,
  withoutSid,
} from './rp-store-bench.ts'

const online = { sealed: 'online', offline: false }
const offline = { sealed: 'offline', offline: true }

/** Refresh tokens whose revocation an ended RP session leaves owed (T7). */
export function owedContract(law: RpLaw, durable: boolean): void {
  law('owes refresh tokens without offline_access after a logout, and only those [BC §2.7]', async ({ rp }) => {
    const [gone = ''] = await opened(
      rp,
      someSession({ refreshToken: { sealed: 'by delete', offline: false } }),
      someSession({ sid: 's', refreshToken: online }),
      someSession({ sid: 's', refreshToken: offline }),
      someSession({ sid: 's' }),
      someSession({ sid: 'alive', refreshToken: { sealed: 'alive', offline: false } }),
    )
    await rp.endBy({ sid: 's' }, someNotice())
    await rp.delete(gone, ending)
    assert.deepEqual(await owedBy(rp), ['by delete', 'online'])
  })

  law('owes those with offline_access too when the OP asks for it', async ({ rp }) => {
    await opened(rp, someSession({ sid: 's', refreshToken: offline }))
    await rp.endBy({ sid: 's' }, someNotice({ revokeOffline: true }))
    assert.deepEqual(await owedBy(rp), ['offline'])
  })

  law(
    'owes what a login in the same browser has replaced, but not where nothing tells whose grant it is',
    async ({ rp }) => {
      const token = (sealed: string) => ({ refreshToken: { sealed, offline: false } })
      const same = someSession({ sid: 's', ...token('same sid') })
      const other = someSession({ sid: 't', ...token('other sid') })
      const switched = withoutSid(token('of another End-User'))
      const kept = someSession({ refreshToken: offline })
      const nameless = withoutSid(token('without a sid'))
      await opened(rp, same, other, switched, kept, nameless)
      await rp.create(someSession({ sid: 's' }), { replaces: same.handle })
      await rp.create(someSession({ sid: 'u' }), { replaces: other.handle })
      await rp.create(withoutSid({ sub: 'grace' }), { replaces: switched.handle })
      for (const { handle } of [kept, nameless]) await rp.create(someSession(), { replaces: handle })
      assert.deepEqual(await owedBy(rp), ['of another End-User', 'other sid', 'same sid'])
      assert.deepEqual(await statesOf(rp, same.handle, other.handle, switched.handle), ['none', 'none', 'ended'])
    },
  )

  law('owes what a logout names of an RP session that had expired, and tells of none', async ({ rp, clock }) => {
    const idle = someSession({ sid: 's', refreshToken: online })
    const other = someSession({ sid: 's', sub: 'grace', refreshToken: { sealed: "grace's", offline: false } })
    const byOffline = someSession({ sid: 't', refreshToken: offline })
    await opened(rp, idle, other, byOffline)
    clock.pass(3_601)
    const notice = { jtiExpiresAt: START + 7_200 }
    assert.deepEqual(await rp.endBy({ sid: 's', sub: 'ada' }, someNotice(notice)), { outcome: 'ended', sessions: [] })
    assert.deepEqual(await owedBy(rp), ['online'])
    await rp.endBy({ sub: 'ada' }, someNotice({ ...notice, revokeOffline: true, watermark: START + 1 }))
    await rp.endBy({ sid: 's', sub: 'ada' }, someNotice(notice))
    assert.deepEqual(await owedBy(rp), ['offline'])
    assert.deepEqual(await rp.get(idle.handle), {
      state: 'ended',
      publicId: idle.publicId,
      end: { cause: 'expired', at: idle.idleExpiresAt },
    })
    assert.equal((await rp.get(other.handle))?.state, 'ended')
  })

  law('owes what an RP session leaves at its absolute expiry', async ({ rp, clock }) => {
    const late = { createdAt: START + 1, expiresAt: START + 172_800, idleExpiresAt: START + 172_800 }
    await opened(
      rp,
      someSession({ sid: 's', refreshToken: online }),
      someSession({ sid: 't', refreshToken: offline }),
      someSession({ sid: 'framed', refreshToken: { sealed: 'framed', offline: false } }),
      someSession({ ...late, refreshToken: { sealed: 'alive', offline: false } }),
    )
    await rp.deleteBySid('framed', { cause: 'frontchannel', at: START })
    clock.pass(86_399)
    await opened(rp, someSession({ ...late, sub: 'grace' }))
    assert.deepEqual(await owedBy(rp), [])
    clock.pass(62)
    for (let i = 0; i < 5; i++) await opened(rp, someSession({ ...late, sub: 'grace' }))
    assert.deepEqual(await owedBy(rp), ['framed', 'online'])
  })

  law('owes what has expired at a logout of somebody else, too', async ({ rp, clock }) => {
    await opened(rp, someSession({ refreshToken: online }))
    clock.pass(86_461)
    const later = { jtiExpiresAt: START + 90_000, watermark: START + 86_461, watermarkExpiresAt: START + 172_800 }
    await rp.endBy({ sid: 'of somebody else' }, someNotice(later))
    assert.deepEqual(await owedBy(rp), ['online'])
  })

  law('owes a refresh token that belongs to no RP session', async ({ rp, forClient }) => {
    await rp.owe('of a login that came to nothing')
    assert.deepEqual(await owedBy(forClient({ ...identity, clientId: 'mail' })), [])
    const [owed] = await rp.claimOwed({ limit: 10, lease: 60_000 })
    const { debt, attempts, owedSince } = owed ?? {}
    assert.deepEqual([debt, attempts, owedSince], ['of a login that came to nothing', 1, START * 1000])
  })

  law('hands out what is owed once per lease, and counts attempts', async ({ rp, clock }) => {
    await opened(rp, someSession({ sid: 's', refreshToken: online }))
    await rp.endBy({ sid: 's' }, someNotice())
    const [first] = await rp.claimOwed({ limit: 10, lease: 60_000 })
    assert.equal(first?.attempts, 1)
    assert.equal(first?.owedSince, START * 1000)
    assert.deepEqual(await owedBy(rp), [])
    assert.equal(await rp.nextOwedAt(), (START + 60) * 1000)
    clock.pass(60)
    const [second] = await rp.claimOwed({ limit: 10, lease: 60_000 })
    assert.equal(second?.attempts, 2)
    assert.equal(second?.id, first?.id)
  })

  law('puts an attempt off and forgets what is done', async ({ rp, clock }) => {
    await opened(rp, someSession({ sid: 's', refreshToken: online }))
    await rp.endBy({ sid: 's' }, someNotice())
    const [owed] = await rp.claimOwed({ limit: 10, lease: 60_000 })
    assert.ok(owed)
    await rp.settleOwed(owed.id, { retryAt: (START + 300) * 1000 })
    assert.equal(await rp.nextOwedAt(), (START + 300) * 1000)
    clock.pass(300)
    assert.deepEqual(await owedBy(rp), ['online'])
    await rp.settleOwed(owed.id, 'done')
    assert.equal(await rp.nextOwedAt(), undefined)
  })

  law('hands out at most as many as were asked for', async ({ rp }) => {
    for (let i = 0; i < 5; i++) await opened(rp, someSession({ sid: 's', refreshToken: online }))
    await rp.endBy({ sid: 's' }, someNotice())
    assert.equal((await rp.claimOwed({ limit: 3, lease: 60_000 })).length, 3)
    assert.equal((await rp.claimOwed({ limit: 3, lease: 60_000 })).length, 2)
  })

  law('does not show one client what another owes [T20]', async ({ rp, forClient }) => {
    const mail = forClient({ ...identity, clientId: 'mail' })
    await opened(rp, someSession({ sid: 's', refreshToken: online }))
    await rp.endBy({ sid: 's' }, someNotice())
    assert.deepEqual(await owedBy(mail), [])
    const [owed] = await rp.claimOwed({ limit: 1, lease: 0 })
    await mail.settleOwed(owed?.id ?? '', 'done')
    assert.deepEqual(await owedBy(rp), ['online'])
  })

  if (durable) {
    law('still owes after a restart what was owed before [T7]', async ({ rp, store, clock, reopen }) => {
      await opened(rp, someSession({ sid: 's', refreshToken: online }))
      await rp.endBy({ sid: 's' }, someNotice())
      await store.close()
      assert.ok(reopen, 'a durable store can be opened again')
      const again = await reopen()
      assert.deepEqual(await owedBy(again.forClient(identity, clock)), ['online'])
      await again.close()
    })
  }
}
