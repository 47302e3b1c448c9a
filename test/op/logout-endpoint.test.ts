import { exportJWK, generateKeyPair, importJWK, type JWTPayload, SignJWT, UnsecuredJWT } from 'jose'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { openSecrets } from '../../src/op.ts'
import { isSignedIn, logIn, logoutUrl, type Tokens } from '../support/op-flow.ts'
import { type RpSite, startRpSite } from '../support/rp-site.ts'
import { startTestOp, type TestOp } from '../support/test-op.ts'
import { createUserAgent, type Page, type UserAgent } from '../support/user-agent.ts'

let rps: RpSite
let op: TestOp
let browser: UserAgent
let notes: ReturnType<RpSite['client']>
let mail: ReturnType<RpSite['client']>
let tokens: Tokens

beforeAll(async () => {
  rps = await startRpSite()
  notes = rps.client('notes', {
    post_logout_redirect_uris: [`${rps.origin('notes')}/bye`, `${rps.origin('notes')}/bye?kept=yes`],
  })
  mail = rps.client('mail')
  op = await startTestOp({ clients: [notes, mail] })
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
const claimsOf = (jwt: string): JWTPayload => JSON.parse(Buffer.from(jwt.split('.')[1] ?? '', 'base64url').toString())

async function signedByOp(claims: JWTPayload, header: { alg?: string; typ?: string } = {}): Promise<string> {
  const { alg = 'RS256', typ } = header
  const { jwks } = await openSecrets(op.store, op.issuer)
  const key = jwks.keys.find((each) => each.alg === alg)
  if (!key) throw new Error(`the OP has no ${alg} key`)
  return new SignJWT(claims)
    .setProtectedHeader({
      alg,
      ...(key.kid === undefined ? {} : { kid: key.kid }),
      ...(typ === undefined ? {} : { typ }),
    })
    .sign(await importJWK(key, alg))
}

/** A page of an RP that posts a form to the Logout Endpoint, as our RP library's does. */
function rpForm(): Page {
  return {
    url: `${rps.origin('notes')}/auth/logout`,
    status: 200,
    body: `<form method="post" action="${op.issuer}/session/end"></form>`,
    header: () => undefined,
    trail: [],
  }
}

async function expectSignedIn(): Promise<void> {
  expect(await isSignedIn(browser, op, notes)).toBe(true)
  const userinfo = await fetch(`${op.issuer}/me`, { headers: { authorization: `Bearer ${tokens.access_token}` } })
  expect(userinfo.status).toBe(200)
}

async function expectSignedOut(): Promise<void> {
  expect(await isSignedIn(browser, op, notes)).toBe(false)
}

function expectQuestion(page: Page): void {
  expect(page.status).toBe(200)
  expect(page.url).toMatch(new RegExp(`^${op.issuer}/session/end/ask\\?request=`))
  expect(page.body).toContain('Sign out everywhere?')
}

function expectErrorPage(page: Page, status = 400): void {
  expect(page.status).toBe(status)
  expect(new URL(page.url).origin).toBe(op.issuer)
  expect(page.body).toContain('You were not signed out')
  expect(page.body).toContain('Sign out all the same')
}

describe('a logout request with a hint of this OP session', () => {
  it.each([
    ['GET', (params: Record<string, string>) => browser.open(logoutUrl(op, params))],
    ['POST', (params: Record<string, string>) => browser.submit(rpForm(), params)],
  ])('by %s logs out without a question and returns to the app [RPI-2-a] [RPI-2-p]', async (_method, send) => {
    const page = await send({ id_token_hint: tokens.id_token, post_logout_redirect_uri: bye(), state: 's 1' })
    expect(page.url).toBe(`${bye()}?state=s%201`)
    await expectSignedOut()
  })

  it('accepts a hint that has expired [RPI-2-l] [E2]', async () => {
    const long = Math.floor(Date.now() / 1000) - 86_400
    const hint = await signedByOp({ ...claimsOf(tokens.id_token), iat: long - 3600, exp: long })
    const page = await browser.open(logoutUrl(op, { id_token_hint: hint, post_logout_redirect_uri: bye() }))
    expect(page.url).toBe(bye())
    await expectSignedOut()
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
    const page = await browser.submit(rpForm(), {
      id_token_hint: tokens.id_token,
      post_logout_redirect_uri: bye(),
      state,
    })
    // a form turns lone line breaks into CR LF before it leaves the browser; URLSearchParams does not
    expect([...new URL(page.url).searchParams]).toEqual([['state', state]])
  })

  it.each(hostile)('after the question: %j [RPI-2-i]', async (state) => {
    const asked = await browser.open(logoutUrl(op, { client_id: 'notes', post_logout_redirect_uri: bye(), state }))
    expectQuestion(asked)
    const page = await browser.submit(asked, { answer: 'yes' })
    expect([...new URL(page.url).searchParams]).toEqual([['state', state]])
  })
})

describe('a hint that is not one', () => {
  it.each<[string, () => string | Promise<string>]>([
    ['not a JWT', () => 'hello'],
    ['not a JWT with dots', () => 'a.b.c'],
    ['unsigned', () => new UnsecuredJWT(claimsOf(tokens.id_token)).encode()],
    ['an ID Token whose signature was cut off', () => tokens.id_token.split('.').slice(0, 2).join('.')],
    [
      'an ID Token with another payload',
      () => {
        const [header, , signature] = tokens.id_token.split('.')
        const payload = Buffer.from(JSON.stringify({ ...claimsOf(tokens.id_token), sub: 'bob' })).toString('base64url')
        return `${header}.${payload}.${signature}`
      },
    ],
    [
      'signed by somebody else',
      async () => {
        const { privateKey } = await generateKeyPair('RS256')
        return new SignJWT(claimsOf(tokens.id_token)).setProtectedHeader({ alg: 'RS256' }).sign(privateKey)
      },
    ],
    [
      'signed by the client itself, as issuer',
      async () => {
        const secret = new TextEncoder().encode(notes.client_secret)
        return new SignJWT({ iss: 'notes', aud: 'notes', sub: 'ada' }).setProtectedHeader({ alg: 'HS256' }).sign(secret)
      },
    ],
    [
      'signed with the public key as a secret',
      async () => {
        const { jwks } = await openSecrets(op.store, op.issuer)
        const { n } = await exportJWK(await importJWK({ ...jwks.keys[0], d: undefined } as never, 'RS256'))
        return new SignJWT(claimsOf(tokens.id_token)).setProtectedHeader({ alg: 'HS256' }).sign(Buffer.from(n ?? ''))
      },
    ],
    ['of another algorithm than the client registered', () => signedByOp(claimsOf(tokens.id_token), { alg: 'ES256' })],
    ['of another issuer', () => signedByOp({ ...claimsOf(tokens.id_token), iss: 'https://other.example' })],
    ['of a client that does not exist', () => signedByOp({ ...claimsOf(tokens.id_token), aud: 'nobody' })],
    ['for nobody', () => signedByOp({ ...claimsOf(tokens.id_token), aud: [] })],
    ['for two without an azp', () => signedByOp({ ...claimsOf(tokens.id_token), aud: ['notes', 'mail'] })],
    ['typed as a Logout Token [T12]', () => signedByOp(claimsOf(tokens.id_token), { typ: 'logout+jwt' })],
    [
      'typed as application/logout+jwt [T12]',
      () => signedByOp(claimsOf(tokens.id_token), { typ: 'application/Logout+JWT' }),
    ],
    ['a token with events [T12]', () => signedByOp({ ...claimsOf(tokens.id_token), events: {} })],
  ])('but %s is refused, nothing is ended and nothing redirects [RPI-2-k] [RPI-4-c] [E1]', async (_what, forge) => {
    const before = rps.log.length
    const params = { id_token_hint: await forge(), post_logout_redirect_uri: bye(), state: 's' }
    expectErrorPage(await browser.open(logoutUrl(op, params)))
    expectErrorPage(await browser.submit(rpForm(), params))
    expect(rps.log.slice(before)).toEqual([])
    await expectSignedIn()
  })

  it('but a Logout Token that was really delivered is refused [T12]', async () => {
    await browser.open(logoutUrl(op, { id_token_hint: tokens.id_token }))
    const delivered = (await rps.received(1)).at(-1)?.token ?? ''
    await logIn(browser, op, notes)
    expectErrorPage(await browser.open(logoutUrl(op, { id_token_hint: delivered })))
    expect(await isSignedIn(browser, op, notes)).toBe(true)
  })

  it('is not shown or repeated on the page that refuses it [T24]', async () => {
    const page = await browser.open(logoutUrl(op, { id_token_hint: '<script>alert(1)</script>' }))
    expectErrorPage(page)
    expect(page.body).not.toContain('alert(1)')
    expect(page.body).not.toMatch(/node_modules|\.ts:\d+|\bat .+\(/)
  })
})

describe('a request that contradicts itself or the registration', () => {
  it.each<[string, () => Record<string, string>]>([
    ['client_id is not the client of the hint [RPI-2-e] [E4]', () => ({ client_id: 'mail' })],
    ['client_id does not exist [RPI-4-c]', () => ({ id_token_hint: '', client_id: 'nobody' })],
    [
      'the redirect URI is not registered [RPI-3-c] [E5]',
      () => ({ post_logout_redirect_uri: 'http://evil.localhost/' }),
    ],
    ['the redirect URI has a query more [RPI-3-c] [E5]', () => ({ post_logout_redirect_uri: `${bye()}?foo=bar` })],
    ['the redirect URI has a slash more [RPI-3-c] [E5]', () => ({ post_logout_redirect_uri: `${bye()}/` })],
    [
      'the redirect URI is spelled in capitals [RPI-3-c] [E5]',
      () => ({ post_logout_redirect_uri: bye().replace('notes', 'NOTES') }),
    ],
    [
      'the redirect URI is that of another client [RPI-3-c] [E5]',
      () => ({ post_logout_redirect_uri: `${rps.origin('mail')}/bye` }),
    ],
    ['the redirect URI is a script [RPI-3-c] [E5]', () => ({ post_logout_redirect_uri: 'javascript:alert(1)' })],
  ])('because %s is refused as a whole', async (_what, different) => {
    const before = rps.log.length
    const params = { id_token_hint: tokens.id_token, post_logout_redirect_uri: bye(), state: 's', ...different() }
    expectErrorPage(await browser.open(logoutUrl(op, params)))
    expectErrorPage(await browser.submit(rpForm(), params))
    expect(rps.log.slice(before)).toEqual([])
    await expectSignedIn()
  })

  it.each([
    'id_token_hint',
    'client_id',
    'post_logout_redirect_uri',
    'state',
    'ui_locales',
    'logout_hint',
  ])('because %s was sent twice is refused [RFC 6749 §3.1]', async (name) => {
    const url = logoutUrl(op, { id_token_hint: tokens.id_token, client_id: 'notes', post_logout_redirect_uri: bye() })
    expectErrorPage(await browser.open(`${url}&${name}=a&${name}=a`))
    await expectSignedIn()
  })

  it('still offers to log out, which then asks [RPI-4-d]', async () => {
    const refused = await browser.open(logoutUrl(op, { client_id: 'nobody' }))
    const asked = await browser.submit(refused)
    expectQuestion(asked)
    const page = await browser.submit(asked, { answer: 'yes' })
    expect(page.body).toContain('You are signed out')
    await expectSignedOut()
  })
})

describe('the End-User is asked, and nothing happens before the answer,', () => {
  it.each<[string, () => Record<string, string> | Promise<Record<string, string>>]>([
    ['when nothing was sent [E8]', () => ({})],
    ['when only a client names itself [E7]', () => ({ client_id: 'notes', post_logout_redirect_uri: bye() })],
    ['when there is only a redirect URI [E6]', () => ({ post_logout_redirect_uri: bye() })],
    [
      'when the hint has the sid of no session [E3]',
      async () => ({
        id_token_hint: await signedByOp({ ...claimsOf(tokens.id_token), sid: 'another' }),
      }),
    ],
    [
      'when the hint has no sid [T12]',
      async () => {
        const { sid: _sid, ...claims } = claimsOf(tokens.id_token)
        return { id_token_hint: await signedByOp(claims) }
      },
    ],
    [
      'when the hint is of another user with this sid [E3]',
      async () => ({
        id_token_hint: await signedByOp({ ...claimsOf(tokens.id_token), sub: 'bob' }),
      }),
    ],
    [
      'when the sid of the hint is that of another client [T12]',
      async () => ({
        id_token_hint: await signedByOp({ ...claimsOf(tokens.id_token), aud: 'mail' }),
      }),
    ],
  ])('%s [RPI-2-o]', async (_when, params) => {
    const before = rps.log.length
    expectQuestion(await browser.open(logoutUrl(op, await params())))
    expectQuestion(await browser.submit(rpForm(), await params()))
    expect(rps.log.slice(before)).toEqual([])
    await expectSignedIn()
  })

  it('when the hint is of the same user’s OP session in another browser [RPI-2-o] [T12]', async () => {
    const other = createUserAgent()
    const elsewhere = await logIn(other, op, notes)
    expectQuestion(await browser.open(logoutUrl(op, { id_token_hint: elsewhere.tokens.id_token })))
    await expectSignedIn()
    expect(await isSignedIn(other, op, notes)).toBe(true)
    await other.close()
  })

  it('when the hint is of an earlier OP session in this browser [RPI-2-o] [T12]', async () => {
    const old = tokens.id_token
    await browser.open(logoutUrl(op, { id_token_hint: old }))
    tokens = (await logIn(browser, op, notes)).tokens
    expectQuestion(await browser.open(logoutUrl(op, { id_token_hint: old })))
    await expectSignedIn()
  })

  it('when another user’s hint is slipped in [RPI-2-o] [T12]', async () => {
    const other = createUserAgent()
    const bob = await logIn(other, op, notes, { login_hint: 'bob' })
    expectQuestion(await browser.open(logoutUrl(op, { id_token_hint: bob.tokens.id_token })))
    await expectSignedIn()
    await other.close()
  })

  it.each([
    { 'sec-fetch-dest': 'image' },
    { 'sec-fetch-dest': 'iframe' },
    { 'sec-fetch-dest': 'empty' },
    { 'sec-fetch-dest': 'script' },
    { 'sec-purpose': 'prefetch' },
    { 'sec-purpose': 'prefetch;prerender' },
  ])('when it is no navigation of the user: %j [T12]', async (headers) => {
    const url = logoutUrl(op, { id_token_hint: tokens.id_token, post_logout_redirect_uri: bye() })
    expectQuestion(await browser.open(url, headers))
    await expectSignedIn()
  })

  it('when an app loads the Logout Endpoint in a frame [T12]', async () => {
    const url = logoutUrl(op, { id_token_hint: tokens.id_token, post_logout_redirect_uri: bye() })
    const page = await browser.frame(rps.origin('notes'), url)
    expect(page.header('content-security-policy')).toContain("frame-ancestors 'none'")
    await expectSignedIn()
  })
})

describe('a logout request without an OP session', () => {
  beforeEach(async () => {
    await browser.close()
    browser = createUserAgent()
  })

  it('is no error and returns to the app a valid hint vouches for [RPI-4-b] [E9]', async () => {
    const params = { id_token_hint: tokens.id_token, post_logout_redirect_uri: bye(), state: 's' }
    expect((await browser.open(logoutUrl(op, params))).url).toBe(`${bye()}?state=s`)
    expect((await browser.submit(rpForm(), params)).url).toBe(`${bye()}?state=s`)
  })

  it('without a hint ends at a page of the OP: nobody vouches for the redirect [RPI-3-b]', async () => {
    const before = rps.log.length
    for (const params of [
      {},
      { client_id: 'notes', post_logout_redirect_uri: bye() },
      { post_logout_redirect_uri: bye() },
    ]) {
      const page = await browser.open(logoutUrl(op, params as Record<string, string>))
      expect(page.url).toBe(`${op.issuer}/session/end/signed-out`)
      expect(page.body).toContain('You are signed out')
    }
    expect(rps.log.slice(before)).toEqual([])
  })

  it('is still refused when something is wrong with it [RPI-4-c]', async () => {
    const wrong = { id_token_hint: tokens.id_token, post_logout_redirect_uri: 'http://evil.localhost/' }
    expectErrorPage(await browser.open(logoutUrl(op, wrong)))
  })

  it('does not touch the OP session of another browser [RPI-4-b]', async () => {
    const other = createUserAgent()
    const elsewhere = await logIn(other, op, notes)
    await browser.open(logoutUrl(op, { id_token_hint: elsewhere.tokens.id_token, post_logout_redirect_uri: bye() }))
    expect(await isSignedIn(other, op, notes)).toBe(true)
    await other.close()
  })

  it('logs out twice as well as once [RPI-4-b]', async () => {
    const { tokens: mine } = await logIn(browser, op, notes)
    const url = logoutUrl(op, { id_token_hint: mine.id_token, post_logout_redirect_uri: bye() })
    expect((await browser.open(url)).url).toBe(bye())
    expect((await browser.open(url)).url).toBe(bye())
  })
})

describe('the routes of the Logout Endpoint', () => {
  it.each([
    ['PUT', '/session/end', 'GET, POST'],
    ['DELETE', '/session/end', 'GET, POST'],
    ['PUT', '/session/end/ask', 'GET, POST'],
    ['POST', '/session/end/signed-out', 'GET'],
  ])('answer %s %s with 405 and what they take', async (method, path, allow) => {
    const response = await fetch(op.issuer + path, { method })
    expect(response.status).toBe(405)
    expect(response.headers.get('allow')).toBe(allow)
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
    expectQuestion(await browser.open(op.issuer + path))
    expectErrorPage(await browser.open(`${op.issuer}${path}?client_id=nobody`))
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

  it('send pages that are never framed, cached or scripted [RPI-6] [T5]', async () => {
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
