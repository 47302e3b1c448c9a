import { IncomingMessage, ServerResponse } from 'node:http'
import { Socket } from 'node:net'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { dropRepeatedCookies } from '../../src/op/repeated-cookies.ts'
import { authorizationUrl, isSignedIn, logIn } from '../support/op-flow.ts'
import { type RpSite, startRpSite } from '../support/rp-site.ts'
import { startTestOp, type TestOp } from '../support/test-op.ts'
import { createUserAgent, type UserAgent } from '../support/user-agent.ts'

let rps: RpSite
let op: TestOp
let browser: UserAgent
let notes: ReturnType<RpSite['client']>

beforeEach(async () => {
  rps = await startRpSite()
  notes = rps.client('notes')
  op = await startTestOp({ clients: [notes] })
  browser = createUserAgent()
})
afterEach(async () => {
  await browser.close()
  await op.close()
  await rps.close()
})

/** The browser's Cookie header, with one more cookie that somebody planted. */
function cookieHeader(planted: string): string {
  const own = browser.cookies(op.issuer).map(({ name, value }) => `${name}=${value}`)
  return [...own, planted].join('; ')
}

const ask = (cookie: string) =>
  fetch(authorizationUrl(op, notes, { prompt: 'none' }), { headers: { cookie }, redirect: 'manual' })
const answerOf = (response: Response) => new URL(response.headers.get('location') ?? '').searchParams

it.each([
  '',
  '.sig',
])('an OP cookie that comes twice (%s) is not believed, whichever is the right one [T21]', async (suffix) => {
  await logIn(browser, op, notes)
  expect(answerOf(await ask(cookieHeader('a=b'))).get('code')).not.toBeNull()
  const refused = await ask(cookieHeader(`${op.provider.cookieName('session')}${suffix}=planted`))
  expect(answerOf(refused).get('error')).toBe('login_required')
})

it('both are taken away from the browser, wherever they may be, so that the next sign-in works [T21]', async () => {
  await logIn(browser, op, notes)
  const name = op.provider.cookieName('session')
  const refused = await ask(cookieHeader(`${name}=planted`))
  const deleted = refused.headers.getSetCookie().filter((line) => line.includes('Max-Age=0'))
  for (const each of [name, `${name}.sig`]) {
    expect(deleted).toContainEqual(expect.stringContaining(`${each}=; Path=/;`))
  }
  for (const line of refused.headers.getSetCookie()) browser.setCookie(op.issuer, line)
  expect(await isSignedIn(browser, op, notes)).toBe(false)
  await logIn(browser, op, notes)
  expect(await isSignedIn(browser, op, notes)).toBe(true)
})

/** What a request with a cookie twice is told to delete, by a server that browsers know under `host`. */
function deletedAt(host: string, url: string, names: readonly string[]): string[] {
  const request = Object.assign(new IncomingMessage(new Socket()), { url })
  Object.assign(request.headers, { host, cookie: names.map((name) => `${name}=a; ${name}=b`).join('; ') })
  const response = new ServerResponse(request)
  dropRepeatedCookies(request, response, new Set(names))
  return [response.getHeader('set-cookie') ?? []].flat().map(String)
}

it('one that was planted for the whole domain is deleted there too [T21]', () => {
  const name = op.provider.cookieName('interaction')
  expect(name).toMatch(/^__Secure-op_interaction\./)
  const lines = deletedAt('login.example.com', '/session/end', [name])
  for (const domain of ['', '; Domain=example.com', '; Domain=login.example.com']) {
    for (const path of ['/', '/session', '/session/end']) {
      expect(lines).toContainEqual(expect.stringContaining(`${name}=; Path=${path}${domain}; Max-Age=0`))
    }
  }
})

it('however long the path and the host, what is answered stays small [T21]', () => {
  const names = ['interaction', 'resume'].map((kind) => `__Secure-op_${kind}`)
  for (const path of [
    `/${'a'.repeat(13_000)}/b/c/d/e`,
    `/b/c/d/e/${'a'.repeat(13_000)}`,
    `/${'a/'.repeat(200)}`,
    `/${'a/b/c/d/'.repeat(12)}`,
  ]) {
    const lines = deletedAt('a.b.c.d.e.f.g.example.com', path, names)
    expect(lines.length).toBeLessThanOrEqual(48)
    expect(lines.join('').length).toBeLessThan(10_000)
    for (const name of names) expect(lines).toContainEqual(expect.stringContaining(`${name}=; Path=/; Max-Age=0`))
  }
})

it('cookies of others may come twice', async () => {
  await logIn(browser, op, notes)
  expect(answerOf(await ask(cookieHeader('theme=dark; theme=light'))).get('code')).not.toBeNull()
})
