import { request } from 'undici'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { expectErrorPage, expectQuestion, logoutForm, signedByOp } from '../../support/logout-pages.ts'
import { claimsOf, isSignedIn, logIn, logoutUrl, type Tokens } from '../../support/op-flow.ts'
import { type RpSite, startRpSite } from '../../support/rp-site.ts'
import { startTestOp, type TestOp } from '../../support/test-op.ts'
import { createUserAgent, type UserAgent } from '../../support/user-agent.ts'

let rps: RpSite
let op: TestOp
let browser: UserAgent
let notes: ReturnType<RpSite['client']>
let tokens: Tokens

beforeAll(async () => {
  rps = await startRpSite()
  notes = rps.client('notes', {
    post_logout_redirect_uris: [
      `${rps.origin('notes')}/bye`,
      `${rps.origin('notes')}/bye?kept=yes`,
      `${rps.origin('notes')}/bye-€`,
    ],
  })
  op = await startTestOp({ clients: [notes, rps.client('mail')] })
})
afterAll(async () => {
  await op.close()
  await rps.close()
})
beforeEach(async () => {
  browser = createUserAgent()
  tokens = (await logIn(browser, op, notes)).tokens
})
afterEach(() => browser.close())

const bye = () => `${rps.origin('notes')}/bye`

async function expectSignedIn(): Promise<void> {
  expect(await isSignedIn(browser, op, notes)).toBe(true)
  const userinfo = await fetch(`${op.issuer}/me`, { headers: { authorization: `Bearer ${tokens.access_token}` } })
  expect(userinfo.status).toBe(200)
}

async function expectSignedOut(): Promise<void> {
  expect(await isSignedIn(browser, op, notes)).toBe(false)
}

describe('a logout request with a hint of this OP session', () => {
  it.each([
    ['GET', (params: Record<string, string>) => browser.open(logoutUrl(op, params))],
    ['POST', (params: Record<string, string>) => browser.submit(logoutForm(rps.origin('notes'), op), params)],
  ])('by %s logs out without a question and returns to the app [RPI-2-a] [RPI-2-p]', async (_method, send) => {
    const page = await send({ id_token_hint: tokens.id_token, post_logout_redirect_uri: bye(), state: 's 1' })
    expect(page.url).toBe(`${bye()}?state=s%201`)
    await expectSignedOut()
  })

  it('accepts a hint that has expired [RPI-2-l] [E2]', async () => {
    const long = Math.floor(Date.now() / 1000) - 86_400
    const hint = await signedByOp(op, { ...claimsOf(tokens.id_token), iat: long - 3600, exp: long })
    const page = await browser.open(logoutUrl(op, { id_token_hint: hint, post_logout_redirect_uri: bye() }))
    expect(page.url).toBe(bye())
    await expectSignedOut()
  })

  it('to a registered URI that no header can hold as it is: it is encoded, and the browser is signed out [RPI-3-a]', async () => {
    const { tokens } = await logIn(browser, op, notes)
    const uri = `${bye()}-€`
    const page = await browser.open(logoutUrl(op, { id_token_hint: tokens.id_token, post_logout_redirect_uri: uri }))
    expect(page.url).toBe(`${bye()}-%E2%82%AC`)
    expect(op.failures).toEqual([])
    expect(await isSignedIn(browser, op, notes)).toBe(false)
  })

  it('adds no state when none was sent, and keeps a registered query [RPI-2-i]', async () => {
    const uri = `${bye()}?kept=yes`
    const page = await browser.open(logoutUrl(op, { id_token_hint: tokens.id_token, post_logout_redirect_uri: uri }))
    expect(page.url).toBe(uri)
  })

  it('without a redirect URI ends at a page of the OP [RPI-3-a]', async () => {
    const page = await browser.open(logoutUrl(op, { id_token_hint: tokens.id_token, state: 'unused' }))
    expect(page.url).toBe(`${op.issuer}/session/end/signed-out`)
    expect(page.body).toContain('You are signed out')
    await expectSignedOut()
  })

  it('ignores ui_locales, logout_hint and parameters it does not know [RPI-2-j] [E10]', async () => {
    const more = { ui_locales: 'tlh xx-YY', logout_hint: 'ada', vendor_thing: '1' }
    const params = { id_token_hint: tokens.id_token, client_id: 'notes', post_logout_redirect_uri: bye(), ...more }
    expect((await browser.open(logoutUrl(op, params))).url).toBe(bye())
    await expectSignedOut()
  })

  it('treats empty parameters as absent [RFC 6749 §3.1]', async () => {
    const params = { id_token_hint: tokens.id_token, client_id: '', post_logout_redirect_uri: '' }
    expect((await browser.open(logoutUrl(op, params))).url).toBe(`${op.issuer}/session/end/signed-out`)
    await expectSignedOut()
  })
})

describe('state comes back byte for byte', () => {
  // the conformance suite's punctuation, and what breaks naive encoders
  const hostile = [
    'abc!"#$%&\'()*,-./:<=>?@[\\]^_`{|}~~~~0123',
    'a+b c;d&state=e#f',
    '%41%2B%00',
    'ünï-✓-\u{1F600}-\u0000-\r\n-end',
    '"><script>alert(1)</script>',
    ' ',
  ]
  it.each(hostile)('after GET: %j [RPI-2-i]', async (state) => {
    const params = { id_token_hint: tokens.id_token, post_logout_redirect_uri: bye(), state }
    const page = await browser.open(logoutUrl(op, params))
    expect([...new URL(page.url).searchParams]).toEqual([['state', state]])
  })

  it.each(hostile)('after POST: %j [RPI-2-i]', async (state) => {
    const page = await browser.submit(logoutForm(rps.origin('notes'), op), {
      id_token_hint: tokens.id_token,
      post_logout_redirect_uri: bye(),
      state,
    })
    // a form turns lone line breaks into CR LF before it leaves the browser; URLSearchParams does not
    expect([...new URL(page.url).searchParams]).toEqual([['state', state]])
  })

  it.each(hostile)('after the question, which a client_id alone leads to: %j [RPI-2-i] [E7]', async (state) => {
    const asked = await browser.open(logoutUrl(op, { client_id: 'notes', post_logout_redirect_uri: bye(), state }))
    expectQuestion(asked, op)
    const page = await browser.submit(asked, { answer: 'yes' })
    expect([...new URL(page.url).searchParams]).toEqual([['state', state]])
  })
})

describe('a logout request without an OP session', () => {
  beforeEach(async () => {
    await browser.open(logoutUrl(op, { id_token_hint: tokens.id_token }))
    await browser.close()
    browser = createUserAgent()
  })

  it('is no error and returns to the app a valid hint vouches for [RPI-4-b] [E9]', async () => {
    const params = { id_token_hint: tokens.id_token, post_logout_redirect_uri: bye(), state: 's' }
    expect((await browser.open(logoutUrl(op, params))).url).toBe(`${bye()}?state=s`)
    expect((await browser.submit(logoutForm(rps.origin('notes'), op), params)).url).toBe(`${bye()}?state=s`)
  })

  it('without a hint ends at a page of the OP: nobody vouches for the redirect [RPI-3-b]', async () => {
    const before = rps.log.length
    for (const params of [
      {},
      { client_id: 'notes', post_logout_redirect_uri: bye() },
      { post_logout_redirect_uri: bye() },
    ]) {
      const page = await browser.open(logoutUrl(op, params))
      expect(page.url).toBe(`${op.issuer}/session/end/signed-out`)
      expect(page.body).toContain('You are signed out')
    }
    expect(rps.log.slice(before)).toEqual([])
  })

  it('is still refused when something is wrong with it [RPI-4-c]', async () => {
    const wrong = { id_token_hint: tokens.id_token, post_logout_redirect_uri: 'http://evil.localhost/' }
    expectErrorPage(await browser.open(logoutUrl(op, wrong)), op)
  })

  it('logs out twice as well as once [RPI-4-b]', async () => {
    const { tokens: mine } = await logIn(browser, op, notes)
    const url = logoutUrl(op, { id_token_hint: mine.id_token, post_logout_redirect_uri: bye() })
    expect((await browser.open(url)).url).toBe(bye())
    expect((await browser.open(url)).url).toBe(bye())
  })
})

describe('a logout request of a browser that has lost the OP cookie, with a hint of an OP session that lives', () => {
  let lost: UserAgent
  beforeEach(() => {
    lost = createUserAgent()
  })
  afterEach(() => lost.close())
  const ask = () =>
    lost.open(logoutUrl(op, { id_token_hint: tokens.id_token, post_logout_redirect_uri: bye(), state: 's' }))

  it('asks, names nobody and no other app, and ends nothing by itself [RPI-2-o] [T12] [T14]', async () => {
    await logIn(browser, op, rps.client('mail'))
    const before = rps.log.length
    const page = await ask()
    expectQuestion(page, op)
    expect(page.body).toContain('Notes asks to sign you out.')
    expect(page.body).not.toMatch(/ada|Mail/)
    expect(rps.log.slice(before)).toEqual([])
    await expectSignedIn()
  })

  it('ends that OP session after a yes, tells its apps and returns to the one that asked [RPI-2-p] [RPI-2-q]', async () => {
    await logIn(browser, op, rps.client('mail'))
    const before = (await rps.received(0)).length
    const page = await lost.submit(await ask(), { answer: 'yes' })
    expect(page.url).toBe(`${bye()}?state=s`)
    await expectSignedOut()
    const told = (await rps.received(before + 2)).slice(before)
    expect(told.map(({ app }) => app).toSorted()).toEqual(['mail', 'notes'])
    const receipts = lost.cookies(op.issuer).filter(({ name }) => name.startsWith('__Host-op_logout.'))
    expect(receipts).toEqual([]) // who came by a hint is not shown which apps there were [T14]
    expect((await ask()).url).toBe(`${bye()}?state=s`) // nothing is left to ask about
  })

  it('ends nothing after a no, nor when another site answers [RPI-2-n] [E11] [T5]', async () => {
    const page = await ask()
    expect((await lost.submit(page, { answer: 'no' })).body).toContain('You are still signed in')
    const sealed = /name="request" value="([^"]+)"/.exec(page.body)?.[1] ?? ''
    const forged = await fetch(`${op.issuer}/session/end/ask`, {
      method: 'POST',
      headers: { origin: 'https://evil.example', 'sec-fetch-site': 'cross-site' },
      body: new URLSearchParams({ request: sealed, answer: 'yes' }),
    })
    expect(forged.status).toBe(403)
    await expectSignedIn()
  })

  it('is not asked about another user than the hint’s, nor by another app [RPI-2-m] [T12]', async () => {
    for (const different of [{ sub: 'bob' }, { aud: 'mail' }, { sid: 'another' }]) {
      const id_token_hint = await signedByOp(op, { ...claimsOf(tokens.id_token), ...different })
      expect((await lost.open(logoutUrl(op, { id_token_hint }))).url).toBe(`${op.issuer}/session/end/signed-out`)
    }
    await expectSignedIn()
  })

  it('leaves who signs in meanwhile alone [RPI-6] [E12]', async () => {
    const page = await ask()
    await logIn(lost, op, notes, { login_hint: 'bob' })
    expect((await lost.submit(page, { answer: 'yes' })).status).toBe(400)
    expect(await isSignedIn(lost, op, notes)).toBe(true)
    await expectSignedIn()
  })

  it('a question that was asked with the cookie ends nothing without it [RPI-6] [E12]', async () => {
    const page = await browser.open(logoutUrl(op, { client_id: 'notes' }))
    const sealed = /name="request" value="([^"]+)"/.exec(page.body)?.[1] ?? ''
    const answer = await fetch(`${op.issuer}/session/end/ask`, {
      method: 'POST',
      headers: { origin: op.issuer },
      body: new URLSearchParams({ request: sealed, answer: 'yes' }),
    })
    expect(new URL(answer.url).pathname).toBe('/session/end/signed-out')
    await expectSignedIn()
  })
})

describe('the routes of the Logout Endpoint', () => {
  it.each([
    ['PUT', '/session/end', 'GET, HEAD, POST'],
    ['DELETE', '/session/end', 'GET, HEAD, POST'],
    ['PUT', '/session/end/ask', 'GET, HEAD, POST'],
    ['POST', '/session/end/signed-out', 'GET, HEAD'],
  ])('answer %s %s with 405 and what they take', async (method, path, allow) => {
    const response = await fetch(op.issuer + path, { method })
    expect(response.status).toBe(405)
    expect(response.headers.get('allow')).toBe(allow)
  })

  it('answer HEAD as they answer GET, without the page, and end nothing [T12] [RFC 9110 §9.3.2]', async () => {
    const cookie = browser.cookies(op.issuer).map(({ name, value }) => `${name}=${value}`)
    const headers = { cookie: cookie.join('; '), 'sec-fetch-dest': 'document', 'sec-fetch-mode': 'navigate' }
    const before = rps.log.length
    const head = (url: string) => request(url, { method: 'HEAD', headers })
    const hint = { id_token_hint: tokens.id_token, post_logout_redirect_uri: bye() }
    const { statusCode, headers: answer } = await head(logoutUrl(op, hint))
    expect(statusCode).toBe(303)
    expect(answer.location).toContain('/session/end/ask?request=')
    expect(answer['set-cookie']).toBeUndefined()
    for (const path of ['/session/end/ask?request=x', '/session/end/signed-out', '/session/check']) {
      const read = await fetch(op.issuer + path, { headers: { cookie: cookie.join('; ') }, redirect: 'manual' })
      const { statusCode, headers, body } = await head(op.issuer + path)
      expect(statusCode).toBe(read.status)
      expect(headers['content-type']).toBe(read.headers.get('content-type') ?? undefined)
      expect(await body.text()).toBe('')
    }
    expect(rps.log.slice(before)).toEqual([])
    await expectSignedIn()
  })

  it('answer an unknown one with 404', async () => {
    for (const path of ['/session/end/nothing', '/session/endless', '/session/endconstructor', '/session/end//']) {
      expect((await fetch(op.issuer + path)).status).toBe(404)
    }
  })

  it.each([
    '/session/end/',
    '/Session/End',
    '/SESSION/END/',
  ])('are reached by every path that oidc-provider’s router takes for them: %s [T12]', async (path) => {
    expectQuestion(await browser.open(op.issuer + path), op)
    expectErrorPage(await browser.open(`${op.issuer}${path}?client_id=nobody`), op)
  })

  it.each([
    '/session/end',
    '/session/end/ask',
  ])('answer a body over 64 kB at %s with 413 and nothing is lost', async (path) => {
    for (const size of [65_600, 5_000_000]) {
      const body = new URLSearchParams({ id_token_hint: 'x'.repeat(size) })
      const headers = { origin: op.issuer, 'sec-fetch-site': 'same-origin' }
      const response = await fetch(op.issuer + path, { method: 'POST', body, headers })
      expect(response.status).toBe(413)
      expect(await response.text()).toContain('Code: logout_request_too_large')
    }
    await expectSignedIn()
  })

  it('send pages that are never framed, cached or scripted, and say nothing of where they were [RPI-6] [T5] [T14] [T24]', async () => {
    const pages = [
      await browser.open(logoutUrl(op)),
      await browser.open(logoutUrl(op, { client_id: 'nobody' })),
      await browser.submit(await browser.open(logoutUrl(op)), { answer: 'no' }),
      await browser.open(`${op.issuer}/session/end/signed-out`),
    ]
    for (const page of pages) {
      const csp = page.header('content-security-policy') ?? ''
      expect(csp).toContain("frame-ancestors 'none'")
      expect(csp).toContain("default-src 'none'")
      expect(csp).not.toContain('unsafe-inline')
      expect(csp).toContain("require-trusted-types-for 'script'; trusted-types 'none'")
      expect(csp).toContain("base-uri 'none'")
      expect(page.header('referrer-policy')).toBe('same-origin') // with no-referrer a form says that it comes from nowhere
      expect(page.header('cache-control')).toBe('no-store')
      expect(page.header('x-content-type-options')).toBe('nosniff')
      expect(page.body).not.toContain('<script')
    }
  })

  it('never let a redirect be cached or its URL leak as a referrer [RPI-2-b]', async () => {
    const response = await fetch(logoutUrl(op, { id_token_hint: tokens.id_token }), { redirect: 'manual' })
    expect(response.status).toBe(303)
    expect(response.headers.get('cache-control')).toBe('no-store')
    expect(response.headers.get('referrer-policy')).toBe('no-referrer')
    expect(response.headers.get('location')).not.toContain('id_token_hint')
  })
})

describe('the pages after a logout, asked for by themselves', () => {
  it("never show oidc-provider's own, which loads a foreign font [T5]", async () => {
    const page = await createUserAgent().open(`${op.issuer}/session/end/success`)
    expect(page.body).not.toContain('googleapis')
    expect(page.header('content-security-policy')).toContain("frame-ancestors 'none'")
  })

  it('do not say that somebody is signed out who is signed in [RPI-2-p]', async () => {
    const page = await browser.open(`${op.issuer}/session/end/signed-out`)
    expect(page.body).toContain('You are still signed in')
    expect(page.body).not.toContain('You are signed out')
  })
})
