import { decodeJwt } from 'jose'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type RpSite, startRpSite } from '../../test/support/rp-site.ts'
import { createUserAgent, type UserAgent } from '../../test/support/user-agent.ts'
import { expectLoginRequired } from './assertions.ts'
import { type App, logIn, longState, silently } from './relying-party.ts'
import { type OpUnderTest, refusedStart, startOp } from './server-program.ts'

let rps: RpSite
let op: OpUnderTest
let browser: UserAgent
let app: App

beforeAll(async () => {
  rps = await startRpSite()
  app = rps.client('notes', { initiate_login_uri: 'https://notes.localhost/login' })
  op = await startOp([app])
})
afterAll(async () => {
  await op.close()
  await rps.close()
})
beforeEach(() => {
  browser = createUserAgent()
})
afterEach(() => browser.close())

describe('prompt=none', () => {
  it('answers login_required where nobody is logged in [oidcc-prompt-none-not-logged-in] [CORE-3.1.2.1]', async () => {
    expectLoginRequired(op, await silently(browser, op, app))
  })

  it('answers with the same sub and auth_time where somebody is [oidcc-prompt-none-logged-in]', async () => {
    const first = await logIn(browser, op, app, { max_age: '3600' })
    const again = await logIn(browser, op, app, { max_age: '3600', prompt: 'none' })
    const [a, b] = [first, again].map(({ tokens }) => decodeJwt(tokens.id_token))
    expect(a?.auth_time).toBeTypeOf('number')
    expect(b).toMatchObject({ sub: a?.sub, auth_time: a?.auth_time, sid: a?.sid })
    expect(again.params.get('state')).toBe(longState)
  })

  it('answers with the same sub where the hint is of that user [oidcc-id-token-hint]', async () => {
    const { tokens } = await logIn(browser, op, app)
    const again = await logIn(browser, op, app, { prompt: 'none', id_token_hint: tokens.id_token })
    expect(decodeJwt(again.tokens.id_token).sub).toBe(decodeJwt(tokens.id_token).sub)
  })

  it('never answers with another user than the hint’s [CORE-3.1.2.2-4]', async () => {
    const other = createUserAgent()
    const { tokens } = await logIn(other, op, app, { user: 'grace' })
    await logIn(browser, op, app)
    const params = await silently(browser, op, app, { id_token_hint: tokens.id_token })
    expect(params.has('code')).toBe(false)
    expect(params.get('error')).toBe('login_required')
    await other.close()
  })

  it('refuses none together with another value [E44]', async () => {
    expect((await silently(browser, op, app, { prompt: 'none login' })).get('error')).toBe('invalid_request')
  })

  it('is what discovery lists among the others, and a value that it does not list is a 400 [PC-4.1-d] [PC-4.2-a] [E43]', async () => {
    expect(op.metadata.prompt_values_supported).toEqual(expect.arrayContaining(['none', 'login', 'consent']))
    expect(op.metadata.prompt_values_supported).not.toContain('create')
    const redirect_uri = app.redirect_uris?.[0] ?? ''
    const query = { client_id: 'notes', response_type: 'code', scope: 'openid', prompt: 'create', redirect_uri }
    const page = await browser.open(`${op.metadata.authorization_endpoint}?${new URLSearchParams(query)}`)
    expect(page.status).toBe(400)
    expect(new URL(page.url).origin).toBe(op.metadata.issuer)
  })
})

describe('oidcc-3rdparty-init-login-certification-test-plan', () => {
  // The server program registers clients from its file; there is no registration endpoint that could echo.
  it('takes an https initiate_login_uri [oidcc-3rd_party-init-login]', async () => {
    const query = await silently(browser, op, app)
    expect(query.get('error')).toBe('login_required')
  })

  it('refuses one that is not https [oidcc-3rd_party-init-login-nohttps]', async () => {
    const { code, said } = await refusedStart([
      rps.client('notes', { initiate_login_uri: 'http://notes.localhost/login' }),
    ])
    expect(code).toBe(2)
    expect(said).toContain('client "notes" is refused: initiate_login_uri must be a https uri')
  })
})
