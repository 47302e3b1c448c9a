import type { Configuration } from 'oidc-provider'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { authorizationUrl, authorize, isSignedIn, logIn, logoutUrl } from '../support/op-flow.ts'
import { type RpSite, startRpSite } from '../support/rp-site.ts'
import { grantWhatIsAsked, startTestOp, type TestOp } from '../support/test-op.ts'
import { createUserAgent, type UserAgent } from '../support/user-agent.ts'

/*
 * A step-up gives the OP session a new cookie while another tab has a request under way with the old one. Whatever that
 * request is answered, and whenever the answer arrives, the browser keeps the new one.
 */

let rps: RpSite
let op: TestOp
let browser: UserAgent
/** Holds the requests whose `state` is "slow" where the OP session was read and not saved yet. */
let held: { arrived: Promise<void>; open(): void }

beforeEach(async () => {
  let arrive = () => {}
  let open = () => {}
  const opening = new Promise<void>((resolve) => {
    open = resolve
  })
  held = { arrived: new Promise<void>((resolve) => (arrive = resolve)), open }
  const loadExistingGrant: Configuration['loadExistingGrant'] = async (ctx) => {
    if (ctx.oidc.params?.state === 'slow') {
      arrive()
      await opening
    }
    return grantWhatIsAsked(ctx)
  }
  rps = await startRpSite()
  browser = createUserAgent()
  op = await startTestOp({ clients: [rps.client('notes'), rps.client('mail')], configuration: { loadExistingGrant } })
})
afterEach(async () => {
  await browser.close()
  await op.close()
  await rps.close()
})

const jar = (): string =>
  browser
    .cookies(op.issuer)
    .map(({ name, value }) => `${name}=${value}`)
    .join('; ')

/** Sends a request with cookies of its own time; the browser takes what the answer sets. */
async function askWith(
  cookie: string,
  params: Readonly<Record<string, string>>,
  headers: Readonly<Record<string, string>> = {},
): Promise<{ at: URL; cookies: string[] }> {
  const answer = await fetch(authorizationUrl(op, rps.client('notes'), params), {
    headers: { cookie, ...headers },
    redirect: 'manual',
  })
  const lines = answer.headers.getSetCookie()
  for (const line of lines) browser.setCookie(op.issuer, line)
  return { at: new URL(answer.headers.get('location') ?? '', op.issuer), cookies: lines }
}

const sessionCookies = (lines: readonly string[]): string[] =>
  lines.filter((line) => line.startsWith(op.provider.cookieName('session')))

describe('a request with the OP cookie of before a step-up', () => {
  it.each([
    ['in a frame', { 'sec-fetch-dest': 'iframe', 'sec-fetch-site': 'same-site' }],
    ['at the top level', { 'sec-fetch-dest': 'document' }],
  ])('is asked to come again when it is a silent check %s, and takes nothing from the browser [design §4]', async (_where, headers) => {
    await logIn(browser, op, rps.client('notes'))
    const before = jar()
    await authorize(browser, op, rps.client('mail'), { prompt: 'login' })
    expect(jar()).not.toBe(before)

    const { at, cookies } = await askWith(before, { prompt: 'none' }, headers)
    expect(at.searchParams.get('error')).toBe('temporarily_unavailable')
    expect(cookies).toEqual([])
    expect(await isSignedIn(browser, op, rps.client('notes'))).toBe(true)
  })

  it('is answered when it read the OP session in time, and does not bring the old cookie back [design §4]', async () => {
    await logIn(browser, op, rps.client('notes'))
    const slow = askWith(jar(), { prompt: 'none', state: 'slow' }, { 'sec-fetch-dest': 'iframe' })
    await held.arrived
    await authorize(browser, op, rps.client('mail'), { prompt: 'login' })
    held.open()

    const { at, cookies } = await slow
    expect(at.searchParams.has('code')).toBe(true)
    expect(sessionCookies(cookies)).toEqual([])
    expect(await isSignedIn(browser, op, rps.client('notes'))).toBe(true)
  })

  it('may be a login of another tab, which then asks once, and takes nothing from the browser either [design §4]', async () => {
    await logIn(browser, op, rps.client('notes'))
    const before = jar()
    await authorize(browser, op, rps.client('mail'), { prompt: 'login' })

    const { at, cookies } = await askWith(before, {}, { 'sec-fetch-dest': 'document' })
    expect(at.pathname).toMatch(/^\/interaction\//)
    expect(sessionCookies(cookies)).toEqual([])
    expect(cookies.filter((line) => line.startsWith('__Host-op_state'))).toEqual([])
    expect(await isSignedIn(browser, op, rps.client('notes'))).toBe(true)
  })

  it('leaves a logout whole: it ends the OP session and tells the other RP [RPI-2-a]', async () => {
    const { tokens } = await logIn(browser, op, rps.client('notes'))
    const before = jar()
    await logIn(browser, op, rps.client('mail'), { prompt: 'login' })
    await askWith(before, { prompt: 'none' }, { 'sec-fetch-dest': 'iframe' })

    const bye = `${rps.origin('notes')}/bye`
    await browser.open(logoutUrl(op, { id_token_hint: tokens.id_token, post_logout_redirect_uri: bye }))
    expect((await op.provider.opSessions.list({ accountId: 'ada' })).sessions).toEqual([])
    const { deliveries } = await op.provider.deliveries.list()
    expect(deliveries.map(({ clientId }) => clientId)).toContain('mail')
  })
})

describe('a logout with the OP cookie of before a step-up', () => {
  /** As an older Lockstep left it: without the cookie of the login. */
  const withoutLogin = (cookies: string): string =>
    cookies
      .split('; ')
      .filter((cookie) => !cookie.startsWith('__Host-op_login.'))
      .join('; ')
  const left = async () => (await op.provider.opSessions.list({ accountId: 'ada' })).sessions

  it.each([
    ['with the cookie of the login', (cookies: string) => cookies],
    ['and nothing else', withoutLogin],
  ])('%s ends the OP session, by a hint [RPI-2-a]', async (_with, sent) => {
    const { tokens } = await logIn(browser, op, rps.client('notes'))
    const before = sent(jar())
    await logIn(browser, op, rps.client('mail'), { prompt: 'login' })
    const bye = `${rps.origin('notes')}/bye`
    const headers = { cookie: before, 'sec-fetch-dest': 'document' }
    const url = logoutUrl(op, { id_token_hint: tokens.id_token, post_logout_redirect_uri: bye })
    const answer = await fetch(url, { headers, redirect: 'manual' })
    expect(answer.status).toBe(303)
    expect(answer.headers.get('location')).not.toContain('/ask')
    expect(await left()).toEqual([])
    expect((await rps.received(2)).map(({ app }) => app).sort()).toEqual(['mail', 'notes'])
  })

  it.each([
    ['with the cookie of the login', (cookies: string) => cookies],
    ['and nothing else', withoutLogin],
  ])('%s ends the OP session, by the answer "yes"', async (_with, sent) => {
    await logIn(browser, op, rps.client('notes'))
    const question = await browser.open(logoutUrl(op))
    const before = sent(jar())
    await logIn(browser, op, rps.client('mail'), { prompt: 'login' })
    const request = new URL(question.url).searchParams.get('request') ?? ''
    await fetch(`${op.issuer}/session/end/ask`, {
      method: 'POST',
      redirect: 'manual',
      headers: { cookie: before, origin: op.issuer },
      body: new URLSearchParams({ request, answer: 'yes' }),
    })
    expect(await left()).toEqual([])
  })
})

it('a silent check sets no OP cookie, whoever asks [T11]', async () => {
  expect((await askWith('', { prompt: 'none' })).cookies.filter((line) => line.includes('op_session'))).toEqual([])
  await logIn(browser, op, rps.client('notes'))
  expect(sessionCookies((await askWith(jar(), { prompt: 'none' })).cookies)).toEqual([])
})
