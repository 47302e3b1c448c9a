import assert from 'node:assert/strict'
import { ending, opened, owedBy, type RpLaw, START, someNotice, someSession, withoutSid } from './rp-store-bench.ts'

const before = { sealed: 'before', offline: false }
const after = { tokens: 'new tokens', refreshToken: { sealed: 'after', offline: false } }

/** `claimRefresh` and `saveTokens`: one process refreshes, and a logout in between loses nothing. */
export function refreshContract(law: RpLaw): void {
  law('gives the right to refresh to one of fifty that want it at once', async ({ rp }) => {
    const [handle = '', other = ''] = await opened(rp, someSession(), someSession())
    const all = await Promise.all(Array.from({ length: 50 }, () => rp.claimRefresh(handle, 10_000)))
    assert.equal(all.filter(Boolean).length, 1)
    assert.equal(await rp.claimRefresh(other, 10_000), true)
    assert.equal(await rp.claimRefresh('unknown', 10_000), false)
  })

  law('gives it again after new tokens were saved, or when the lease is over', async ({ rp, clock }) => {
    const [handle = ''] = await opened(rp, someSession({ refreshToken: before }))
    await rp.claimRefresh(handle, 10_000)
    clock.pass(9)
    assert.equal(await rp.claimRefresh(handle, 10_000), false)
    clock.pass(1)
    assert.equal(await rp.claimRefresh(handle, 10_000), true)
    await rp.saveTokens(handle, after, 'before')
    assert.equal(await rp.claimRefresh(handle, 10_000), true)
  })

  law('replaces tokens and refresh token, and nothing else', async ({ rp }) => {
    const session = someSession({ refreshToken: before, sessionState: 'state' })
    const bare = withoutSid({ refreshToken: before })
    await opened(rp, session, bare)
    assert.equal(await rp.saveTokens(session.handle, after, 'before'), 'saved')
    assert.deepEqual(await rp.get(session.handle), { state: 'alive', session: { ...session, ...after } })
    assert.equal(await rp.saveTokens(bare.handle, { tokens: 'new tokens' }, 'before'), 'saved')
    const { refreshToken: _gone, ...without } = bare
    assert.deepEqual(await rp.get(bare.handle), { state: 'alive', session: { ...without, tokens: 'new tokens' } })
  })

  law('writes no tokens over those of a faster refresh', async ({ rp, clock }) => {
    const session = someSession({ refreshToken: before })
    const [handle = ''] = await opened(rp, session)
    await rp.claimRefresh(handle, 10_000)
    clock.pass(11)
    await rp.claimRefresh(handle, 10_000) // whoever was first is not heard of any more
    assert.equal(await rp.saveTokens(handle, after, 'before'), 'saved')
    await rp.claimRefresh(handle, 10_000)
    const late = { tokens: 'late tokens', refreshToken: { sealed: 'late', offline: false } }
    assert.equal(await rp.saveTokens(handle, late, 'before'), 'outdated')
    assert.equal(await rp.saveTokens(handle, { tokens: 'late tokens' }, 'before'), 'outdated')
    assert.deepEqual(await rp.get(handle), { state: 'alive', session: { ...session, ...after } })
    assert.equal(await rp.claimRefresh(handle, 10_000), false) // the right is not the late one's to give back
    assert.equal(await rp.saveTokens(handle, { tokens: 'last' }, 'after'), 'saved')
    assert.equal(await rp.saveTokens(handle, after, 'after'), 'outdated')
    assert.deepEqual(await owedBy(rp), [])
  })

  law('saves the tokens of one of twenty refreshes that used the same refresh token', async ({ rp }) => {
    const [handle = ''] = await opened(rp, someSession({ refreshToken: before }))
    const saves = Array.from({ length: 20 }, (_, i) =>
      rp.saveTokens(handle, { tokens: `t${i}`, refreshToken: { sealed: `r${i}`, offline: false } }, 'before'),
    )
    const results = await Promise.all(saves)
    assert.deepEqual([...results].sort(), [...Array.from({ length: 19 }, () => 'outdated'), 'saved'])
    const found = await rp.get(handle)
    const saved = results.indexOf('saved')
    assert.equal(found?.state === 'alive' && found.session.tokens, `t${saved}`)
    assert.equal(found?.state === 'alive' && found.session.refreshToken?.sealed, `r${saved}`)
  })

  law('tells the subscribers of new tokens, so that others stop waiting', async ({ rp }) => {
    const [handle = ''] = await opened(rp, someSession({ refreshToken: before }))
    let hint = (): void => undefined
    const hinted = new Promise<void>((resolve) => {
      hint = resolve
    })
    const unsubscribe = await rp.subscribe(handle, hint)
    await rp.saveTokens(handle, after, 'before')
    await hinted
    unsubscribe()
  })

  law(
    'owes both refresh tokens when a logout comes while they rotate, and brings nothing back [T7]',
    async ({ rp }) => {
      const [handle = ''] = await opened(rp, someSession({ sid: 's', refreshToken: before }))
      await rp.claimRefresh(handle, 10_000)
      await rp.endBy({ sid: 's' }, someNotice())
      assert.equal(await rp.saveTokens(handle, after, 'before'), 'gone')
      assert.equal((await rp.get(handle))?.state, 'ended')
      assert.deepEqual(await owedBy(rp), ['after', 'before'])
    },
  )

  law('owes both, offline_access or not, when the logout that came meanwhile wants those gone too', async ({ rp }) => {
    const [handle = '', other = ''] = await opened(
      rp,
      someSession({ sid: 's', refreshToken: { sealed: 'before', offline: true } }),
      someSession({ sub: 'grace', refreshToken: { sealed: 'kept', offline: true } }),
    )
    await rp.claimRefresh(handle, 10_000)
    await rp.endBy({ sid: 's' }, someNotice({ revokeOffline: true }))
    await rp.endBy({ sub: 'grace' }, someNotice())
    const rotated = { tokens: 'new tokens', refreshToken: { sealed: 'after', offline: true } }
    assert.equal(await rp.saveTokens(handle, rotated, 'before'), 'gone')
    assert.equal(
      await rp.saveTokens(other, { ...rotated, refreshToken: { sealed: 'x', offline: true } }, 'kept'),
      'gone',
    )
    assert.deepEqual(await owedBy(rp), ['after', 'before'])
  })

  law('owes none for offline_access, for the front channel, or for what is unknown [T4]', async ({ rp }) => {
    const [offline = '', framed = ''] = await opened(rp, someSession(), someSession({ sid: 'framed' }))
    await rp.delete(offline, ending)
    await rp.deleteBySid('framed', { cause: 'frontchannel', at: 1 })
    const offlineToken = { ...after, refreshToken: { sealed: 'x', offline: true } }
    assert.equal(await rp.saveTokens(offline, offlineToken, 'before'), 'gone')
    assert.equal(await rp.saveTokens(framed, after, 'before'), 'gone')
    assert.equal(await rp.saveTokens('unknown', after, 'before'), 'gone')
    assert.deepEqual(await owedBy(rp), [])
  })

  law('loses no rotated refresh token to an RP session that idles out meanwhile [T7]', async ({ rp, clock }) => {
    const late = { createdAt: START + 86_402, idleExpiresAt: START + 172_800, expiresAt: START + 172_800 }
    const [handle = '', faster = ''] = await opened(
      rp,
      someSession({ refreshToken: before }),
      someSession({ refreshToken: { sealed: 'of a faster refresh', offline: false } }),
    )
    await rp.claimRefresh(handle, 10_000)
    clock.pass(3_601)
    assert.equal(await rp.saveTokens(handle, after, 'before'), 'gone')
    assert.equal(await rp.saveTokens(faster, { ...after, tokens: 'late tokens' }, 'before'), 'gone')
    assert.equal((await rp.get(handle))?.state, 'ended')
    assert.deepEqual(await owedBy(rp), [])
    clock.pass(82_861)
    for (let i = 0; i < 3; i++) await rp.create(someSession({ ...late, requestedAt: await rp.now() }))
    assert.deepEqual(await owedBy(rp), ['after', 'of a faster refresh'])
  })

  law(
    'loses none to an RP session whose absolute lifetime ends meanwhile, though others log in [T7]',
    async (bench) => {
      const { rp, clock } = bench
      const late = { idleExpiresAt: START + 172_800, expiresAt: START + 172_800 }
      const logins = async () => {
        for (let i = 0; i < 5; i++) await opened(rp, someSession({ ...late, sub: 'grace' }))
      }
      const [handle = ''] = await opened(rp, someSession({ idleExpiresAt: START + 86_400, refreshToken: before }))
      clock.pass(86_399)
      assert.equal(await rp.claimRefresh(handle, 30_000), true)
      clock.pass(31)
      await logins()
      assert.equal(await rp.saveTokens(handle, after, 'before'), 'gone')
      assert.deepEqual(await owedBy(rp), [])
      clock.pass(31)
      await logins()
      assert.deepEqual(await owedBy(rp), ['after'])
    },
  )

  law(
    'owes the rotated refresh token of what a login has replaced meanwhile, as the one before it [T7]',
    async ({ rp }) => {
      const [one = '', kept = '', nameless = ''] = await opened(
        rp,
        someSession({ refreshToken: before }),
        someSession({ refreshToken: { sealed: 'kept', offline: true } }),
        withoutSid({ refreshToken: before }),
      )
      for (const handle of [one, kept, nameless]) {
        await rp.claimRefresh(handle, 10_000)
        await rp.create(someSession(), { replaces: handle })
        assert.equal(await rp.get(handle), undefined)
      }
      const offline = { ...after, refreshToken: { sealed: 'rotated, kept', offline: true } }
      assert.equal(await rp.saveTokens(one, after, 'before'), 'gone')
      assert.equal(await rp.saveTokens(kept, offline, 'kept'), 'gone')
      assert.equal(await rp.saveTokens(nameless, after, 'before'), 'gone')
      assert.equal(await rp.get(one), undefined)
      assert.deepEqual(await owedBy(rp), ['after', 'before'])
      assert.deepEqual(await rp.create(someSession(), { replaces: one }), { outcome: 'created' })
    },
  )

  law('refreshes nothing that has expired', async ({ rp, clock }) => {
    const [handle = ''] = await opened(rp, someSession())
    clock.pass(3_601)
    assert.equal(await rp.claimRefresh(handle, 10_000), false)
    assert.equal(await rp.saveTokens(handle, after, 'before'), 'gone')
    assert.deepEqual(await owedBy(rp), [])
  })
}
