import { createPublicKey, type JsonWebKey } from 'node:crypto'
import { exportJWK, generateKeyPair, importJWK, SignJWT, UnsecuredJWT } from 'jose'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { openSecrets } from '../../../src/op.ts'
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

async function expectSignedOut(): Promise<void> {
  expect(await isSignedIn(browser, op, notes)).toBe(false)
}

describe('a hint that is not one', () => {
  it.each<[string, () => string | Promise<string>]>([
    ['not a JWT', () => 'hello'],
    ['not a JWT with dots', () => 'a.b.c'],
    [
      'with a typ that is no text',
      () =>
        `${[{ alg: 'RS256', typ: 5 }, { aud: 'notes' }].map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.')}.AAAA`,
    ],
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
    [
      'signed with the public key, as it stands in a PEM file, as a secret',
      async () => {
        const { jwks } = await openSecrets(op.store, op.issuer)
        const key = createPublicKey({ key: jwks.keys[0] as JsonWebKey, format: 'jwk' })
        const pem = key.export({ type: 'spki', format: 'pem' })
        return new SignJWT(claimsOf(tokens.id_token)).setProtectedHeader({ alg: 'HS256' }).sign(Buffer.from(pem))
      },
    ],
    [
      'of another algorithm than the client registered',
      () => signedByOp(op, claimsOf(tokens.id_token), { alg: 'ES256' }),
    ],
    ['of another issuer', () => signedByOp(op, { ...claimsOf(tokens.id_token), iss: 'https://other.example' })],
    ['of a client that does not exist', () => signedByOp(op, { ...claimsOf(tokens.id_token), aud: 'nobody' })],
    ['for nobody', () => signedByOp(op, { ...claimsOf(tokens.id_token), aud: [] })],
    ['for two without an azp', () => signedByOp(op, { ...claimsOf(tokens.id_token), aud: ['notes', 'mail'] })],
    ['typed as a Logout Token [T12]', () => signedByOp(op, claimsOf(tokens.id_token), { typ: 'logout+jwt' })],
    [
      'typed as application/logout+jwt [T12]',
      () => signedByOp(op, claimsOf(tokens.id_token), { typ: 'application/Logout+JWT' }),
    ],
    ['a token with events [T12]', () => signedByOp(op, { ...claimsOf(tokens.id_token), events: {} })],
  ])('but %s is refused, nothing is ended and nothing redirects [RPI-2-k] [RPI-4-c] [E1]', async (_what, forge) => {
    const before = rps.log.length
    const params = { id_token_hint: await forge(), post_logout_redirect_uri: bye(), state: 's' }
    expectErrorPage(await browser.open(logoutUrl(op, params)), op)
    expectErrorPage(await browser.submit(logoutForm(rps.origin('notes'), op), params), op)
    expect(rps.log.slice(before)).toEqual([])
    await expectSignedIn()
  })

  it('but a Logout Token that was really delivered is refused [T12] [A41]', async () => {
    await browser.open(logoutUrl(op, { id_token_hint: tokens.id_token }))
    const delivered = (await rps.received(1)).at(-1)?.token ?? ''
    await logIn(browser, op, notes)
    expectErrorPage(await browser.open(logoutUrl(op, { id_token_hint: delivered })), op)
    expect(await isSignedIn(browser, op, notes)).toBe(true)
  })

  it('is not shown or repeated on the page that refuses it [T24]', async () => {
    const page = await browser.open(logoutUrl(op, { id_token_hint: '<script>alert(1)</script>' }))
    expectErrorPage(page, op)
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
    expectErrorPage(await browser.open(logoutUrl(op, params)), op)
    expectErrorPage(await browser.submit(logoutForm(rps.origin('notes'), op), params), op)
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
    expectErrorPage(await browser.open(`${url}&${name}=a&${name}=a`), op)
    await expectSignedIn()
  })

  it('still offers to log out, which then asks [RPI-4-d]', async () => {
    const refused = await browser.open(logoutUrl(op, { client_id: 'nobody' }))
    const asked = await browser.submit(refused)
    expectQuestion(asked, op)
    const page = await browser.submit(asked, { answer: 'yes' })
    expect(page.body).toContain('You are signed out')
    await expectSignedOut()
  })
})

describe('a state that would make a URL too long', () => {
  const url = (state: string): string => logoutUrl(op, { client_id: 'notes', post_logout_redirect_uri: bye(), state })

  it.each(['x'.repeat(4097), 'ü'.repeat(683)])('is refused, and nobody is signed out', async (state) => {
    const page = await browser.open(url(state))
    expectErrorPage(page, op)
    expect(page.body).toContain('longer than 4096 bytes')
    await expectSignedIn()
  })

  it('is taken up to the limit, and comes back byte for byte', async () => {
    const state = 'x'.repeat(4096)
    const page = await browser.submit(await browser.open(url(state)), { answer: 'yes' })
    expect(new URL(page.url).searchParams.get('state')).toBe(state)
  })
})
