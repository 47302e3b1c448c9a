import assert from 'node:assert/strict'
import type { RpSessionStore, RpStore } from '../rp/store/contract.ts'
import {
  ending,
  identity,
  opened,
  type RpBench,
  type RpLaw,
  START,
  someNotice,
  someSession,
  statesOf,
} from './rp-store-bench.ts'

/** Milliseconds by which a node's clock is wrong. */
const skew = 600_000

/** What an RP store promises when several nodes share it. */
export function nodesContract(law: RpLaw): void {
  const twoNodes = (
    name: string,
    body: (bench: RpBench & { readonly there: RpSessionStore; readonly other: RpStore }) => Promise<void>,
  ): void =>
    law(name, async (bench) => {
      assert.ok(bench.reopen, 'a shared store can be opened twice')
      const other = await bench.reopen()
      try {
        await body({ ...bench, other, there: other.forClient(identity, bench.clock) })
      } finally {
        await other.close()
      }
    })

  twoNodes(
    'says on every node at once what a logout on one of them ended [BC §2.7] [A51]',
    async ({ rp, there, clock }) => {
      const session = someSession({ sid: 's' })
      const requestedAt = await there.now()
      await opened(rp, session)
      assert.deepEqual(await statesOf(there, session.handle), ['alive'])
      clock.pass(1)
      const notice = someNotice()
      assert.deepEqual(await there.endBy({ sid: 's' }, notice), { outcome: 'ended', sessions: [session] })
      assert.deepEqual(await rp.get(session.handle), { state: 'ended', publicId: session.publicId, end: ending })
      assert.equal(await rp.updateIfExists(session.handle, { idleExpiresAt: START + 9_000 }), false)
      assert.deepEqual(await rp.endBy({ sid: 's' }, notice), { outcome: 'replay' })
      assert.equal((await rp.create(someSession({ sid: 's', requestedAt }))).outcome, 'outdated')
    },
  )

  twoNodes(
    'has one of many copies of a token take effect, whichever nodes they reach [BC §2.6 (8)]',
    async ({ rp, there }) => {
      await opened(rp, someSession({ sid: 's' }), someSession({ sid: 's' }))
      const notice = someNotice()
      const copies = Array.from({ length: 20 }, (_, i) => (i % 2 ? rp : there).endBy({ sid: 's' }, notice))
      const results = await Promise.all(copies)
      assert.deepEqual(
        results.filter((result) => result.outcome === 'ended').map(({ sessions }) => sessions.length),
        [2],
      )
    },
  )

  twoNodes('never leaves a login alive that one node took while another logged it out [T3]', async (bench) => {
    const { rp, there, clock } = bench
    for (let round = 0; round < 20; round++) {
      const requestedAt = await rp.now()
      const [bySid, bySub] = [
        someSession({ sid: `s${round}`, requestedAt }),
        someSession({ sub: `u${round}`, requestedAt }),
      ]
      clock.pass(0.001)
      await Promise.all([
        rp.create(bySid),
        there.endBy({ sid: `s${round}` }, someNotice()),
        there.create(bySub),
        rp.endBy({ sub: `u${round}` }, someNotice()),
      ])
      assert.equal((await statesOf(there, bySid.handle, bySub.handle)).includes('alive'), false)
    }
  })

  twoNodes('ends an RP session once, however many nodes end it [BC §2.7]', async ({ rp, there }) => {
    for (let round = 0; round < 10; round++) {
      const session = someSession({ sid: `s${round}`, sub: `u${round}` })
      await opened(rp, session)
      const [byToken, bySub, byUser] = await Promise.all([
        there.endBy({ sid: `s${round}` }, someNotice()),
        rp.endBy({ sub: `u${round}` }, someNotice()),
        there.delete(session.handle, ending),
      ])
      const counts = [byToken, bySub].map((result) => (result.outcome === 'ended' ? result.sessions.length : 0))
      assert.equal(
        counts.reduce((sum, one) => sum + one, byUser ? 1 : 0),
        1,
      )
    }
  })

  twoNodes('hints on the other node, at that RP session only, and has committed by then [T18]', async (bench) => {
    const { rp, there } = bench
    const [first = '', second = '', third = ''] = await opened(
      rp,
      someSession({ sid: 's' }),
      someSession(),
      someSession(),
    )
    const heard: string[] = []
    let wake = (): void => {}
    const hear = async (name: string, handle: string) =>
      there.subscribe(handle, () => {
        heard.push(name)
        wake()
      })
    const next = () =>
      new Promise<void>((resolve) => {
        wake = resolve
      })
    await hear('first', first)
    const stop = await hear('second', second)
    const ended = next()
    await rp.endBy({ sid: 's' }, someNotice())
    await ended
    assert.deepEqual(heard, ['first'])
    assert.deepEqual(await statesOf(there, first, second), ['ended', 'alive'])
    const changed = next()
    await rp.updateIfExists(second, { sessionState: 'x.y' })
    await changed
    assert.deepEqual(heard, ['first', 'second'])
    stop()
    await hear('third', third)
    const replaced = next()
    await rp.delete(second, ending)
    await rp.create(someSession({ sub: 'ada' }), { replaces: third })
    await replaced
    assert.deepEqual(heard, ['first', 'second', 'third'])
  })

  twoNodes('hints exactly the tabs of the ended RP session among 10,000 that listen [T18]', async ({ rp, there }) => {
    const [handle = ''] = await opened(rp, someSession({ sid: 's' }))
    const heard: string[] = []
    const { promise: hint, resolve } = Promise.withResolvers<void>()
    const listen = (name: string) =>
      there.subscribe(name, () => {
        heard.push(name)
        if (name === handle) resolve()
      })
    await Promise.all([handle, ...Array.from({ length: 9_999 }, (_, i) => `idle ${i}`)].map(listen))
    heard.length = 0 // a store may hint at everything when it begins to hear
    await rp.endBy({ sid: 's' }, someNotice())
    await hint
    assert.deepEqual(heard, [handle])
  })

  law('judges logins and logouts by one clock, whatever the nodes think of the time [T3]', async ({ store, clock }) => {
    const ahead = store.forClient(identity, { now: () => clock.now() + skew })
    const behind = store.forClient(identity, { now: () => clock.now() - skew })
    const requestedAt = await ahead.now()
    assert.equal(await behind.now(), requestedAt)
    clock.pass(1)
    await behind.endBy({ sid: 's' }, someNotice())
    assert.equal((await ahead.create(someSession({ sid: 's', requestedAt }))).outcome, 'outdated')
    clock.pass(1)
    const later = await behind.now()
    assert.equal((await ahead.create(someSession({ sid: 's', requestedAt: later }))).outcome, 'created')
  })

  law('keeps leases of what is owed whatever the clocks of the nodes say [T7]', async ({ store, clock }) => {
    const ahead = store.forClient(identity, { now: () => clock.now() + skew })
    const behind = store.forClient(identity, { now: () => clock.now() - skew })
    await opened(behind, someSession({ sid: 's', refreshToken: { sealed: 'token', offline: false } }))
    await behind.endBy({ sid: 's' }, someNotice())
    const [held] = await behind.claimOwed({ limit: 1, lease: 60_000 })
    assert.equal(held?.owedSince, clock.now() - skew)
    assert.deepEqual(await ahead.claimOwed({ limit: 1, lease: 60_000 }), [])
    assert.equal(await ahead.nextOwedAt(), clock.now() + skew + 60_000)
    await ahead.settleOwed(held.id, { retryAt: clock.now() + skew + 5_000 })
    assert.equal(await behind.nextOwedAt(), clock.now() - skew + 5_000)
    clock.pass(5)
    assert.equal((await behind.claimOwed({ limit: 1, lease: 60_000 })).length, 1)
  })

  twoNodes('hands out what is owed to one node only [T7]', async ({ rp, there }) => {
    for (let i = 0; i < 20; i++) {
      await opened(rp, someSession({ sid: 's', refreshToken: { sealed: `token ${i}`, offline: false } }))
    }
    await rp.endBy({ sid: 's' }, someNotice())
    const claims = await Promise.all([rp, there, rp, there].map((node) => node.claimOwed({ limit: 10, lease: 60_000 })))
    const rest = await there.claimOwed({ limit: 20, lease: 60_000 })
    const tokens = [...claims, rest].flat().map(({ debt }) => debt)
    assert.equal(tokens.length, 20)
    assert.equal(new Set(tokens).size, 20)
  })

  twoNodes('goes on serving when another node has closed [T7]', async ({ rp, there, other }) => {
    const [handle = ''] = await opened(there, someSession({ sid: 's' }))
    await there.subscribe(handle, () => {})
    await other.close()
    await rp.endBy({ sid: 's' }, someNotice())
    assert.deepEqual(await statesOf(rp, handle), ['ended'])
  })
}
