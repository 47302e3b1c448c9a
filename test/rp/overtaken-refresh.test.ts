import { afterEach, describe, expect, it } from 'vitest'
import { someNotice } from '../../src/testing/rp-store-bench.ts'
import { ask } from './plain-request.ts'
import { lasting, type RefreshingApp, startRefreshingApp } from './refreshing-app.ts'

/* While the OP answers a refresh, a logout or another process is faster. */

let app: RefreshingApp
afterEach(() => app.close())

describe('a logout while tokens are refreshed', () => {
  it('wins: no token is handed out, and both refresh tokens are revoked at the OP [T7]', async () => {
    app = await startRefreshingApp()
    const cookie = await app.signIn(lasting)
    app.clock.offset = 571
    app.answerRefresh({ access_token: 'a1', expires_in: 600, refresh_token: 'r1' })
    const { saveTokens } = app.sessions
    app.sessions.saveTokens = async (...saved) => {
      await app.sessions.endBy({ sid: 's' }, someNotice({ jtiExpiresAt: Infinity, watermarkExpiresAt: Infinity }))
      return saveTokens(...saved)
    }
    expect(await app.rp.accessToken(cookie)).toBeUndefined()
    const revoked = () => app.op.posted.filter(({ path }) => path === '/revoke').map(({ form }) => form.get('token'))
    await expect.poll(() => revoked().toSorted()).toEqual(['r0', 'r1'])
    expect((await ask(app.rp, 'GET', '/auth/session', { cookie })).status).toBe(401)
  })

  it('has also those with offline_access revoked that come after it, where it asked for that [T7]', async () => {
    app = await startRefreshingApp()
    const cookie = await app.signIn({ ...lasting, scope: 'openid offline_access' })
    app.clock.offset = 571
    app.answerRefresh({ access_token: 'a1', expires_in: 600, refresh_token: 'r1' })
    const { saveTokens } = app.sessions
    app.sessions.saveTokens = async (...saved) => {
      const kept = { jtiExpiresAt: Infinity, watermarkExpiresAt: Infinity }
      await app.sessions.endBy({ sid: 's' }, someNotice({ ...kept, revokeOffline: true }))
      return saveTokens(...saved)
    }
    expect(await app.rp.accessToken(cookie)).toBeUndefined()
    const revoked = () => app.op.posted.filter(({ path }) => path === '/revoke').map(({ form }) => form.get('token'))
    await expect.poll(() => revoked().toSorted()).toEqual(['r0', 'r1'])
  })
})

describe('a refresh that takes longer than another', () => {
  const faster = { tokens: 'sealed elsewhere', refreshToken: { sealed: 'the newer one', offline: false } }

  /** Makes another process save its tokens while the OP answers this one's refresh. */
  async function overtaken(): Promise<{ cookie: string; held: () => Promise<string | undefined> }> {
    app = await startRefreshingApp()
    const cookie = await app.signIn(lasting)
    app.clock.offset = 571
    const [session] = await app.sessions.listBySub('ada')
    const { saveTokens } = app.sessions
    let isFirst = true
    app.sessions.saveTokens = async (...saved) => {
      if (isFirst) expect(await saveTokens(session?.handle ?? '', faster, saved[2])).toBe('saved')
      isFirst = false
      return saveTokens(...saved)
    }
    return { cookie, held: async () => (await app.sessions.listBySub('ada'))[0]?.refreshToken?.sealed }
  }

  it('so that it is too late to ask the OP gives the right to refresh back, and is not held up by its own', async () => {
    app = await startRefreshingApp()
    const cookie = await app.signIn(lasting)
    app.clock.offset = 601
    app.answerRefresh({ access_token: 'a1', expires_in: 600, refresh_token: 'r1' })
    const { claimRefresh } = app.sessions
    const claims: boolean[] = []
    app.sessions.claimRefresh = async (...claimed) => {
      claims.push(await claimRefresh(...claimed))
      if (claims.length === 1) app.clock.offset += 6 // the process stood still
      return claims.at(-1) === true
    }
    expect(await app.rp.accessToken(cookie)).toBe('a1')
    expect(claims).toEqual([true, true])
  })

  it('writes nothing over what the other has got', async () => {
    const { cookie, held } = await overtaken()
    app.answerRefresh({ access_token: 'late', expires_in: 600, refresh_token: 'late' })
    expect(await app.rp.accessToken(cookie)).toBeUndefined() // what the other sealed cannot be opened here
    expect(await held()).toBe('the newer one')
    expect(app.op.posted.filter(({ path }) => path === '/revoke')).toEqual([])
  })

  it('takes nothing away when the OP refuses the refresh token that the other has used up', async () => {
    const { cookie, held } = await overtaken()
    app.op.answers.set('/token', { status: 400, body: { error: 'invalid_grant' } })
    await app.rp.accessToken(cookie)
    expect(await held()).toBe('the newer one')
  })

  it('puts no old tokens back when the OP could not be reached', async () => {
    const { cookie, held } = await overtaken()
    app.op.answers.set('/token', 'hang up')
    await app.rp.accessToken(cookie)
    expect(await held()).toBe('the newer one')
  })
})

describe('the right to refresh', () => {
  it('lasts longer than the OP may take to be found and to answer, so that nobody asks with the same refresh token beside it', async () => {
    app = await startRefreshingApp()
    const cookie = await app.signIn(lasting)
    app.clock.offset = 571
    app.op.answers.set('/token', 'say nothing')
    const asked = expect(app.rp.accessToken(cookie)).rejects.toMatchObject({ code: 'op_unreachable' })
    await expect.poll(app.refreshed).toEqual(['r0'])
    const [session] = await app.sessions.listBySub('ada')
    for (app.clock.offset = 571 + 9; app.clock.offset <= 571 + 29; app.clock.offset++) {
      expect(await app.sessions.claimRefresh(session?.handle ?? '', 1)).toBe(false)
    }
    app.clock.offset = 571 + 31
    expect(await app.sessions.claimRefresh(session?.handle ?? '', 1)).toBe(true) // its holder may have crashed
    await asked
  }, 20_000)

  it('is not used by a process that stood still meanwhile: another has refreshed by then', async () => {
    app = await startRefreshingApp()
    const cookie = await app.signIn(lasting)
    app.clock.offset = 571
    app.answerRefresh({ access_token: 'a1', expires_in: 600, refresh_token: 'r1' })
    const { now } = app.sessions
    let goOn = (): void => {}
    const stood = new Promise<void>((stands) => {
      app.sessions.now = async () => {
        app.sessions.now = now
        await new Promise<void>((resolve) => {
          goOn = resolve
          stands()
        })
        return now()
      }
    })
    const slow = app.rp.accessToken(cookie)
    await stood
    app.clock.offset += 31
    expect(await app.node().accessToken(cookie)).toBe('a1')
    goOn()
    expect(await slow).toBe('a1')
    expect(app.refreshed()).toEqual(['r0'])
  })
})
