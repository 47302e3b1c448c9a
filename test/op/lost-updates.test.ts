import type { Configuration } from 'oidc-provider'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { authorizationUrl, logIn } from '../support/op-flow.ts'
import { type RpSite, startRpSite } from '../support/rp-site.ts'
import { grantWhatIsAsked, type Interact, startTestOp, type TestOp } from '../support/test-op.ts'
import { createUserAgent, type UserAgent } from '../support/user-agent.ts'

/* A tab's request that was under way takes nothing back of what another tab did meanwhile. */

let rps: RpSite
let op: TestOp
let browser: UserAgent
let isStrong = false
/** Holds the requests whose `state` is "slow" where the OP session was read and not saved yet. */
let held: { arrived: Promise<void>; open(): void }

beforeEach(async () => {
  isStrong = false
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
  const interact: Interact = ({ prompt, params: { login_hint: hint } }) => {
    if (prompt.name !== 'login') return { consent: {} }
    return { login: { accountId: hint === 'bob' ? 'bob' : 'ada', ...(isStrong && { acr: 'strong', amr: ['mfa'] }) } }
  }
  rps = await startRpSite()
  browser = createUserAgent()
  op = await startTestOp({
    clients: [rps.client('notes'), rps.client('mail')],
    interact,
    configuration: { acrValues: ['strong'], loadExistingGrant },
  })
})
afterEach(async () => {
  await browser.close()
  await op.close()
  await rps.close()
})

const jar = (url: string): string =>
  browser
    .cookies(url)
    .map(({ name, value }) => `${name}=${value}`)
    .join('; ')

/** One step of the browser, its cookies with it. */
async function step(url: string, init: RequestInit = {}): Promise<Response> {
  const headers = { cookie: jar(url), 'sec-fetch-dest': 'document', ...(init.headers as Record<string, string>) }
  const answer = await fetch(url, { redirect: 'manual', ...init, headers })
  for (const line of answer.headers.getSetCookie()) browser.setCookie(url, line)
  return answer
}

const next = (answer: Response): string => new URL(answer.headers.get('location') ?? '', op.issuer).href

async function howLoggedIn(): Promise<unknown> {
  const [session] = (await op.provider.opSessions.list({ accountId: 'ada' })).sessions
  const found = session && (await op.provider.Session.findByUid(session.uid))
  return { acr: found?.acr, amr: found?.amr }
}

const strong = { acr: 'strong', amr: ['mfa'] }

it('a step-up outlives another tab’s login that began before it', async () => {
  await logIn(browser, op, rps.client('notes'))
  const slow = step(authorizationUrl(op, rps.client('mail'), { state: 'slow' }))
  await held.arrived
  isStrong = true
  await logIn(browser, op, rps.client('notes'), { prompt: 'login' })
  held.open()
  expect(new URL(next(await slow)).searchParams.get('code')).toMatch(/./)
  expect(await howLoggedIn()).toEqual(strong)
})

it('a user switch goes on when another tab saves the OP session between its two steps', async () => {
  await logIn(browser, op, rps.client('notes'))
  const slow = step(authorizationUrl(op, rps.client('mail'), { state: 'slow' }))
  await held.arrived
  const interaction = await step(authorizationUrl(op, rps.client('notes'), { prompt: 'login', login_hint: 'bob' }))
  const form = await (await step(next(await step(next(interaction))))).text()
  const xsrf = /name="xsrf" value="([^"]+)"/.exec(form)?.[1] ?? ''
  held.open()
  await slow
  const headers = { 'content-type': 'application/x-www-form-urlencoded' }
  const body = `xsrf=${xsrf}&logout=yes`
  const switched = await step(`${op.issuer}/session/end/confirm`, { method: 'POST', headers, body })
  expect([xsrf === '', switched.status]).toEqual([false, 303])
  expect((await op.provider.opSessions.list({ accountId: 'ada' })).sessions).toEqual([])
})
