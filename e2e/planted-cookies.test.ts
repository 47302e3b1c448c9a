import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest'
import { type Chromium, launchChromium } from './support/chromium.ts'
import { freePorts, type Program, startServer } from './support/demo.ts'

// The OP shares a parent domain with a host that belongs to somebody else.
const data = mkdtempSync(join(tmpdir(), 'lockstep-e2e-'))
let program: Program
let neighbour: Server
let issuer: string
let elsewhere: string
let chromium: Chromium

beforeAll(async () => {
  const port = await freePorts(2)
  issuer = `http://op.lab.localhost:${port}`
  elsewhere = `http://neighbour.lab.localhost:${port + 1}`
  const config = join(data, 'op.json')
  writeFileSync(
    config,
    JSON.stringify({
      issuer,
      listen: { host: '127.0.0.1', port },
      store: { sqlite: join(data, 'op.db') },
      clients: [{ client_id: 'notes', client_secret: 'secret-of-notes', redirect_uris: [`${elsewhere}/callback`] }],
      accounts: [{ username: 'ada', password: 'analytical' }],
      egress: { allow: [] },
    }),
  )
  neighbour = createServer((_req, res) => res.setHeader('content-type', 'text/html').end('<title>Neighbour</title>'))
  neighbour.listen(port + 1, '127.0.0.1')
  await once(neighbour, 'listening')
  program = await startServer(['--config', config], `http://127.0.0.1:${port}`) // Node finds no names below localhost
})
afterEach(() => chromium?.close())
afterAll(async () => {
  await program?.kill('SIGTERM')
  neighbour?.closeAllConnections()
  neighbour?.close()
  rmSync(data, { recursive: true, force: true })
})

it.each([
  '/',
  '/interaction',
])('a cookie of a login that a neighbour planted for the parent domain, at %s, costs one sign-in and no more [T21]', async (path) => {
  chromium = await launchChromium({ thirdPartyCookies: 'blocked' })
  const { context } = chromium
  const query = new URLSearchParams({
    client_id: 'notes',
    response_type: 'code',
    scope: 'openid',
    redirect_uri: `${elsewhere}/callback`,
  })
  const login = `${issuer}/auth?${query}`
  const tab = await chromium.openTab(login)
  await tab.locator('input[name=username]').waitFor()
  const name = (await context.cookies()).find((cookie) => cookie.name.includes('op_interaction'))?.name ?? ''
  expect(name).toMatch(/^__Secure-op_interaction\.[\w-]+(?:\.sig)?$/)

  await tab.goto(elsewhere)
  const line = `${name.replace(/\.sig$/, '')}=planted; Domain=lab.localhost; Path=${path}; Secure; SameSite=None`
  await tab.evaluate((cookie) => {
    // biome-ignore lint/suspicious/noDocumentCookie: it is what the neighbour does
    document.cookie = cookie
  }, line)
  const planted = async () => (await context.cookies()).filter(({ value }) => value === 'planted')
  expect(await planted()).toMatchObject([{ domain: '.lab.localhost', path }])

  await tab.goto(login)
  expect(await tab.textContent('body')).toContain('This sign-in is over')
  expect(await planted()).toEqual([])

  await tab.goto(login)
  await tab.fill('input[name=username]', 'ada')
  await tab.fill('input[name=password]', 'analytical')
  await tab.press('input[name=password]', 'Enter')
  await tab.waitForURL(`${elsewhere}/callback?code=**`)
})
