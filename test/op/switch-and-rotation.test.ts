import type { Configuration } from 'oidc-provider'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { authorizationUrl, authorize, isSignedIn, logIn } from '../support/op-flow.ts'
import { type RpSite, startRpSite } from '../support/rp-site.ts'
import { grantWhatIsAsked, startTestOp, type TestOp } from '../support/test-op.ts'
import { createUserAgent, type UserAgent } from '../support/user-agent.ts'

/*
 * A user switch takes two requests: oidc-provider's page posts to where the old OP session ends. In between another tab may
 * get the OP session a new cookie, by a step-up.
 */

let rps: RpSite
let op: TestOp
let browser: UserAgent
/** Holds the requests whose `state` is "slow" where the OP session was read and not saved yet. */
let held: { arrived: Promise<void>; open(): void }

beforeEach(async () => {
  const [arrival, opening] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  held = { arrived: arrival.promise, open: opening.resolve }
  const loadExistingGrant: Configuration['loadExistingGrant'] = async (ctx) => {
    if (ctx.oidc.params?.state === 'slow' && ctx.oidc.route === 'resume') {
      arrival.resolve()
      await opening.promise
    }
    return grantWhatIsAsked(ctx)
  }
  rps = await startRpSite()
  browser = createUserAgent()
  op = await startTestOp({ clients: [rps.client('notes'), rps.client('mail')], configuration: { loadExistingGrant } })
  await logIn(browser, op, rps.client('notes'))
})
afterEach(async () => {
  await browser.close()
  await op.close()
  await rps.close()
})

/** Follows redirects as the browser does, up to a page that waits for its form to be sent; answers what the form sends, and where. */
async function upToTheForm(): Promise<{ action: string; body: URLSearchParams }> {
  let url = authorizationUrl(op, rps.client('notes'), { login_hint: 'bob', prompt: 'login' })
  for (;;) {
    const cookie = browser.cookies(url).map(({ name, value }) => `${name}=${value}`)
    const answer = await fetch(url, { redirect: 'manual', headers: { cookie: cookie.join('; ') } })
    for (const line of answer.headers.getSetCookie()) browser.setCookie(url, line)
    const location = answer.headers.get('location')
    if (location !== null) {
      url = new URL(location, url).href
      continue
    }
    const page = await answer.text()
    const [, action = ''] = /<form method="post" action="([^"]*)"/.exec(page) ?? []
    const fields = [...page.matchAll(/<input type="hidden" name="([^"]*)" value="([^"]*)"/g)]
    return { action, body: new URLSearchParams(fields.map(([, name = '', value = '']) => [name, value])) }
  }
}

/** The browser sends the form, and follows where that leads. */
async function send({ action, body }: { action: string; body: URLSearchParams }): Promise<string> {
  const cookie = browser.cookies(action).map(({ name, value }) => `${name}=${value}`)
  const headers = { cookie: cookie.join('; '), origin: op.issuer }
  const answer = await fetch(action, { method: 'POST', redirect: 'manual', headers, body })
  for (const line of answer.headers.getSetCookie()) browser.setCookie(action, line)
  const location = answer.headers.get('location')
  if (location === null) return `${answer.status} ${await answer.text()}`
  return (await browser.open(new URL(location, action).href)).url
}

const left = async (accountId: string) => (await op.provider.opSessions.list({ accountId })).sessions.length

describe('a user switch goes on, and ends what it is about', () => {
  it('when another tab got a new cookie before the page was sent [SM-3.2-g]', async () => {
    const form = await upToTheForm()
    await authorize(browser, op, rps.client('mail'), { prompt: 'login' })
    expect(new URL(await send(form)).searchParams.get('code')).toMatch(/./)
    expect([await left('ada'), await left('bob')]).toEqual([0, 1])
    expect(await isSignedIn(browser, op, rps.client('notes'))).toBe(true)
  })

  it('when that tab had read the OP session before the switch began [SM-3.2-g]', async () => {
    const stepUp = authorize(browser, op, rps.client('mail'), { prompt: 'login', state: 'slow' })
    await held.arrived
    const form = await upToTheForm()
    held.open()
    await stepUp
    expect(new URL(await send(form)).searchParams.get('code')).toMatch(/./)
    expect([await left('ada'), await left('bob')]).toEqual([0, 1])
    expect(await isSignedIn(browser, op, rps.client('notes'))).toBe(true)
  })
})

it('a user switch that was posted without its page ends nothing', async () => {
  const form = await upToTheForm()
  for (const xsrf of ['', 'guessed']) {
    expect(await send({ ...form, body: new URLSearchParams({ xsrf, logout: 'yes' }) })).toMatch(/^400 /)
  }
  expect(await left('ada')).toBe(1)
})

it('a user switch that was begun and left alone sets nothing in the answer to a silent check [SM-3.2-h]', async () => {
  await upToTheForm()
  const cookie = browser.cookies(op.issuer).map(({ name, value }) => `${name}=${value}`)
  expect(cookie.join()).toContain('__Host-op_switch.')
  const url = authorizationUrl(op, rps.client('notes'), { prompt: 'none', response_mode: 'form_post' })
  const answer = await fetch(url, { headers: { cookie: cookie.join('; '), 'sec-fetch-dest': 'iframe' } })
  expect(await answer.text()).toContain('name="code"')
  expect(answer.headers.getSetCookie()).toEqual([])
})
