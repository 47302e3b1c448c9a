import assert from 'node:assert/strict'
import type { SessionEnd } from '../protocol/session-document.ts'
import { atStart, opened, type RpLaw, START, someNotice, someSession, statesOf } from './rp-store-bench.ts'

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
    assert.equal((await rp.create(someSession({ sid: 's' }), atStart)).outcome, 'created')
    assert.equal((await rp.endBy({ sid: 's' }, someNotice())).outcome, 'ended')
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
