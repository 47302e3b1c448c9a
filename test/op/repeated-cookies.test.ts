import { afterEach, beforeEach, expect, it } from 'vitest'
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

it('one that was planted for the whole domain is deleted there too [T21]', async () => {
  const { provider } = op
  const name = provider.cookieName('interaction')
  const response = await fetch(`${op.issuer}/session/end`, { headers: { cookie: `${name}=a; ${name}=b` } })
  expect(response.headers.getSetCookie()).toContainEqual(expect.stringContaining(`${name}=; Path=/session/end;`))
  expect(name).toMatch(/^__Secure-op_interaction\./)
})

it('cookies of others may come twice', async () => {
  await logIn(browser, op, notes)
  expect(answerOf(await ask(cookieHeader('theme=dark; theme=light'))).get('code')).not.toBeNull()
})
