import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { BrowserContext, Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type Chromium, launchChromium } from './support/chromium.ts'
import { freePorts, type Program, startServer } from './support/demo.ts'

// An app that can only be told in a frame, and whose page there tries everything that a frame must not do.
const data = mkdtempSync(join(tmpdir(), 'lockstep-e2e-'))
let app: Server
let op: Program
let issuer: string
let appUrl: string
let told: { url: URL; headers: IncomingHttpHeaders }[]
let answersFrames: boolean
let chromium: Chromium

const rudePage = `<!doctype html><title>Rude</title><script>
  try { alert('hello') } catch {}
  try { top.location.href = 'about:blank#stolen' } catch {}
  try { open('about:blank') } catch {}
</script>`

beforeAll(async () => {
  const port = await freePorts(2)
  issuer = `http://localhost:${port}`
  appUrl = `http://board.localhost:${port + 1}`
  app = createServer((request, response) => {
    const url = new URL(request.url ?? '/', appUrl)
    response.setHeader('content-type', 'text/html')
    if (url.pathname === '/front') {
      told.push({ url, headers: request.headers })
      if (answersFrames) response.end(rudePage)
      return
    }
    response.setHeader('set-cookie', 'board=1; Path=/; Secure; SameSite=None')
    response.end('<!doctype html><title>Board</title><p>board')
  }).listen(port + 1, '127.0.0.1')
  await once(app, 'listening')
  const config = join(data, 'op.json')
  writeFileSync(config, JSON.stringify(serverConfig(port)))
  op = await startServer(['--config', config], issuer)
})
beforeEach(() => {
  told = []
  answersFrames = true
})
afterEach(() => chromium?.close())
afterAll(async () => {
  await op?.kill('SIGTERM')
  app.closeAllConnections()
  app.close()
  rmSync(data, { recursive: true, force: true })
})

describe.each(['allowed', 'blocked'] as const)('with third-party cookies %s', (thirdPartyCookies) => {
  beforeEach(async () => {
    chromium = await launchChromium({ thirdPartyCookies })
  })

  it('an app is told in a frame with iss and sid, and the browser goes on with state [FCL-2-c] [FCL-2-e] [RPI-3-d]', async () => {
    const tab = await signIn(chromium.context)
    await leave(tab, { post_logout_redirect_uri: `${appUrl}/bye`, state: 's 1' })
    await tab.waitForURL(`${appUrl}/bye?state=s%201`)
    expect(told).toHaveLength(1)
    const [{ url, headers } = { url: new URL(appUrl), headers: {} }] = told
    expect(url.searchParams.get('tenant')).toBe('7')
    expect(url.searchParams.get('iss')).toBe(issuer)
    expect(url.searchParams.get('sid')).toMatch(/^[\w-]{16,}$/)
    expect(headers['sec-fetch-dest']).toBe('iframe')
    expect(headers.referer).toBeUndefined()
    expect(headers.cookie).toBe(thirdPartyCookies === 'allowed' ? 'board=1' : undefined)
  })

  it('the framed page opens no dialog and no window and takes the browser nowhere [T15]', async () => {
    const tab = await signIn(chromium.context)
    const dialogs: string[] = []
    tab.on('dialog', (dialog) => {
      dialogs.push(dialog.message())
      void dialog.dismiss()
    })
    const tabs = chromium.context.pages().length
    await leave(tab, { post_logout_redirect_uri: `${appUrl}/bye` })
    await tab.waitForURL(`${appUrl}/bye`)
    expect(dialogs).toEqual([])
    expect(chromium.context.pages()).toHaveLength(tabs)
  })

  it('a logout that leads to no app ends with the list of apps, although the way came from another site [T14] [FCL-4.1-a]', async () => {
    const tab = await signIn(chromium.context)
    await leave(tab, {})
    await tab.getByText('Browser did not let us check', { exact: true }).waitFor()
    expect(tab.url()).toBe(`${issuer}/session/end/signed-out`)
    expect(await tab.locator('li').count()).toBe(1)
  })

  it('so does one without frames: the page loads itself once more to get its Strict cookie [T14]', async () => {
    const tab = await signIn(chromium.context, 'memo')
    await leave(tab, { client_id: 'memo' })
    await tab.getByRole('heading', { name: 'You are signed out of 1 app' }).waitFor()
    expect(await tab.locator('li').innerText()).toMatch(/Memo\s+Signed out/)
    expect(told).toEqual([])
  })
})

describe('an app that never answers', () => {
  it('holds nobody: the page goes on by itself [FCL-4.1-a]', async () => {
    chromium = await launchChromium({ thirdPartyCookies: 'allowed' })
    answersFrames = false
    const tab = await signIn(chromium.context)
    await leave(tab, { post_logout_redirect_uri: `${appUrl}/bye` })
    await tab.waitForURL(`${appUrl}/bye`)
    expect(told).toHaveLength(1)
  })
})

describe('without JavaScript', () => {
  it('the app is told all the same, and the browser goes on [FCL-2-c] [RPI-3-d]', async () => {
    chromium = await launchChromium({ thirdPartyCookies: 'allowed' })
    const context = await chromium.context.browser()?.newContext({ javaScriptEnabled: false })
    if (!context) throw new Error('no context without JavaScript')
    const tab = await signIn(context)
    await leave(tab, { post_logout_redirect_uri: `${appUrl}/bye` })
    await tab.waitForURL(`${appUrl}/bye`)
    expect(told).toHaveLength(1)
    await context.close()
  })
})

/** Signs in at the app by the OP's login page. */
async function signIn(context: BrowserContext, client = 'board'): Promise<Page> {
  const tab = await context.newPage()
  await tab.goto(
    `${issuer}/auth?${request({ client_id: client, response_type: 'code', scope: 'openid', redirect_uri: `${appUrl}/cb` })}`,
  )
  await tab.locator('[name=username]').fill('ada')
  await tab.locator('[name=password]').fill('analytical')
  await tab.getByRole('button', { name: 'Sign in', exact: true }).click()
  await tab.waitForURL((url) => url.pathname === '/cb')
  return tab
}

/** Follows a link of the app to the Logout Endpoint, with the hint of this login. */
async function leave(tab: Page, params: Record<string, string>): Promise<void> {
  const code = new URL(tab.url()).searchParams.get('code') ?? ''
  const { client_id = 'board' } = params
  const response = await fetch(`${issuer}/token`, {
    method: 'POST',
    body: request({
      client_id,
      client_secret: `secret-of-${client_id}`,
      grant_type: 'authorization_code',
      code,
      redirect_uri: `${appUrl}/cb`,
    }),
  })
  const { id_token: hint } = (await response.json()) as { id_token: string }
  const url = `${issuer}/session/end?${request({ id_token_hint: hint, ...params })}`
  const link = `${appUrl}/leave`
  await tab.route(link, (route) =>
    route.fulfill({ contentType: 'text/html', body: `<a href="${url.replaceAll('&', '&amp;')}">Leave</a>` }),
  )
  await tab.goto(link)
  await tab.getByRole('link', { name: 'Leave' }).click()
}

function request(params: Record<string, string>): URLSearchParams {
  return new URLSearchParams({ client_id: 'board', ...params })
}

function serverConfig(port: number): object {
  return {
    issuer,
    listen: { host: '127.0.0.1', port },
    store: { sqlite: join(data, 'op.db') },
    clients: [
      {
        client_id: 'board',
        client_secret: 'secret-of-board',
        client_name: 'Board',
        token_endpoint_auth_method: 'client_secret_post',
        redirect_uris: [`${appUrl}/cb`],
        post_logout_redirect_uris: [`${appUrl}/bye`],
        frontchannel_logout_uri: `${appUrl}/front?tenant=7`,
        frontchannel_logout_session_required: true,
      },
      {
        client_id: 'memo',
        client_secret: 'secret-of-memo',
        client_name: 'Memo',
        token_endpoint_auth_method: 'client_secret_post',
        redirect_uris: [`${appUrl}/cb`],
        backchannel_logout_uri: `http://127.0.0.1:${port + 1}/back`,
      },
    ],
    accounts: [{ username: 'ada', password: 'analytical', claims: { name: 'Ada Lovelace' } }],
    egress: { allow: ['127.0.0.1'] },
  }
}
