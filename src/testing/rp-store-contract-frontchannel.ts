import assert from 'node:assert/strict'
import type { SessionEnd } from '../protocol/session-document.ts'
import { ending, opened, owedBy, type RpLaw, START, someNotice, someSession, statesOf } from './rp-store-bench.ts'

const framed: SessionEnd = { cause: 'frontchannel', at: START }

/** `deleteBySid`: what an unauthenticated request may do, and what it may not. */
export function frontchannelContract(law: RpLaw): void {
  law('ends exactly the RP sessions of a sid when the front channel says so [FCL-2-d]', async ({ rp }) => {
    const one = someSession({ sid: 's' })
    const handles = await opened(rp, one, someSession({ sid: 's', sub: 'grace' }), someSession({ sub: 's' }))
    const ended = await rp.deleteBySid('s', framed)
    assert.equal(ended.length, 2)
    assert.deepEqual(await statesOf(rp, ...handles), ['ended', 'ended', 'alive'])
    assert.deepEqual(await rp.get(one.handle), { state: 'ended', publicId: one.publicId, end: framed })
    assert.deepEqual(await rp.deleteBySid('s', framed), [])
    assert.deepEqual(await rp.deleteBySid('__proto__', framed), [])
  })

  law('leaves another client and what has expired alone [T4]', async ({ rp, forClient, clock }) => {
    const other = forClient({ issuer: 'https://op.example', clientId: 'mail' })
    const [handle = ''] = await opened(other, someSession({ sid: 's', idleExpiresAt: START + 7_200 }))
    await opened(rp, someSession({ sid: 's' }))
    clock.pass(3_601)
    assert.deepEqual(await rp.deleteBySid('s', framed), [])
    assert.deepEqual(await statesOf(other, handle), ['alive'])
  })

  law('writes no watermark and owes no revocation by the front channel [T4]', async ({ rp, clock }) => {
    await opened(rp, someSession({ sid: 's', refreshToken: { sealed: 'sealed', offline: false } }))
    clock.pass(1)
    await rp.deleteBySid('s', framed)
    assert.equal(await rp.nextOwedAt(), undefined)
    assert.equal((await rp.create(someSession({ sid: 's' }))).outcome, 'created')
    assert.equal((await rp.endBy({ sid: 's' }, someNotice())).outcome, 'ended')
  })

  law(
    'owes the refresh token once a Logout Token names what the front channel ended [BC §2.7] [T4, T7]',
    async (bench) => {
      const { rp } = bench
      const token = (sealed: string, offline = false) => ({ refreshToken: { sealed, offline } })
      await opened(
        rp,
        someSession({ sid: 's', ...token('by sid') }),
        someSession({ sid: 's', ...token('offline', true) }),
        someSession({ sid: 's', sub: 'grace', ...token('of grace') }),
        someSession({ sid: 't', sub: 'linus', ...token('by sub') }),
        someSession({ sid: 'u', sub: 'linus', firstIat: START + 10, ...token('younger') }),
        someSession({ sid: 'v', ...token('asked for', true) }),
      )
      for (const sid of ['s', 't', 'u', 'v']) await rp.deleteBySid(sid, framed)
      await rp.endBy({ sid: 'linus' }, someNotice())
      await rp.endBy({ sub: 's' }, someNotice())
      assert.deepEqual(await owedBy(rp), [])
      assert.deepEqual(await rp.endBy({ sid: 's', sub: 'ada' }, someNotice()), { outcome: 'ended', sessions: [] })
      assert.deepEqual(await owedBy(rp), ['by sid'])
      await rp.endBy({ sub: 'linus' }, someNotice())
      assert.deepEqual(await owedBy(rp), ['by sub'])
      await rp.endBy({ sid: 'v' }, someNotice({ revokeOffline: true }))
      assert.deepEqual(await owedBy(rp), ['asked for'])
      for (const sid of ['s', 't', 'v']) await rp.endBy({ sid }, someNotice({ revokeOffline: true }))
      assert.deepEqual(await owedBy(rp), ['of grace'])
    },
  )

  law('finds it by each sid that the RP session had, whichever the front channel named', async ({ rp, clock }) => {
    const token = (sealed: string) => ({ refreshToken: { sealed, offline: false } })
    const [a = '', b = '', c = '', d = ''] = await opened(
      rp,
      someSession({ sid: 'login a', ...token('by that of the login') }),
      someSession({ sid: 'login b', ...token('by that of its tokens') }),
      someSession({ sid: 'login c', ...token('by that of its browser') }),
      someSession({ sid: 'login d', ...token('left behind') }),
    )
    clock.pass(60)
    const learnt = (sid: string, from: 'browser' | 'grant') => ({ sid, requestedAt: (START + 50) * 1000, from })
    await rp.addSid(a, learnt('browser a', 'browser'))
    await rp.addSid(b, learnt('grant b', 'grant'))
    await rp.addSid(c, learnt('browser c', 'browser'))
    await rp.addSid(d, learnt('browser d', 'browser'))
    for (const sid of ['browser a', 'login b', 'login c', 'browser d']) await rp.deleteBySid(sid, framed)
    const late = (watermark: number) => someNotice({ watermark: START + watermark, jtiExpiresAt: START + 600 })
    await rp.endBy({ sid: 'login a' }, late(55))
    assert.deepEqual(await owedBy(rp), ['by that of the login'])
    await rp.endBy({ sid: 'grant b' }, late(55))
    assert.deepEqual(await owedBy(rp), ['by that of its tokens'])
    await rp.endBy({ sid: 'browser c' }, late(0))
    assert.deepEqual(await owedBy(rp), ['by that of its browser'])
    await rp.endBy({ sid: 'login d' }, late(40)) // the browser had signed in anew since
    assert.deepEqual(await owedBy(rp), [])
  })

  law('names what it ended to the app downstream when a Logout Token comes for it [T7]', async ({ rp }) => {
    const session = someSession({ sid: 's' })
    await opened(rp, session)
    await rp.deleteBySid('s', framed)
    assert.deepEqual(await rp.claimOwed({ limit: 9, lease: 1, kind: 'downstream' }), [])
    await rp.endBy({ sid: 's' }, someNotice({ downstream: 'note' }))
    const debts = await rp.claimOwed({ limit: 9, lease: 1, kind: 'downstream' })
    assert.deepEqual(
      debts.map(({ debt }) => debt),
      [`note\n${session.publicId}`],
    )
  })

  law('leaves what it ended ended: nothing revives it, and how it ended stays', async ({ rp, clock }) => {
    const session = someSession({ sid: 's' })
    await opened(rp, session)
    clock.pass(0.5)
    await rp.deleteBySid('s', framed)
    const ended = { state: 'ended', publicId: session.publicId, end: framed }
    assert.equal(await rp.updateIfExists(session.handle, { idleExpiresAt: START + 9_000 }), false)
    assert.equal(await rp.delete(session.handle, ending), undefined)
    assert.equal(await rp.addSid(session.handle, { sid: 't', requestedAt: START * 1000, from: 'browser' }), 'gone')
    assert.equal(await rp.claimRefresh(session.handle, 1_000), false)
    assert.deepEqual(await rp.listBySub('ada'), [])
    clock.pass(-60) // as after a failover to a server whose clock is behind
    assert.deepEqual(await rp.get(session.handle), ended)
    await rp.endBy({ sid: 's' }, someNotice())
    assert.deepEqual(await rp.get(session.handle), ended)
  })

  law('compares the watermark there too where sids are used again', async ({ rp }) => {
    const refreshToken = { sealed: 'younger', offline: false }
    await opened(rp, someSession({ sid: 's', firstIat: START - 5, refreshToken }))
    await rp.deleteBySid('s', framed)
    await rp.endBy({ sid: 's' }, someNotice({ sidReused: true, watermark: START - 6 }))
    assert.deepEqual(await owedBy(rp), [])
    await rp.endBy({ sid: 's' }, someNotice({ sidReused: true, watermark: START - 5 }))
    assert.deepEqual(await owedBy(rp), ['younger'])
  })

  law('owes what a refresh brings that was under way, before the Logout Token or after it [T7]', async ({ rp }) => {
    const refreshToken = { sealed: 'before', offline: false }
    const [one = '', two = ''] = await opened(
      rp,
      someSession({ sid: 's', refreshToken }),
      someSession({ sid: 't', refreshToken }),
    )
    const after = (sealed: string) => ({ tokens: 'new tokens', refreshToken: { sealed, offline: false } })
    for (const sid of ['s', 't']) await rp.deleteBySid(sid, framed)
    assert.equal(await rp.saveTokens(one, after('first refreshed'), 'before'), 'gone')
    assert.deepEqual(await owedBy(rp), [])
    await rp.endBy({ sid: 's' }, someNotice())
    assert.deepEqual(await owedBy(rp), ['first refreshed'])
    await rp.endBy({ sid: 't' }, someNotice())
    assert.deepEqual(await owedBy(rp), ['before'])
    assert.equal(await rp.saveTokens(two, after('then refreshed'), 'before'), 'gone')
    assert.deepEqual(await owedBy(rp), ['then refreshed'])
  })

  law('owes the refresh token when the RP session would have ended by itself', async ({ rp, clock }) => {
    await opened(rp, someSession({ sid: 's', refreshToken: { sealed: 'sealed', offline: false } }))
    await rp.deleteBySid('s', framed)
    clock.pass(86_401)
    await rp.endBy({ sid: 's' }, someNotice({ watermark: START + 86_401, jtiExpiresAt: START + 90_000 }))
    assert.deepEqual(await owedBy(rp), ['sealed'])
  })

  law('shows the debts of the front channel to no other client [T20]', async ({ rp, forClient }) => {
    const other = forClient({ issuer: 'https://op.example', clientId: 'mail' })
    await opened(rp, someSession({ sid: 's', refreshToken: { sealed: 'sealed', offline: false } }))
    await rp.deleteBySid('s', framed)
    await other.endBy({ sid: 's' }, someNotice())
    assert.deepEqual([...(await owedBy(other)), ...(await owedBy(rp))], [])
    await rp.endBy({ sid: 's' }, someNotice())
    assert.deepEqual(await owedBy(rp), ['sealed'])
  })

  law('tells the subscribers of what the front channel ended', async ({ rp }) => {
    const [handle = ''] = await opened(rp, someSession({ sid: 's' }))
    let hint = (): void => undefined
    const hinted = new Promise<void>((resolve) => {
      hint = resolve
    })
    const unsubscribe = await rp.subscribe(handle, hint)
    await rp.deleteBySid('s', framed)
    await hinted
    unsubscribe()
  })
}
