import { createHash } from 'node:crypto'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Page as Tab } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type Chromium, launchChromium } from '../../e2e/support/chromium.ts'
import { type RpSite, startRpSite } from '../../test/support/rp-site.ts'
import { createUserAgent, type UserAgent } from '../../test/support/user-agent.ts'
import { expectDiscovery } from './assertions.ts'
import { type App, authorize, confirmed, logIn, logoutUrl, silently } from './relying-party.ts'
import { type OpUnderTest, startOp } from './server-program.ts'

let rps: RpSite
let op: OpUnderTest
let browser: UserAgent
let notes: App
let mail: App

beforeAll(async () => {
  rps = await startRpSite()
  notes = rps.client('notes')
  mail = rps.client('mail')
  op = await startOp([notes, mail])
})
afterAll(async () => {
  await op.close()
  await rps.close()
})
beforeEach(() => {
  browser = createUserAgent()
})
afterEach(() => browser.close())

const stateCookie = () => {
  const found = browser.cookies(op.metadata.check_session_iframe).filter(({ httpOnly }) => !httpOnly)
  expect(found).toHaveLength(1)
  return found[0]
}

describe('oidcc-session-management-certification-test-plan', () => {
  it('discovery [oidcc-session-management-discovery-endpoint-verification] [SM-3.3-a]', async () => {
    await expectDiscovery(op)
    const url = new URL(op.metadata.check_session_iframe)
    expect(url.protocol).toBe('https:')
    expect(url.origin).toBe(new URL(op.metadata.issuer).origin) // the suite compares with the issuer's origin
  })
})

describe('session_state', () => {
  it('is in a successful response and can be computed from the browser state [SM-2-a] [SM-2-c] [SM-2-e] [SM-3.2-c]', async () => {
    const { sessionState, page } = await authorize(browser, op, notes)
    expect(sessionState).not.toContain(' ')
    const [hash, salt] = sessionState.split('.')
    const input = `notes ${new URL(page.url).origin} ${stateCookie()?.value} ${salt}`
    expect(createHash('sha256').update(input).digest('base64url')).toBe(hash)
  })

  it('is in error responses too, and never the same [SM-2-b] [SM-3.2-i]', async () => {
    const values = [await silently(browser, op, notes), await silently(browser, op, notes)].map((params) =>
      params.get('session_state'),
    )
    expect(values).not.toContain(null)
    expect(new Set(values).size).toBe(2)
  })

  it('is in a form_post response [SM-2-a]', async () => {
    await authorize(browser, op, notes)
    const before = rps.forms.length
    await browser.open(
      `${op.metadata.authorization_endpoint}?${new URLSearchParams({ client_id: 'notes', response_type: 'code', response_mode: 'form_post', prompt: 'none', scope: 'openid', redirect_uri: notes.redirect_uris?.[0] ?? '' })}`,
    )
    expect(rps.forms.slice(before).map((form) => form.has('session_state'))).toEqual([true])
  })

  it('is another for each client, and many are valid at once [SM-3.2-k]', async () => {
    const states = [
      await authorize(browser, op, notes),
      await authorize(browser, op, mail),
      await authorize(browser, op, notes),
    ]
    expect(new Set(states.map(({ sessionState }) => sessionState)).size).toBe(3)
  })
})

describe('the browser state', () => {
  it('changes with a login, a user switch and a logout, and with nothing else [SM-3.2-g] [SM-3.2-h] [SM-3.2-j]', async () => {
    await silently(browser, op, notes)
    const anonymous = stateCookie()?.value
    await silently(browser, op, notes)
    expect(stateCookie()?.value).toBe(anonymous)
    await logIn(browser, op, notes)
    const ada = stateCookie()?.value
    await silently(browser, op, notes)
    await logIn(browser, op, mail)
    await browser.frame(rps.origin('notes'), op.metadata.check_session_iframe)
    expect(stateCookie()?.value).toBe(ada)
    await logIn(browser, op, notes, { user: 'grace', prompt: 'login' })
    const grace = stateCookie()?.value
    await confirmed(browser, await browser.open(logoutUrl(op)))
    const values = [anonymous, ada, grace, stateCookie()?.value]
    expect(new Set(values).size).toBe(4)
  })

  it('says nothing about user or session [SM-3.2-l]', async () => {
    await logIn(browser, op, notes)
    const session = browser.cookies(op.metadata.issuer).find(({ name }) => name.includes('op_session'))
    expect(stateCookie()?.value).not.toContain('ada')
    expect(stateCookie()?.value).not.toContain(session?.value ?? '-')
    expect(stateCookie()).toMatchObject({ sameSite: 'none', httpOnly: false })
  })
})

describe('the OP iframe in a browser', () => {
  let chromium: Chromium
  let site: Server

  beforeAll(async () => {
    site = createServer((_request, response) => {
      response.writeHead(200, { 'content-type': 'text/html' }).end('<!doctype html><title>An app</title>')
    })
    await new Promise<void>((resolve) => site.listen(0, '127.0.0.1', resolve))
  })
  afterAll(() => {
    site.closeAllConnections()
    site.close()
  })
  beforeEach(async () => {
    chromium = await launchChromium({ thirdPartyCookies: 'allowed' })
  })
  afterEach(() => chromium.close())

  /** Opens the page of an origin and puts the OP iframe into it, hidden, as an RP iframe does. */
  async function rpPage(origin: string): Promise<Tab> {
    const tab = await chromium.context.newPage()
    const devTools = await chromium.context.newCDPSession(tab)
    await devTools.send('Security.setIgnoreCertificateErrors', { ignore: true })
    await tab.goto(origin)
    await loadFrame(tab)
    return tab
  }

  async function loadFrame(tab: Tab): Promise<void> {
    await tab.evaluate(async (src) => {
      const frame = Object.assign(document.createElement('iframe'), { id: 'op', hidden: true, src })
      await new Promise((resolve) => {
        frame.addEventListener('load', resolve)
        document.body.append(frame)
      })
    }, op.metadata.check_session_iframe)
  }

  /** Posts one message to the OP iframe; its answer, or `undefined` after a second of silence. */
  function ask(tab: Tab, message: unknown): Promise<unknown> {
    return tab.evaluate(
      async ({ message, origin }) => {
        const frame = document.querySelector<HTMLIFrameElement>('#op')?.contentWindow
        return new Promise((resolve) => {
          setTimeout(() => resolve(undefined), 1000)
          addEventListener('message', (event) => {
            if (event.origin === origin && event.source === frame) resolve(event.data)
          })
          frame?.postMessage(message, origin)
        })
      },
      { message, origin: new URL(op.metadata.issuer).origin },
    )
  }

  async function loggedIn(): Promise<{ tab: Tab; sessionState: string; idToken: string }> {
    const tab = await rpPage(`${rps.origin('notes')}/`)
    const query = new URLSearchParams({
      client_id: 'notes',
      response_type: 'code',
      scope: 'openid',
      redirect_uri: notes.redirect_uris?.[0] ?? '',
    })
    await tab.goto(`${op.metadata.authorization_endpoint}?${query}`)
    await tab.locator('[name=username]').fill('ada')
    await tab.locator('[name=password]').fill('analytical')
    await tab.getByRole('button', { name: 'Sign in', exact: true }).click()
    await tab.waitForURL((url) => url.pathname === '/cb')
    const { searchParams } = new URL(tab.url())
    const response = await fetch(op.metadata.token_endpoint, {
      method: 'POST',
      body: new URLSearchParams({
        client_id: 'notes',
        client_secret: notes.client_secret,
        grant_type: 'authorization_code',
        code: searchParams.get('code') ?? '',
        redirect_uri: notes.redirect_uris?.[0] ?? '',
      }),
    })
    const { id_token: idToken } = (await response.json()) as { id_token: string }
    await loadFrame(tab)
    return { tab, sessionState: searchParams.get('session_state') ?? '', idToken }
  }

  it('says unchanged, and changed with the same session_state after the logout [oidcc-session-management-rp-initiated-logout] [SM-3.2-e] [SM-3.2-f]', async () => {
    const { tab, sessionState, idToken } = await loggedIn()
    expect(await ask(tab, `notes ${sessionState}`)).toBe('unchanged')
    const bye = `${rps.origin('notes')}/bye`
    await tab.goto(logoutUrl(op, { id_token_hint: idToken, post_logout_redirect_uri: bye, state: 's' }))
    await tab.waitForURL((url) => url.href === `${bye}?state=s`)
    await loadFrame(tab)
    expect(await ask(tab, `notes ${sessionState}`)).toBe('changed')
  })

  it('says error to what is malformed, and stays alive [SM-3.2-d] [E34]', async () => {
    const { tab, sessionState } = await loggedIn()
    for (const message of ['', 'notes ', { client: 'notes' }, `notes ${'x'.repeat(100_000)}`]) {
      expect([undefined, 'error']).toContain(await ask(tab, message)) // "changed" would be a logout
    }
    expect(await ask(tab, 'notes')).toBe('error')
    expect(await ask(tab, `notes ${sessionState}`)).toBe('unchanged')
  })

  it('never says unchanged to an origin that is not the client’s [SM-3.2-b] [SM-6-b] [E35]', async () => {
    const { sessionState } = await loggedIn()
    const stranger = await rpPage(`http://evil.localhost:${(site.address() as AddressInfo).port}/`)
    expect([undefined, 'error']).toContain(await ask(stranger, `notes ${sessionState}`))
  })
})
