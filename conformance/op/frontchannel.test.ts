import { once } from 'node:events'
import { createServer, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import { decodeJwt } from 'jose'
import type { Page as Tab } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type Chromium, launchChromium } from '../../e2e/support/chromium.ts'
import { type RpSite, startRpSite } from '../../test/support/rp-site.ts'
import { selfSigned } from '../../test/support/self-signed.ts'
import { createUserAgent, type UserAgent } from '../../test/support/user-agent.ts'
import { expectDiscovery } from './assertions.ts'
import { type App, authorize, logIn, logoutUrl, silently, wildState } from './relying-party.ts'
import { type OpUnderTest, refusedStart, startOp } from './server-program.ts'

let site: Server
let port: number
let op: OpUnderTest
let chromium: Chromium
/** `host path?query` of each request to an app. */
const requests: URL[] = []

const origin = (app: string): string => `https://${app}.localhost:${port}`
const client = (app: string, more: Record<string, unknown> = {}) => ({
  client_id: app,
  client_secret: `the secret of ${app}, long enough`,
  redirect_uris: [`${origin(app)}/cb`],
  post_logout_redirect_uris: [`${origin(app)}/bye`],
  frontchannel_logout_uri: `${origin(app)}/fc?kept=1`,
  token_endpoint_auth_method: 'client_secret_post',
  ...more,
})

async function openTab(): Promise<Tab> {
  const tab = await chromium.context.newPage()
  const devTools = await chromium.context.newCDPSession(tab)
  await devTools.send('Security.setIgnoreCertificateErrors', { ignore: true })
  return tab
}

/** Logs in at an app, on the OP's page where it asks; the ID Token. */
async function logInByTab(tab: Tab, app: string): Promise<string> {
  const redirect_uri = `${origin(app)}/cb`
  const query = new URLSearchParams({ client_id: app, response_type: 'code', scope: 'openid', redirect_uri })
  await tab.goto(`${op.metadata.authorization_endpoint}?${query}`)
  if (new URL(tab.url()).pathname !== '/cb') {
    await tab.locator('[name=username]').fill('ada')
    await tab.locator('[name=password]').fill('analytical')
    await tab.getByRole('button', { name: 'Sign in', exact: true }).click()
    await tab.waitForURL((url) => url.pathname === '/cb')
  }
  const response = await fetch(op.metadata.token_endpoint, {
    method: 'POST',
    body: new URLSearchParams({
      client_id: app,
      client_secret: `the secret of ${app}, long enough`,
      grant_type: 'authorization_code',
      code: new URL(tab.url()).searchParams.get('code') ?? '',
      redirect_uri,
    }),
  })
  const { id_token } = (await response.json()) as { id_token: string }
  return id_token
}

describe('oidcc-frontchannel-rp-initiated-logout-certification-test-plan', () => {
  beforeAll(async () => {
    site = createServer(selfSigned(), (request, response) => {
      requests.push(new URL(request.url ?? '/', `https://${request.headers.host}`))
      response.writeHead(200, { 'content-type': 'text/html', 'cache-control': 'no-store' })
      response.end('<!doctype html><title>An app</title>')
    }).listen(0, '127.0.0.1')
    await once(site, 'listening')
    port = (site.address() as AddressInfo).port
    const clients = [
      client('notes', { frontchannel_logout_session_required: true }),
      client('mail'),
      client('never', { frontchannel_logout_session_required: true }),
    ]
    op = await startOp(clients)
  })
  afterAll(async () => {
    await op.close()
    site.closeAllConnections()
    site.close()
  })
  beforeEach(async () => {
    requests.length = 0
    chromium = await launchChromium({ thirdPartyCookies: 'blocked' })
  })
  afterEach(() => chromium.close())

  it('discovery [oidcc-frontchannel-logout-discovery-endpoint-verification] [FCL-3-b]', async () => {
    await expectDiscovery(op)
    expect(op.metadata).toMatchObject({
      frontchannel_logout_supported: true,
      frontchannel_logout_session_supported: true,
    })
  })

  it('frames exactly the RPs of the session, then redirects with state [oidcc-frontchannel-rp-initiated-logout] [FCL-2-b/c/e/j] [FCL-3-a] [RPI-2-q]', async () => {
    const tab = await openTab()
    const idToken = await logInByTab(tab, 'notes')
    await logInByTab(tab, 'mail')
    requests.length = 0
    const bye = `${origin('notes')}/bye`
    await tab.goto(logoutUrl(op, { id_token_hint: idToken, post_logout_redirect_uri: bye, state: wildState }))
    await tab.waitForURL((url) => url.pathname === '/bye')
    expect(new URL(tab.url()).searchParams.get('state')).toBe(wildState)
    const framed = requests.filter(({ pathname }) => pathname === '/fc')
    expect(framed.map(({ hostname }) => hostname).toSorted()).toEqual(['mail.localhost', 'notes.localhost'])
    const ofNotes = framed.find(({ hostname }) => hostname === 'notes.localhost')?.searchParams
    expect(ofNotes?.get('iss')).toBe(op.metadata.issuer)
    expect(ofNotes?.get('sid')).toBe(decodeJwt(idToken).sid)
    for (const { searchParams } of framed) {
      expect(searchParams.get('kept')).toBe('1')
      expect(searchParams.has('iss')).toBe(searchParams.has('sid'))
      expect([...searchParams.keys()].filter((name) => !['kept', 'iss', 'sid'].includes(name))).toEqual([])
    }
    const query = { client_id: 'notes', response_type: 'code', scope: 'openid', redirect_uri: `${origin('notes')}/cb` }
    await tab.goto(`${op.metadata.authorization_endpoint}?${new URLSearchParams({ ...query, prompt: 'none' })}`)
    expect(new URL(tab.url()).searchParams.get('error')).toBe('login_required')
  })
})

describe('beyond the suite', () => {
  let rps: RpSite
  let plain: OpUnderTest
  let browser: UserAgent

  /** An app that can only be told in a frame; the OP is https, so its frame must be as well. */
  const framed = (app: string): App => {
    const secure = rps.origin(app).replace('http:', 'https:')
    return rps.client(app, {
      redirect_uris: [`${rps.origin(app)}/cb`, `${secure}/cb`],
      backchannel_logout_uri: undefined,
      frontchannel_logout_uri: `${secure}/front`,
      frontchannel_logout_session_required: true,
    })
  }

  beforeEach(async () => {
    rps = await startRpSite()
    plain = await startOp([framed('notes'), framed('other')])
    browser = createUserAgent()
  })
  afterEach(async () => {
    await browser.close()
    await plain.close()
    await rps.close()
  })

  it('frames the RPs of this session, not those of the same user elsewhere [FCL-2-c] [FCL-3-a]', async () => {
    const phone = createUserAgent()
    await logIn(phone, plain, framed('other'))
    const { tokens } = await logIn(browser, plain, framed('notes'))
    const { body } = await browser.open(logoutUrl(plain, { id_token_hint: tokens.id_token }))
    const frames = [...body.matchAll(/<iframe src="([^"]*)"/g)].map(([, src = '']) => new URL(src).hostname)
    expect(frames).toEqual(['notes.localhost'])
    expect((await silently(phone, plain, framed('other'))).has('code')).toBe(true)
    await phone.close()
  })

  it.each([
    ['another origin', 'https://elsewhere.localhost/front'],
    ['a fragment', 'https://notes.localhost/front#x'],
    ['no origin', '/front'],
    ['http', 'http://notes.localhost/front'],
  ])('refuses a frontchannel_logout_uri with %s, and says so [FCL-2-a] [FCL-2-b] [E13]', async (_what, uri) => {
    const redirect_uris = ['https://notes.localhost/cb', 'http://notes.localhost/cb']
    const { code, said } = await refusedStart([{ ...framed('notes'), redirect_uris, frontchannel_logout_uri: uri }])
    expect(code).toBe(2)
    expect(said).toContain('frontchannel_logout_uri')
  })

  it('answers a prompt it does not support with a 400 that goes to no app [PC-4.1-d] [E43]', async () => {
    expect(plain.metadata.prompt_values_supported).not.toContain('create')
    const { page } = await authorize(browser, plain, framed('notes'), { prompt: 'create' })
    expect(page.status).toBe(400)
    expect(rps.log).toEqual([])
  })
})
