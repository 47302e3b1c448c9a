import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import express from 'express'
import { auth } from 'express-openid-connect'
import type { Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { type Chromium, launchChromium } from './support/chromium.ts'
import { freePorts, type Program, startServer } from './support/demo.ts'

/* Clients that are not ours, against the server program with a config file: express-openid-connect on a backend, and
   oidc-client-ts with monitorSession in a page. */

const data = mkdtempSync(join(tmpdir(), 'lockstep-e2e-'))
const secret = 'the secret of the express app, long enough'
let issuer: string
let expressUrl: string
let spaUrl: string
let program: Program
let servers: Server[]
let chromium: Chromium | undefined

beforeAll(async () => {
  const port = await freePorts(3)
  issuer = `http://localhost:${port}`
  expressUrl = `http://localhost:${port + 1}`
  spaUrl = `http://spa.localhost:${port + 2}`
  const config = join(data, 'op.json')
  writeFileSync(config, JSON.stringify(serverConfig(port)))
  program = await startServer(['--config', config], issuer)
  servers = [await listen(createServer(expressApp()), port + 1), await listen(createServer(servePage), port + 2)]
})
afterEach(async () => {
  await chromium?.close()
  chromium = undefined
})
afterAll(async () => {
  for (const server of servers) {
    server.close()
    server.closeAllConnections()
  }
  await program.kill('SIGTERM')
  rmSync(data, { recursive: true, force: true })
})

describe('express-openid-connect', () => {
  it('is signed out by a logout at the OP, in this browser and not in another one [BCL-2.4-c]', async () => {
    chromium = await launchChromium({ thirdPartyCookies: 'blocked' })
    const phone = await launchChromium({ thirdPartyCookies: 'blocked' })
    try {
      const laptopTab = await signInTo(chromium, `${expressUrl}/login`, expressUrl)
      const phoneTab = await signInTo(phone, `${expressUrl}/login`, expressUrl)
      expect(await laptopTab.innerText('body')).toBe('signed in as ada')
      await signOutAtOp(chromium)
      await laptopTab.reload()
      expect(await laptopTab.innerText('body')).toBe('signed out')
      await phoneTab.reload()
      expect(await phoneTab.innerText('body')).toBe('signed in as ada')
    } finally {
      await phone.close()
    }
  })

  it('ends the OP session with its own RP-initiated logout, unasked, and gets its user back [RPI-2-p]', async () => {
    chromium = await launchChromium({ thirdPartyCookies: 'blocked' })
    const tab = await signInTo(chromium, `${expressUrl}/login`, expressUrl)
    await tab.goto(`${expressUrl}/logout`)
    await tab.waitForURL((url) => url.origin === expressUrl)
    expect(await tab.innerText('body')).toBe('signed out')
    const op = await chromium.openTab(issuer)
    expect(await op.innerText('h1')).not.toContain('You are signed in')
  })
})

describe('oidc-client-ts with monitorSession', () => {
  it('hears of a logout at the OP through the OP iframe where third-party cookies are allowed [SM-3.2-e]', async () => {
    chromium = await launchChromium({ thirdPartyCookies: 'allowed' })
    const tab = await signInTo(chromium, `${spaUrl}/login`, spaUrl)
    await tab.waitForFunction(() => document.title === 'signed in')
    await signOutAtOp(chromium)
    await tab.bringToFront()
    await tab.waitForFunction(() => document.title === 'signed out')
  })

  it('is told error, stops asking and stays signed in where they are blocked [SM-3.1-f]', async () => {
    chromium = await launchChromium({ thirdPartyCookies: 'blocked' })
    const tab = await signInTo(chromium, `${spaUrl}/login`, spaUrl)
    await tab.waitForFunction(() => document.title === 'signed in')
    await tab.waitForFunction(() => document.body.dataset.problem?.includes('error message from check session'))
    expect(await tab.title()).toBe('signed in')
  })
})

function serverConfig(port: number): object {
  return {
    issuer,
    listen: { host: '127.0.0.1', port },
    store: { sqlite: join(data, 'op.db') },
    clients: [
      {
        client_id: 'express-app',
        client_secret: secret,
        client_name: 'Express app',
        redirect_uris: [`${expressUrl}/callback`],
        post_logout_redirect_uris: [expressUrl], // express-openid-connect sends it without a slash at its end
        grant_types: ['authorization_code'],
        response_types: ['code'],
        backchannel_logout_uri: `http://127.0.0.1:${port + 1}/backchannel-logout`,
        backchannel_logout_session_required: true,
      },
      {
        client_id: 'spa',
        client_name: 'Page',
        token_endpoint_auth_method: 'none',
        redirect_uris: [`${spaUrl}/callback`, `${spaUrl}/silent`],
        grant_types: ['authorization_code'],
        response_types: ['code'],
      },
    ],
    accounts: [{ username: 'ada', password: 'analytical', claims: { name: 'Ada' } }],
    egress: { allow: ['127.0.0.0/8'] },
  }
}

function expressApp(): express.Express {
  const tombstones = new Map<string, unknown>()
  const app = express()
  app.use(
    auth({
      issuerBaseURL: issuer,
      baseURL: expressUrl,
      clientID: 'express-app',
      clientSecret: secret,
      secret: 'the secret of its cookies, long enough',
      authRequired: false,
      idpLogout: true,
      authorizationParams: { response_type: 'code', scope: 'openid profile' },
      backchannelLogout: {
        store: {
          get: (id: string, done: (error: unknown, entry?: unknown) => void) => done(null, tombstones.get(id)),
          set: (id: string, entry: unknown, done?: (error?: unknown) => void) => {
            tombstones.set(id, entry)
            done?.()
          },
          destroy: (id: string, done?: (error?: unknown) => void) => {
            tombstones.delete(id)
            done?.()
          },
        },
      },
    } as Parameters<typeof auth>[0]),
  )
  app.get('/', (req, res) => {
    res.send(req.oidc.isAuthenticated() ? `signed in as ${req.oidc.user?.sub}` : 'signed out')
  })
  return app
}

const library = readFileSync(
  createRequire(import.meta.url)
    .resolve('oidc-client-ts')
    .replace(/dist\/.*$/, 'dist/browser/oidc-client-ts.min.js'),
)

const servePage: Parameters<typeof createServer>[1] = (request, response) => {
  if (request.url === '/library.js') {
    response.setHeader('content-type', 'text/javascript')
    response.end(library)
    return
  }
  response.setHeader('content-type', 'text/html')
  response.end(`<!doctype html><title>a page</title><body><script src="/library.js"></script><script>
    const note = (...words) => { document.body.dataset.problem = words.join(' ') }
    oidc.Log.setLogger({ debug() {}, info() {}, warn: note, error: note })
    oidc.Log.setLevel(oidc.Log.WARN)
    const user = new oidc.UserManager({
      authority: '${issuer}', client_id: 'spa', response_type: 'code', scope: 'openid profile',
      redirect_uri: '${spaUrl}/callback', silent_redirect_uri: '${spaUrl}/silent',
      monitorSession: true, automaticSilentRenew: false,
    })
    user.events.addUserSignedOut(() => { document.title = 'signed out' })
    if (location.pathname === '/login') user.signinRedirect()
    if (location.pathname === '/callback') user.signinRedirectCallback().then(() => { document.title = 'signed in' })
    if (location.pathname === '/silent') user.signinSilentCallback()
  </script>`)
}

async function signInTo(browser: Chromium, loginUrl: string, home: string): Promise<Page> {
  const tab = await browser.openTab(loginUrl)
  await tab.locator('[name=username]').fill('ada')
  await tab.locator('[name=password]').fill('analytical')
  await tab.getByRole('button', { name: 'Sign in', exact: true }).click()
  await tab.waitForURL((url) => url.origin === home)
  return tab
}

async function signOutAtOp(browser: Chromium): Promise<void> {
  const tab = await browser.openTab(`${issuer}/session/end`)
  await tab.getByRole('button', { name: 'Sign out' }).click()
  await tab.getByText('You are signed out').waitFor()
}

async function listen(server: Server, port: number): Promise<Server> {
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
  return server
}
