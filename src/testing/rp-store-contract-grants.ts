import assert from 'node:assert/strict'
import { atStart, ending, opened, type RpLaw, someNotice, someSession, withoutSid } from './rp-store-bench.ts'

const refreshToken = { sealed: 'sealed', offline: false }

/** `isGrantInUse`: what is asked before a refresh token is revoked, since at the OP all of its grant go with it (T7). */
export function grantsContract(law: RpLaw): void {
  law('knows whose tokens are of a grant: by the sid of the login or of refreshed tokens', async ({ rp }) => {
    const [refreshed = '', shown = ''] = await opened(
      rp,
      someSession({ sid: 'login', refreshToken }),
      someSession({ sid: 'another login', refreshToken }),
    )
    await rp.addSid(refreshed, { sid: 'of its tokens', ...atStart, from: 'grant' })
    await rp.addSid(shown, { sid: 'of its browser', ...atStart, from: 'browser' })
    const asked = ['login', 'another login', 'of its tokens', 'of its browser', 'unknown', '__proto__']
    const answers = await Promise.all(asked.map((sid) => rp.isGrantInUse({ sub: 'ada', sids: [sid] })))
    assert.deepEqual(answers, [true, true, true, false, false, false])
    assert.equal(await rp.isGrantInUse({ sub: 'ada', sids: ['unknown', 'of its tokens'] }), true)
  })

  law('takes the grant of one End-User for that of no other', async ({ rp }) => {
    await opened(rp, someSession({ sid: 's', refreshToken }))
    assert.equal(await rp.isGrantInUse({ sub: 'grace', sids: ['s'] }), false)
    assert.equal(await rp.isGrantInUse({ sub: 's', sids: [] }), false)
  })

  law('counts any RP session of the End-User where the grant has no sid', async ({ rp }) => {
    assert.equal(await rp.isGrantInUse({ sub: 'ada', sids: [] }), false)
    await opened(rp, withoutSid())
    assert.equal(await rp.isGrantInUse({ sub: 'ada', sids: [] }), false)
    await opened(rp, someSession({ refreshToken }))
    assert.equal(await rp.isGrantInUse({ sub: 'ada', sids: [] }), true)
  })

  law('counts only who holds a refresh token: it will be owed in its turn', async ({ rp }) => {
    const bare = someSession({ sid: 's' })
    await opened(rp, bare)
    assert.equal(await rp.isGrantInUse({ sub: 'ada', sids: ['s'] }), false)
    await opened(rp, someSession({ sid: 's', refreshToken: { sealed: 'sealed', offline: true } }))
    assert.equal(await rp.isGrantInUse({ sub: 'ada', sids: ['s'] }), true)
  })

  law('counts only who is alive', async ({ rp, clock }) => {
    const names = ['deleted', 'logged out', 'framed', 'idle']
    const [deleted = ''] = await opened(rp, ...names.map((sid) => someSession({ sid, refreshToken })))
    await rp.delete(deleted, ending)
    await rp.endBy({ sid: 'logged out' }, someNotice())
    await rp.deleteBySid('framed', { cause: 'frontchannel', at: 1 })
    const inUse = () => Promise.all(names.map((sid) => rp.isGrantInUse({ sub: 'ada', sids: [sid] })))
    assert.deepEqual(await inUse(), [false, false, false, true])
    clock.pass(3_601)
    assert.deepEqual(await inUse(), [false, false, false, false])
    assert.equal(await rp.isGrantInUse({ sub: 'ada', sids: [] }), false)
  })

  law('shows no client the grants of another [T20]', async ({ rp, forClient }) => {
    await opened(rp, someSession({ sid: 's', refreshToken }))
    const other = forClient({ issuer: 'https://op.example', clientId: 'mail' })
    assert.equal(await other.isGrantInUse({ sub: 'ada', sids: ['s'] }), false)
    assert.equal(await other.isGrantInUse({ sub: 'ada', sids: [] }), false)
  })
}
