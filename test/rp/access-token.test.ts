import { afterEach, describe, expect, it, vi } from 'vitest'
import { sqliteStore } from '../../src/rp-sqlite.ts'
import { someNotice } from '../../src/testing/rp-store-bench.ts'
import { ask } from './plain-request.ts'
import { lasting, type RefreshingApp, startRefreshingApp } from './refreshing-app.ts'

let app: RefreshingApp
afterEach(() => app.close())

describe('an access token', () => {
  it('is handed out while it is good, without asking the OP', async () => {
    app = await startRefreshingApp()
    const cookie = await app.signIn(lasting)
    expect(await app.rp.accessToken(cookie)).toBe('a0')
    app.clock.offset = 540
    expect(await app.rp.accessToken(cookie)).toBe('a0')
    expect(app.refreshed()).toEqual([])
  })

  it('of nobody is none', async () => {
    app = await startRefreshingApp()
    for (const cookie of [undefined, null, '', 'a=b', `__Host-lockstep-x=${'a'.repeat(43)}`]) {
      expect(await app.rp.accessToken(cookie)).toBeUndefined()
    }
  })

  it('of who left the app while a login of his was under way is none: the RP session ends here, too [T3]', async () => {
    app = await startRefreshingApp()
    const cookie = await app.signIn(lasting)
    const left = `${cookie.slice(0, cookie.indexOf('='))}-left=here.${Date.now() + 60_000}`
    expect(await app.rp.accessToken(`${cookie}; ${left}`)).toBeUndefined()
    expect(await app.sessions.listBySub('ada')).toEqual([])
    expect(app.refreshed()).toEqual([])
  })

  it('is refreshed once, however many requests want it, and the rotated refresh token is used next', async () => {
    app = await startRefreshingApp()
    const cookie = await app.signIn(lasting)
    app.clock.offset = 571
    app.answerRefresh({ access_token: 'a1', expires_in: 600, refresh_token: 'r1' })
    const all = await Promise.all(Array.from({ length: 50 }, () => app.rp.accessToken(cookie)))
    expect(new Set(all)).toEqual(new Set(['a1']))
    expect(app.refreshed()).toEqual(['r0'])
    app.clock.offset += 571
    app.answerRefresh({ access_token: 'a2', expires_in: 600 })
    expect(await app.rp.accessToken(cookie)).toBe('a2')
    app.clock.offset += 571
    expect(await app.rp.accessToken(cookie)).toBe('a2')
    expect(app.refreshed()).toEqual(['r0', 'r1', 'r1'])
  })

  it('that came with another sid leaves an RP session that a logout of that sid ends [BC §2.7]', async () => {
    app = await startRefreshingApp()
    const cookie = await app.signIn(lasting)
    app.clock.offset = 571
    const iat = Math.floor(Date.now() / 1000)
    const claims = { iss: app.op.issuer, aud: 'notes', sub: 'ada', sid: 'new', iat, exp: iat + 3600 }
    const id_token = await app.op.mint(claims, { typ: 'JWT' })
    app.answerRefresh({ access_token: 'a1', expires_in: 600, refresh_token: 'r1', id_token })
    expect(await app.rp.accessToken(cookie)).toBe('a1')
    const ended = await app.sessions.endBy({ sid: 'new', sub: 'ada' }, someNotice())
    expect(ended.outcome === 'ended' && ended.sessions).toHaveLength(1)
    expect(await app.rp.accessToken(cookie)).toBeUndefined()
  })

  it('is none, and the RP session ends, when a logout of its new sid came before the answer [T3]', async () => {
    app = await startRefreshingApp()
    const cookie = await app.signIn(lasting)
    app.clock.offset = 571
    const iat = Math.floor(Date.now() / 1000)
    const claims = { iss: app.op.issuer, aud: 'notes', sub: 'ada', sid: 'new', iat, exp: iat + 3600 }
    const id_token = await app.op.mint(claims, { typ: 'JWT' })
    app.answerRefresh({ access_token: 'a1', expires_in: 600, refresh_token: 'r1', id_token })
    const asked = app.sessions.now
    app.sessions.now = async () => {
      const at = await asked()
      app.clock.offset += 1
      await app.sessions.endBy({ sid: 'new' }, someNotice({ watermarkExpiresAt: at + 86_400 }))
      return at
    }
    expect(await app.rp.accessToken(cookie)).toBeUndefined()
    expect(await app.sessions.listBySub('ada')).toEqual([])
    const revoked = () => app.op.posted.filter(({ path }) => path === '/revoke').map(({ form }) => form.get('token'))
    await vi.waitFor(() => expect(revoked().sort()).toEqual(['r0', 'r1']))
  })

  it('is refreshed once, however many processes want it', async () => {
    app = await startRefreshingApp(sqliteStore(':memory:'))
    const cookie = await app.signIn(lasting)
    const others = [app.node(), app.node(), app.node()]
    app.clock.offset = 571
    app.answerRefresh({ access_token: 'a1', expires_in: 600, refresh_token: 'r1' })
    const all = await Promise.all([app.rp, ...others].map((one) => one.accessToken(cookie)))
    expect(all).toEqual(['a1', 'a1', 'a1', 'a1'])
    expect(app.refreshed()).toEqual(['r0'])
  })

  it('that lives shortly is not refreshed at each request', async () => {
    app = await startRefreshingApp()
    const cookie = await app.signIn({ expires_in: 20, refresh_token: 'r0' })
    expect(await app.rp.accessToken(cookie)).toBe('a0')
    expect(app.refreshed()).toEqual([])
  })

  it('without a refresh token is good until it expires, and then none', async () => {
    app = await startRefreshingApp()
    const cookie = await app.signIn({ expires_in: 600 })
    app.clock.offset = 598
    expect(await app.rp.accessToken(cookie)).toBe('a0')
    app.clock.offset = 601
    expect(await app.rp.accessToken(cookie)).toBeUndefined()
  })

  it('keeps the refreshed tokens and the RP session as they were otherwise; idle lifetime is not extended [T11]', async () => {
    app = await startRefreshingApp()
    const cookie = await app.signIn(lasting)
    const [before] = await app.sessions.listBySub('ada')
    app.clock.offset = 571
    app.answerRefresh({ access_token: 'a1', expires_in: 600 })
    await app.rp.accessToken(cookie)
    const [after] = await app.sessions.listBySub('ada')
    expect(after).toEqual({ ...before, tokens: expect.not.stringMatching(before?.tokens ?? '') })
  })
})

describe('an OP that refuses a refresh token', () => {
  it('is not asked with it again; the RP session lives on', async () => {
    app = await startRefreshingApp()
    const cookie = await app.signIn(lasting)
    app.clock.offset = 571
    app.op.answers.set('/token', { status: 400, body: { error: 'invalid_grant' } })
    expect(await app.rp.accessToken(cookie)).toBe('a0') // it is good for half a minute yet
    app.clock.offset = 601
    expect(await app.rp.accessToken(cookie)).toBeUndefined()
    expect(app.refreshed()).toEqual(['r0'])
    expect(app.log).toEqual([expect.objectContaining({ event: 'refresh_refused' })])
    expect((await ask(app.rp, 'GET', '/auth/session', { cookie })).status).toBe(200)
  })

  it('that is down is survived while the token lasts, then said so, and asked again when it is back', async () => {
    app = await startRefreshingApp()
    const cookie = await app.signIn(lasting)
    app.clock.offset = 571
    app.op.answers.set('/token', 'hang up')
    expect(await app.rp.accessToken(cookie)).toBe('a0')
    app.clock.offset = 601
    await expect(app.rp.accessToken(cookie)).rejects.toMatchObject({ code: 'op_unreachable' })
    app.answerRefresh({ access_token: 'a1', expires_in: 600 })
    expect(await app.rp.accessToken(cookie)).toBe('a1')
  })

  it('that has moved its Token Endpoint is asked there in time, also by an app at which nobody signs in any more', async () => {
    app = await startRefreshingApp()
    const cookie = await app.signIn(lasting)
    const metadata = '/.well-known/openid-configuration'
    const said = (await (await fetch(app.op.issuer + metadata)).json()) as object
    app.op.answers.set(metadata, { status: 200, body: { ...said, token_endpoint: `${app.op.issuer}/new-token` } })
    app.op.answers.set('/token', { status: 404, body: {} })
    const body = { token_type: 'Bearer', access_token: 'a1', expires_in: 600 }
    app.op.answers.set('/new-token', { status: 200, body })
    app.clock.offset = 601
    await expect(app.rp.accessToken(cookie)).rejects.toMatchObject({ code: 'op_answer_invalid' })
    await vi.waitFor(async () => expect(await app.rp.accessToken(cookie)).toBe('a1'))
  })

  it("that answers with somebody else's ID Token is refused [Core §12.2]", async () => {
    app = await startRefreshingApp()
    const cookie = await app.signIn(lasting)
    app.clock.offset = 601
    const iat = Math.floor(Date.now() / 1000)
    const claims = { iss: app.op.issuer, aud: 'notes', sub: 'grace', iat, exp: iat + 60 }
    app.answerRefresh({ access_token: 'a1', expires_in: 600, id_token: await app.op.mint(claims, { typ: 'JWT' }) })
    await expect(app.rp.accessToken(cookie)).rejects.toMatchObject({ code: 'op_answer_invalid' })
    const found = await app.sessions.listBySub('ada')
    expect(found).toHaveLength(1)
  })
})
