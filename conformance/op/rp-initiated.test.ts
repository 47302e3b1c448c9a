import { decodeJwt, SignJWT, UnsecuredJWT } from 'jose'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type RpSite, startRpSite } from '../../test/support/rp-site.ts'
import { createUserAgent, type UserAgent } from '../../test/support/user-agent.ts'
import { expectDiscovery, expectLoginRequired, expectOwnPage } from './assertions.ts'
import { type App, confirmed, type Login, logIn, logoutUrl, silently, wildState } from './relying-party.ts'
import { type OpUnderTest, startOp } from './server-program.ts'

let rps: RpSite
let op: OpUnderTest
let browser: UserAgent
let app: App
let bye: string
let login: Login

beforeAll(async () => {
  rps = await startRpSite()
  app = rps.client('notes')
  bye = `${rps.origin('notes')}/bye`
  op = await startOp([app])
})
afterAll(async () => {
  await op.close()
  await rps.close()
})
beforeEach(async () => {
  browser = createUserAgent()
  login = await logIn(browser, op, app)
})
afterEach(() => browser.close())

const byeCalls = (): number => rps.log.filter((line) => line.includes('/bye')).length

describe('oidcc-rp-initiated-logout-certification-test-plan', () => {
  it('discovery [oidcc-rp-initiated-logout-discovery-endpoint-verification] [RPI-2.1-a]', async () => {
    await expectDiscovery(op)
  })

  it('redirects with the very state, and nobody is logged in [oidcc-rp-initiated-logout] [RPI-2-i] [RPI-2-p] [RPI-2-c]', async () => {
    const params = { id_token_hint: login.tokens.id_token, post_logout_redirect_uri: bye, state: wildState }
    const page = await browser.open(logoutUrl(op, params))
    const { origin, pathname, searchParams } = new URL(page.url)
    expect(origin + pathname).toBe(bye)
    expect([...searchParams]).toEqual([['state', wildState]])
    expectLoginRequired(op, await silently(browser, op, app))
  })

  it('redirects without state when none was sent [oidcc-rp-initiated-logout-no-state] [RPI-2-i]', async () => {
    const params = { id_token_hint: login.tokens.id_token, post_logout_redirect_uri: bye }
    expect((await browser.open(logoutUrl(op, params))).url).toBe(bye)
    expectLoginRequired(op, await silently(browser, op, app))
  })

  it.each([
    ['oidcc-rp-initiated-logout-bad-post-logout-redirect-uri', '/elsewhere'],
    ['oidcc-rp-initiated-logout-query-added-to-post-logout-redirect-uri', '/bye?foo=bar'],
  ])('goes to no URI that is not registered, nor to one that is: %s [oidcc-rp-initiated-logout-bad-post-logout-redirect-uri] [oidcc-rp-initiated-logout-query-added-to-post-logout-redirect-uri] [RPI-3-c] [RPI-4-c] [RPI-2-g] [E5]', async (_module, path) => {
    const before = byeCalls()
    const uri = rps.origin('notes') + path
    const params = { id_token_hint: login.tokens.id_token, post_logout_redirect_uri: uri, state: wildState }
    expectOwnPage(op, await browser.open(logoutUrl(op, params)))
    expect(byeCalls()).toBe(before)
    expect((await silently(browser, op, app)).has('code')).toBe(true)
  })

  it('does not redirect on a hint that was made alg none [oidcc-rp-initiated-logout-modified-id-token-hint] [RPI-2-k] [E1]', async () => {
    const hint = new UnsecuredJWT(decodeJwt(login.tokens.id_token)).encode()
    const params = { id_token_hint: hint, post_logout_redirect_uri: bye, state: wildState }
    expectOwnPage(op, await browser.open(logoutUrl(op, params)))
    expect((await silently(browser, op, app)).has('code')).toBe(true)
  })

  it('does not redirect on a hint that the client signed [oidcc-rp-initiated-logout-bad-id-token-hint] [RPI-2-k] [E1]', async () => {
    const hint = await new SignJWT({ iss: app.client_id, aud: op.metadata.issuer, sub: 'SubjectID' })
      .setProtectedHeader({ alg: 'HS256' })
      .setIssuedAt()
      .setExpirationTime('5m')
      .sign(new TextEncoder().encode(app.client_secret))
    const params = { id_token_hint: hint, post_logout_redirect_uri: bye, state: wildState }
    expectOwnPage(op, await browser.open(logoutUrl(op, params)))
    expect((await silently(browser, op, app)).has('code')).toBe(true)
  })

  it('does not redirect without a hint and a client [oidcc-rp-initiated-logout-no-id-token-hint] [RPI-3-b] [RPI-6-a] [E6] [E8]', async () => {
    const before = byeCalls()
    const page = await browser.open(logoutUrl(op, { post_logout_redirect_uri: bye, state: wildState }))
    expectOwnPage(op, page)
    expectOwnPage(op, await confirmed(browser, page))
    expect(byeCalls()).toBe(before)
  })

  it.each([
    ['oidcc-rp-initiated-logout-no-params', () => ({})],
    [
      'oidcc-rp-initiated-logout-no-post-logout-redirect-uri',
      () => ({ id_token_hint: login.tokens.id_token, state: wildState }),
    ],
    ['oidcc-rp-initiated-logout-only-state', () => ({ state: wildState })],
  ])('logs out, once the user agreed where a hint is missing, and stays on its own page: %s [oidcc-rp-initiated-logout-no-params] [oidcc-rp-initiated-logout-no-post-logout-redirect-uri] [oidcc-rp-initiated-logout-only-state] [RPI-2-d] [RPI-2-n] [RPI-3-a]', async (_module, params) => {
    const page = await confirmed(browser, await browser.open(logoutUrl(op, params())))
    expectOwnPage(op, page)
    expect(page.status).toBe(200)
    expect(page.body).toContain('signed out')
    expectLoginRequired(op, await silently(browser, op, app))
  })
})

describe('beyond the suite', () => {
  const hinted = () => ({ id_token_hint: login.tokens.id_token, post_logout_redirect_uri: bye, state: 's' })

  it('takes POST as it takes GET [RPI-2-a] [RPI-2-b]', async () => {
    const fields = Object.entries(hinted()).map(([name, value]) => `<input name="${name}" value="${value}">`)
    const body = `<form method="post" action="${op.metadata.end_session_endpoint}">${fields.join('')}</form>`
    const page = { url: `${rps.origin('notes')}/`, status: 200, body, header: () => undefined, trail: [] }
    expect((await browser.submit(page)).url).toBe(`${bye}?state=s`)
    expectLoginRequired(op, await silently(browser, op, app))
  })

  it('asks where the hint is of another user, and ends nothing by itself [RPI-2-o] [RPI-2-m] [E3]', async () => {
    const other = createUserAgent()
    const { tokens } = await logIn(other, op, app, { user: 'grace' })
    const page = await browser.open(logoutUrl(op, { ...hinted(), id_token_hint: tokens.id_token }))
    expectOwnPage(op, page)
    expect(page.body).toContain('value="yes"')
    expect((await silently(browser, op, app)).has('code')).toBe(true)
    await other.close()
  })

  it('asks where the hint is of the same user in another browser [RPI-2-o] [T12] [E3]', async () => {
    const other = createUserAgent()
    const { tokens } = await logIn(other, op, app)
    const page = await browser.open(logoutUrl(op, { ...hinted(), id_token_hint: tokens.id_token }))
    expect(page.body).toContain('value="yes"')
    await other.close()
  })

  it('asks a browser that does not say what the request is for [T12] [RPI-2-n]', async () => {
    const page = await browser.open(logoutUrl(op, hinted()), { 'sec-fetch-dest': 'image' })
    expect(page.body).toContain('value="yes"')
    expect((await silently(browser, op, app)).has('code')).toBe(true)
  })

  it('refuses a client_id that is not the hint’s, and a parameter sent twice [RPI-2-e] [RPI-4-a] [E4]', async () => {
    const mismatch = await browser.open(logoutUrl(op, { ...hinted(), client_id: 'mail' }))
    expect(mismatch.status).toBe(400)
    expectOwnPage(op, mismatch)
    const twice = await browser.open(`${logoutUrl(op, hinted())}&state=t`)
    expect(twice.status).toBe(400)
    expectOwnPage(op, twice)
    expect((await silently(browser, op, app)).has('code')).toBe(true)
  })

  it('offers to log out on an error page [RPI-4-d]', async () => {
    const error = await browser.open(logoutUrl(op, { id_token_hint: 'nonsense' }))
    expect(error.status).toBe(400)
    await confirmed(browser, await browser.submit(error))
    expectLoginRequired(op, await silently(browser, op, app))
  })

  it('keeps the session when the user says no [E11]', async () => {
    const page = await browser.submit(await browser.open(logoutUrl(op)), { answer: 'no' })
    expectOwnPage(op, page)
    expect((await silently(browser, op, app)).has('code')).toBe(true)
  })

  it('takes a logout of nobody for a success [RPI-4-b] [E9]', async () => {
    await browser.open(logoutUrl(op, hinted()))
    expect((await browser.open(logoutUrl(op, hinted()))).url).toBe(`${bye}?state=s`)
  })

  it('ignores languages and parameters that it does not know [RPI-2-j] [E10]', async () => {
    const params = { ...hinted(), ui_locales: 'tlh x-none', colour: 'mauve' }
    expect((await browser.open(logoutUrl(op, params))).url).toBe(`${bye}?state=s`)
  })

  it('is framed by nobody, neither where it signs in nor where it asks [T5] [CORE-3.1.2.3]', async () => {
    const asked = await browser.open(logoutUrl(op))
    const fresh = createUserAgent()
    const query = new URLSearchParams({
      client_id: 'notes',
      response_type: 'code',
      scope: 'openid',
      redirect_uri: app.redirect_uris?.[0] ?? '',
    })
    const signIn = await fresh.open(`${op.metadata.authorization_endpoint}?${query}`)
    for (const page of [asked, signIn]) {
      expect(page.header('content-security-policy')).toContain("frame-ancestors 'none'")
      expect(page.header('cache-control')).toContain('no-store')
    }
    await fresh.close()
  })
})
