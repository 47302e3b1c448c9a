import assert from 'node:assert/strict'
import type { OutsideLogin } from '../rp/store/contract.ts'
import { atStart, ending, identity, opened, type RpLaw, START, someNotice, someSession } from './rp-store-bench.ts'

const byOp = { sidReused: false }
const reusing = { sidReused: true }

/** A login of ada's whose session the app keeps in a cookie. */
function login(parts: Partial<OutsideLogin> = {}): OutsideLogin {
  return { sid: 's', sub: 'ada', firstIat: START, ...parts }
}

/** `loggedOutAt`: logouts of logins whose sessions are not in the store, and debts to the app's own OP. */
export function outsideContract(law: RpLaw, { durable, shared }: { durable: boolean; shared: boolean }): void {
  law('knows of a logout by sid, and of nobody else [BC §2.7]', async ({ rp }) => {
    assert.equal(await rp.loggedOutAt(login(), byOp), undefined)
    await rp.endBy({ sid: 's', sub: 'ada' }, someNotice({ watermark: START - 5 }))
    assert.equal(await rp.loggedOutAt(login(), byOp), START - 5)
    assert.equal(await rp.loggedOutAt(login({ sid: 't' }), byOp), undefined)
    assert.equal(await rp.loggedOutAt({ sub: 'ada', firstIat: START - 100 }, byOp), undefined)
    assert.equal(await rp.loggedOutAt(login({ sid: 't', sub: 's' }), byOp), undefined)
    assert.equal(await rp.loggedOutAt(login({ sid: 'ada', sub: 's' }), byOp), undefined)
  })

  law(
    'knows of a logout by sub for the logins that are not younger, and never forgets a later one [T3]',
    async (bench) => {
      const { rp, clock } = bench
      clock.pass(100)
      await rp.endBy({ sub: 'ada' }, someNotice({ watermark: START + 50 }))
      await rp.endBy({ sub: 'ada' }, someNotice({ watermark: START + 20 })) // an earlier one that comes late
      assert.equal(await rp.loggedOutAt(login({ firstIat: START + 50 }), byOp), START + 50)
      assert.equal(await rp.loggedOutAt(login({ firstIat: START + 51 }), byOp), undefined)
      assert.equal(await rp.loggedOutAt(login({ sub: 'grace' }), byOp), undefined)
    },
  )

  law('takes a logout from the future for one of now [T3]', async ({ rp }) => {
    await rp.endBy({ sub: 'ada' }, someNotice({ watermark: START + 9_000 }))
    assert.equal(await rp.loggedOutAt(login({ firstIat: START + 1 }), byOp), undefined)
    assert.equal(await rp.loggedOutAt(login(), byOp), START)
  })

  law('leaves a younger login with the same sid alone where an OP reuses sids [T3]', async ({ rp }) => {
    await rp.endBy({ sid: 's' }, someNotice({ watermark: START - 5, sidReused: true }))
    assert.equal(await rp.loggedOutAt(login(), reusing), undefined)
    assert.equal(await rp.loggedOutAt(login({ firstIat: START - 5 }), reusing), START - 5)
  })

  law(
    'remembers a logout for as long as it was told to, and for its client only [T20]',
    async ({ rp, forClient, clock }) => {
      const mail = forClient({ ...identity, clientId: 'mail' })
      await rp.endBy({ sid: 's' }, someNotice())
      assert.equal(await mail.loggedOutAt(login(), byOp), undefined)
      clock.pass(86_399)
      assert.equal(await rp.loggedOutAt(login(), byOp), START)
      await mail.endBy({ sid: 'other' }, someNotice({ watermarkExpiresAt: START + 2 * 86_400 }))
      clock.pass(1)
      assert.equal(await forClient(identity).loggedOutAt(login({ sid: 'never asked for' }), byOp), undefined)
    },
  )

  law('writes nothing of a logout by the front channel, or of one that is refused [T4]', async ({ rp }) => {
    await opened(rp, someSession({ sid: 's', sub: 'grace' }))
    assert.deepEqual(await rp.endBy({ sid: 's', sub: 'ada' }, someNotice()), { outcome: 'sub_mismatch' })
    await rp.deleteBySid('s', { cause: 'frontchannel', at: START })
    assert.equal(await rp.loggedOutAt(login(), byOp), undefined)
  })

  law('takes any text as a name', async ({ rp }) => {
    for (const name of ['__proto__', 'constructor', '', ' ', 'a b:c', '!x.y', '\u{1f510}']) {
      await rp.endBy({ sid: name }, someNotice({ jti: `jti of ${name}` }))
      assert.equal(await rp.loggedOutAt(login({ sid: name }), byOp), START)
      assert.equal(await rp.loggedOutAt(login({ sid: `${name}x`, sub: name }), byOp), undefined)
    }
  })

  law('hints at who was named, whether an RP session was there or not [T18]', async ({ rp }) => {
    const heard: string[] = []
    await rp.subscribe({ sid: 's' }, () => heard.push('sid s'))
    await rp.subscribe({ sub: 'ada' }, () => heard.push('sub ada'))
    await rp.subscribe('s', () => heard.push('handle s'))
    await rp.endBy({ sid: 's', sub: 'ada' }, someNotice())
    assert.deepEqual(heard, ['sid s'])
    await rp.endBy({ sub: 'ada' }, someNotice())
    assert.deepEqual(heard, ['sid s', 'sub ada'])
  })

  law(
    'names with what is owed downstream the RP sessions that had expired, too, by whatever sid [T7]',
    async ({ rp, clock }) => {
      const [session, other] = [
        someSession({ sid: 'of the login' }),
        someSession({ sid: 'of the login', sub: 'grace' }),
      ]
      await opened(rp, session, other)
      await rp.addSid(session.handle, { sid: 'further', ...atStart, from: 'browser' })
      clock.pass(3_601)
      const notice = someNotice({ downstream: 'note', jtiExpiresAt: START + 7_200, watermark: START + 3_600 })
      assert.deepEqual(await rp.endBy({ sid: 'further', sub: 'ada' }, notice), { outcome: 'ended', sessions: [] })
      const [owed] = await rp.claimOwed({ kind: 'downstream', limit: 5, lease: 60_000 })
      assert.equal(owed?.debt, `note\n${session.publicId}`)
    },
  )

  law('owes what a logout leaves downstream, in a queue of its own [T7]', async ({ rp, clock }) => {
    const one = someSession({ refreshToken: { sealed: 'token', offline: false } })
    await opened(rp, one)
    await rp.endBy({ sid: 'nobody here' }, someNotice({ downstream: 'by token' }))
    await rp.delete(one.handle, ending, 'by delete')
    await rp.delete(one.handle, ending, 'not again')
    const kind = 'downstream'
    const claimed = await rp.claimOwed({ kind, limit: 5, lease: 60_000 })
    assert.deepEqual(claimed.map(({ debt }) => debt).sort(), [`by delete\n${one.publicId}`, 'by token'])
    assert.deepEqual(await rp.claimOwed({ kind, limit: 5, lease: 60_000 }), [])
    assert.equal(await rp.nextOwedAt(kind), (START + 60) * 1000)
    for (const { id } of claimed) await rp.settleOwed(id, { retryAt: (START + 90) * 1000 }, kind)
    clock.pass(90)
    const again = await rp.claimOwed({ kind, limit: 1, lease: 60_000 })
    assert.equal(again[0]?.attempts, 2)
    for (const { id } of claimed) await rp.settleOwed(id, 'done', kind)
    assert.equal(await rp.nextOwedAt(kind), undefined)
    assert.deepEqual(
      (await rp.claimOwed({ limit: 5, lease: 1 })).map(({ debt }) => debt),
      ['token'],
    )
  })

  law('notes with it which RP sessions ended, and no others of the End-User', async ({ rp }) => {
    const [one, two, younger] = [someSession(), someSession(), someSession({ firstIat: START + 5 })]
    await opened(rp, one, two, younger, someSession({ sub: 'grace' }))
    await rp.endBy({ sub: 'ada' }, someNotice({ downstream: '{"sub":"ada"}' }))
    const [owed] = await rp.claimOwed({ kind: 'downstream', limit: 5, lease: 60_000 })
    const [text, ...ids] = owed?.debt.split('\n') ?? []
    assert.equal(text, '{"sub":"ada"}')
    assert.deepEqual(ids.sort(), [one.publicId, two.publicId].sort())
  })

  law('owes nothing for a token that is a replay [T7]', async ({ rp }) => {
    const notice = someNotice({ downstream: 'once' })
    await Promise.all(Array.from({ length: 5 }, () => rp.endBy({ sid: 's' }, notice)))
    assert.equal((await rp.claimOwed({ kind: 'downstream', limit: 5, lease: 1 })).length, 1)
  })

  if (durable) {
    law('knows logouts and debts after a restart [T7]', async ({ rp, store, clock, reopen }) => {
      await rp.endBy({ sid: 's' }, someNotice({ downstream: 'owed' }))
      await store.close()
      assert.ok(reopen, 'a durable store can be opened again')
      const again = await reopen()
      const there = again.forClient(identity, clock)
      assert.equal(await there.loggedOutAt(login(), byOp), START)
      assert.equal((await there.claimOwed({ kind: 'downstream', limit: 5, lease: 1 })).length, 1)
      await again.close()
    })
  }

  if (shared) {
    law(
      'says on every node that a logout named a login, as soon as its hint has come [BC §2.7]',
      async ({ rp, clock, reopen }) => {
        assert.ok(reopen, 'a shared store can be opened twice')
        const other = await reopen()
        const there = other.forClient(identity, clock)
        assert.equal(await there.loggedOutAt(login(), byOp), undefined)
        const { promise: hint, resolve } = Promise.withResolvers<void>()
        await there.subscribe({ sid: 's' }, resolve)
        await rp.endBy({ sid: 's' }, someNotice())
        await hint
        assert.equal(await there.loggedOutAt(login(), byOp), START)
        await other.close()
      },
    )
  }
}
