import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { authorizationUrl, isSignedIn, logIn, logoutUrl } from '../support/op-flow.ts'
import { type RpSite, startRpSite } from '../support/rp-site.ts'
import { startTestOp, type TestOp } from '../support/test-op.ts'
import { createUserAgent, type Page, type UserAgent } from '../support/user-agent.ts'

/* The OP cookie as Lax: no POST of another site carries it, nor does anything in a frame there (T5). */

let rps: RpSite
let op: TestOp
let browser: UserAgent

beforeEach(async () => {
  rps = await startRpSite()
  browser = createUserAgent()
  const framed = { backchannel_logout_uri: undefined, frontchannel_logout_uri: `${rps.origin('board')}/front` }
  op = await startTestOp({
    clients: [rps.client('notes'), rps.client('mail'), rps.client('board', framed)],
    configuration: { cookies: { keys: ['a key'], long: { sameSite: 'lax' } } },
  })
})
afterEach(async () => {
  await browser.close()
  await op.close()
  await rps.close()
})

const opCookie = () => browser.cookies(op.issuer).find(({ name }) => name === op.provider.cookieName('session'))

/** A page of an app on another site, with a form that goes to the OP. */
function formOf(action: string, fields: Readonly<Record<string, string>>): Page {
  const inputs = Object.entries(fields).map(([name, value]) => `<input type="hidden" name="${name}" value="${value}">`)
  const body = `<form method="post" action="${action}">${inputs.join('')}</form>`
  return { url: 'https://app.example/', status: 200, body, header: () => undefined, trail: [] }
}

describe('with an OP cookie that is Lax', () => {
  it('a login sets it so, and the next app is signed in by it [T5]', async () => {
    await logIn(browser, op, rps.client('notes'))
    expect(opCookie()).toMatchObject({ sameSite: 'lax', httpOnly: true })
    expect(await isSignedIn(browser, op, rps.client('mail'))).toBe(true)
  })

  it('the POST by which an app of another site signs a user out ends the OP session, without a question [T5] [RPI-2-a]', async () => {
    const { tokens } = await logIn(browser, op, rps.client('notes'))
    await logIn(browser, op, rps.client('mail'))
    await logIn(browser, op, rps.client('board'))
    const bye = `${rps.origin('notes')}/bye`
    const leaving = formOf(logoutUrl(op), { id_token_hint: tokens.id_token, post_logout_redirect_uri: bye })
    const page = await browser.submit(leaving)
    expect(new URL(page.url).pathname).toBe('/session/end/apps') // the app that is told in a frame is shown there
    expect((await rps.received(2)).map(({ app }) => app).sort()).toEqual(['mail', 'notes'])
    expect((await op.provider.opSessions.list('everyone')).sessions).toEqual([])
    expect(opCookie()).toBeUndefined()
  })

  it('an authorization request by POST is not served, so none signs anybody in by the cookie [T5]', async () => {
    await logIn(browser, op, rps.client('notes'))
    const page = await browser.submit(formOf(authorizationUrl(op, rps.client('notes'), { prompt: 'none' }), {}))
    expect(page.url.startsWith(op.issuer)).toBe(true)
    expect(page.status).toBe(404)
  })

  it('a silent check in a frame of another site says login_required, at the top level it works [T5]', async () => {
    await logIn(browser, op, rps.client('notes'))
    const url = authorizationUrl(op, rps.client('notes'), { prompt: 'none' })
    const framed = await browser.frame('https://app.example', url)
    expect(new URL(framed.url).searchParams.get('error')).toBe('login_required')
    expect(new URL((await browser.open(url)).url).searchParams.get('code')).toMatch(/./)
  })
})
