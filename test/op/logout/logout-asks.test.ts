import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { expectQuestion, logoutForm, signedByOp } from '../../support/logout-pages.ts'
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
    post_logout_redirect_uris: [`${rps.origin('notes')}/bye`, `${rps.origin('notes')}/bye?kept=yes`],
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

describe('the End-User is asked, and nothing happens before the answer,', () => {
  it.each<[string, () => Record<string, string> | Promise<Record<string, string>>]>([
    ['when nothing was sent [E8]', () => ({})],
    ['when only a client names itself [E7]', () => ({ client_id: 'notes', post_logout_redirect_uri: bye() })],
    ['when there is only a redirect URI [E6]', () => ({ post_logout_redirect_uri: bye() })],
    [
      'when the hint has the sid of no session [E3]',
      async () => ({
        id_token_hint: await signedByOp(op, { ...claimsOf(tokens.id_token), sid: 'another' }),
      }),
    ],
    [
      'when the hint has no sid [T12]',
      async () => {
        const { sid: _sid, ...claims } = claimsOf(tokens.id_token)
        return { id_token_hint: await signedByOp(op, claims) }
      },
    ],
    [
      'when the hint is of another user with this sid [E3]',
      async () => ({
        id_token_hint: await signedByOp(op, { ...claimsOf(tokens.id_token), sub: 'bob' }),
      }),
    ],
    [
      'when the sid of the hint is that of another client [T12]',
      async () => ({
        id_token_hint: await signedByOp(op, { ...claimsOf(tokens.id_token), aud: 'mail' }),
      }),
    ],
  ])('%s [RPI-2-o]', async (_when, params) => {
    const before = rps.log.length
    expectQuestion(await browser.open(logoutUrl(op, await params())), op)
    expectQuestion(await browser.submit(logoutForm(rps.origin('notes'), op), await params()), op)
    expect(rps.log.slice(before)).toEqual([])
    await expectSignedIn()
  })

  it('when the hint is of the same user’s OP session in another browser [RPI-2-o] [T12]', async () => {
    const other = createUserAgent()
    const elsewhere = await logIn(other, op, notes)
    expectQuestion(await browser.open(logoutUrl(op, { id_token_hint: elsewhere.tokens.id_token })), op)
    await expectSignedIn()
    expect(await isSignedIn(other, op, notes)).toBe(true)
    await other.close()
  })

  it('when the hint is of an earlier OP session in this browser [RPI-2-o] [T12]', async () => {
    const old = tokens.id_token
    await browser.open(logoutUrl(op, { id_token_hint: old }))
    tokens = (await logIn(browser, op, notes)).tokens
    expectQuestion(await browser.open(logoutUrl(op, { id_token_hint: old })), op)
    await expectSignedIn()
  })

  it('when another user’s hint is slipped in [RPI-2-o] [T12]', async () => {
    const other = createUserAgent()
    const bob = await logIn(other, op, notes, { login_hint: 'bob' })
    expectQuestion(await browser.open(logoutUrl(op, { id_token_hint: bob.tokens.id_token })), op)
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
    expectQuestion(await browser.open(url, headers), op)
    await expectSignedIn()
  })

  it('when an app loads the Logout Endpoint in a frame [T12]', async () => {
    const url = logoutUrl(op, { id_token_hint: tokens.id_token, post_logout_redirect_uri: bye() })
    const page = await browser.frame(rps.origin('notes'), url)
    expect(page.header('content-security-policy')).toContain("frame-ancestors 'none'")
    await expectSignedIn()
  })
})
