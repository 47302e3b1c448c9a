import assert from 'node:assert/strict'
import type { RpSessionStore } from '../rp/store/contract.ts'
import { ending, opened, type RpLaw, someNotice, someSession, withoutSid } from './rp-store-bench.ts'

const before = { sealed: 'before', offline: false }
const after = { tokens: 'new tokens', refreshToken: { sealed: 'after', offline: false } }

async function owedBy(rp: RpSessionStore): Promise<readonly string[]> {
  return (await rp.claimOwed({ limit: 100, lease: 60_000 })).map(({ debt }) => debt).sort()
}

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
    const [handle = ''] = await opened(rp, someSession())
    await rp.claimRefresh(handle, 10_000)
    clock.pass(9)
    assert.equal(await rp.claimRefresh(handle, 10_000), false)
    clock.pass(1)
    assert.equal(await rp.claimRefresh(handle, 10_000), true)
    await rp.saveTokens(handle, after)
    assert.equal(await rp.claimRefresh(handle, 10_000), true)
  })

  law('replaces tokens and refresh token, and nothing else', async ({ rp }) => {
    const session = someSession({ refreshToken: before, sessionState: 'state' })
    const bare = withoutSid({ refreshToken: before })
    await opened(rp, session, bare)
    assert.equal(await rp.saveTokens(session.handle, after), true)
    assert.deepEqual(await rp.get(session.handle), { state: 'alive', session: { ...session, ...after } })
    assert.equal(await rp.saveTokens(bare.handle, { tokens: 'new tokens' }), true)
    const { refreshToken: _gone, ...without } = bare
    assert.deepEqual(await rp.get(bare.handle), { state: 'alive', session: { ...without, tokens: 'new tokens' } })
  })

  law('tells the subscribers of new tokens, so that others stop waiting', async ({ rp }) => {
    const [handle = ''] = await opened(rp, someSession())
    let hint = (): void => undefined
    const hinted = new Promise<void>((resolve) => {
      hint = resolve
    })
    const unsubscribe = await rp.subscribe(handle, hint)
    await rp.saveTokens(handle, after)
    await hinted
    unsubscribe()
  })

  law(
    'owes both refresh tokens when a logout comes while they rotate, and brings nothing back [T7]',
    async ({ rp }) => {
      const [handle = ''] = await opened(rp, someSession({ sid: 's', refreshToken: before }))
      await rp.claimRefresh(handle, 10_000)
      await rp.endBy({ sid: 's' }, someNotice())
      assert.equal(await rp.saveTokens(handle, after), false)
      assert.equal((await rp.get(handle))?.state, 'ended')
      assert.deepEqual(await owedBy(rp), ['after', 'before'])
    },
  )

  law('owes none for offline_access, for the front channel, or for what is unknown [T4]', async ({ rp }) => {
    const [offline = '', framed = ''] = await opened(rp, someSession(), someSession({ sid: 'framed' }))
    await rp.delete(offline, ending)
    await rp.deleteBySid('framed', { cause: 'frontchannel', at: 1 })
    assert.equal(await rp.saveTokens(offline, { ...after, refreshToken: { sealed: 'x', offline: true } }), false)
    assert.equal(await rp.saveTokens(framed, after), false)
    assert.equal(await rp.saveTokens('unknown', after), false)
    assert.deepEqual(await owedBy(rp), [])
  })

  law('refreshes nothing that has expired', async ({ rp, clock }) => {
    const [handle = ''] = await opened(rp, someSession())
    clock.pass(3_601)
    assert.equal(await rp.claimRefresh(handle, 10_000), false)
    assert.equal(await rp.saveTokens(handle, after), false)
    assert.deepEqual(await owedBy(rp), [])
  })
}
