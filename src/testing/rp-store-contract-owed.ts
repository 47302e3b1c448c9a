import assert from 'node:assert/strict'
import type { RpSessionStore } from '../rp/store/contract.ts'
import { atStart, ending, identity, opened, type RpLaw, START, someNotice, someSession } from './rp-store-bench.ts'

const online = { sealed: 'online', offline: false }
const offline = { sealed: 'offline', offline: true }

/** Takes all that is due and returns it, as it was sealed. */
async function owedBy(rp: RpSessionStore): Promise<readonly string[]> {
  return (await rp.claimOwed({ limit: 100, lease: 60_000 })).map(({ debt }) => debt).sort()
}

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

  law('does not owe the refresh token of a replaced RP session whose grant lives on', async ({ rp }) => {
    const same = someSession({ sid: 's', refreshToken: online })
    const other = someSession({ sid: 't', refreshToken: { sealed: 'other grant', offline: false } })
    await opened(rp, same, other)
    await rp.create(someSession({ sid: 's' }), { ...atStart, replaces: same.handle })
    await rp.create(someSession({ sid: 'u' }), { ...atStart, replaces: other.handle })
    assert.deepEqual(await owedBy(rp), ['other grant'])
  })

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

  law('owes what an RP session leaves at its absolute expiry, unless its grant lives on', async ({ rp, clock }) => {
    const late = { createdAt: START + 1, expiresAt: START + 172_800, idleExpiresAt: START + 172_800 }
    const framed = someSession({ sid: 'framed', refreshToken: { sealed: 'put by', offline: false } })
    await opened(
      rp,
      someSession({ sid: 's', refreshToken: online }),
      someSession({ sid: 't', refreshToken: offline }),
      someSession({ sid: 'shared', refreshToken: { sealed: 'shared', offline: false } }),
      framed,
      someSession({ ...late, sid: 'shared', refreshToken: { sealed: 'alive', offline: false } }),
    )
    await rp.deleteBySid('framed', { cause: 'frontchannel', at: START })
    clock.pass(86_399)
    await opened(rp, someSession({ ...late, sub: 'grace' }))
    assert.deepEqual(await owedBy(rp), [])
    clock.pass(2)
    for (let i = 0; i < 5; i++) await opened(rp, someSession({ ...late, sub: 'grace' }))
    assert.deepEqual(await owedBy(rp), ['online', 'put by'])
  })

  law('owes what has expired at a logout of somebody else, too', async ({ rp, clock }) => {
    await opened(rp, someSession({ refreshToken: online }))
    clock.pass(86_401)
    const later = { jtiExpiresAt: START + 90_000, watermark: START + 86_401, watermarkExpiresAt: START + 172_800 }
    await rp.endBy({ sid: 'of somebody else' }, someNotice(later))
    assert.deepEqual(await owedBy(rp), ['online'])
  })

  law(
    'knows whose grant an expired one had: of those alive, their tokens tell, and not their browsers',
    async ({ rp, clock }) => {
      const late = { idleExpiresAt: START + 172_800, expiresAt: START + 172_800 }
      const token = (sealed: string) => ({ refreshToken: { sealed, offline: false } })
      const [shown = '', refreshed = ''] = await opened(rp, someSession(late), someSession(late))
      await opened(
        rp,
        someSession({ sid: 'a', ...token('own grant') }),
        someSession({ sid: 'b', ...token('shared grant') }),
      )
      await rp.addSid(shown, { sid: 'a', ...atStart, from: 'browser' })
      await rp.addSid(refreshed, { sid: 'b', ...atStart, from: 'grant' })
      clock.pass(86_401)
      for (let i = 0; i < 5; i++) await opened(rp, someSession({ ...late, sub: 'grace' }))
      assert.deepEqual(await owedBy(rp), ['own grant'])
    },
  )

  law(
    'knows by which further sids an expired one had its tokens, and not what its browser showed',
    async ({ rp, clock }) => {
      const late = { idleExpiresAt: START + 172_800, expiresAt: START + 172_800 }
      const token = (sealed: string) => ({ refreshToken: { sealed, offline: false } })
      const [refreshed = '', shown = '', alive = ''] = await opened(
        rp,
        someSession({ sid: 'a', ...token('shared grant') }),
        someSession({ sid: 'b', ...token('own grant') }),
        someSession(late),
      )
      await opened(rp, someSession({ sid: 'c', ...token('shared by tokens of both') }))
      const [both = ''] = await opened(rp, someSession({ sid: 'd', ...token('shared too') }))
      await opened(
        rp,
        someSession({ ...late, sid: 'g' }),
        someSession({ ...late, sid: 'h' }),
        someSession({ ...late, sid: 'c' }),
      )
      await rp.addSid(refreshed, { sid: 'g', ...atStart, from: 'grant' })
      await rp.addSid(shown, { sid: 'h', ...atStart, from: 'browser' })
      await rp.addSid(both, { sid: 'i', ...atStart, from: 'grant' })
      await rp.addSid(alive, { sid: 'i', ...atStart, from: 'grant' })
      clock.pass(86_401)
      for (let i = 0; i < 5; i++) await opened(rp, someSession({ ...late, sub: 'grace' }))
      assert.deepEqual(await owedBy(rp), ['own grant'])
    },
  )

  law('takes no tokens away from a login with the grant of what has just expired', async ({ rp, clock }) => {
    await opened(rp, someSession({ sid: 's', refreshToken: online }))
    clock.pass(86_401)
    const later = { idleExpiresAt: START + 172_800, expiresAt: START + 172_800 }
    await rp.create(someSession({ ...later, sid: 's' }), { requestedAt: await rp.now() })
    for (let i = 0; i < 5; i++) await opened(rp, someSession({ ...later, sub: 'grace' }))
    assert.deepEqual(await owedBy(rp), [])
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
