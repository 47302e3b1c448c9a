import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { createUserAgent, type Page, type UserAgent } from '../../test/support/user-agent.ts'
import { freePorts, type Program, startApp, startServer } from '../support/demo.ts'
import { eventually } from '../support/eventually.ts'

/* The Next example as its users run it: built, then started, as Notes beside the demo's OP and its Mail. */

const folder = resolve(import.meta.dirname, '../../examples/next')
const next = join(folder, 'node_modules/next/dist/bin/next')
const data = mkdtempSync(join(tmpdir(), 'lockstep-e2e-'))
const quiet = { NEXT_TELEMETRY_DISABLED: '1' }

let notes: string
let mail: string
let port: number
let server: ChildProcess
const programs: Program[] = []
let browser: UserAgent

beforeAll(async () => {
  port = await freePorts(3)
  const issuer = `http://localhost:${port}`
  notes = `http://notes.localhost:${port + 1}`
  mail = `http://mail.localhost:${port + 2}`
  programs.push(await startServer(['--demo', '--data', data, '--port', `${port}`], issuer))
  programs.push(await startApp('Mail', { port: port + 2, issuer, data }))
  await promisify(execFile)(process.execPath, [next, 'build'], { cwd: folder, env: { ...process.env, ...quiet } })
  server = spawn(process.execPath, [next, 'start', '--hostname', '127.0.0.1', '--port', `${port + 1}`], {
    cwd: folder,
    env: { ...process.env, ...quiet, ISSUER: issuer, APP_URL: notes },
    stdio: 'ignore',
  })
  const answers = () => fetch(`http://127.0.0.1:${port + 1}/`).then((response) => response.ok || undefined)
  await eventually(() => answers().catch(() => undefined), 'Next to answer')
}, 600_000)
afterAll(async () => {
  const gone = once(server, 'exit')
  server.kill('SIGTERM')
  await Promise.all([gone, ...programs.map((program) => program.kill('SIGTERM'))])
  rmSync(data, { recursive: true, force: true })
})
beforeEach(() => {
  browser = createUserAgent()
})
afterEach(() => browser.close())

const document = { headers: { 'sec-fetch-dest': 'document', 'sec-fetch-mode': 'navigate', accept: 'text/html' } }
const form = { 'content-type': 'application/x-www-form-urlencoded' }
const text = (page: Page) => page.body.replace(/<!-- -->/g, '')

async function signIn(): Promise<Page> {
  return browser.submit(await browser.open(`${notes}/me`), { username: 'ada', password: 'analytical' })
}

/** The open tab of Notes: what it hears next. */
async function openTab() {
  const tab = await browser.events(notes, '/auth/session/events')
  const next = async () => JSON.parse((await tab.next())?.data ?? '{}')
  expect(await next()).toMatchObject({ state: 'alive' })
  return { ...tab, next }
}

describe('the Next example, built and started', () => {
  it('takes a page request to the login and back, by proxy.js and by the page itself', async () => {
    const asked = await browser.fetch(notes, '/me', document)
    expect([asked.status, asked.header('location')]).toEqual([303, '/auth/login?return_to=%2Fme&by=app'])
    await signIn()
    const name = browser.cookies(notes).find(({ httpOnly }) => httpOnly)?.name
    browser.setCookie(notes, `${name}=${'x'.repeat(43)}; Path=/; Secure; HttpOnly`)
    const guessed = await browser.fetch(notes, '/me', document) // passes proxy.js, and is nobody's
    expect([guessed.status, guessed.header('location')]).toEqual([307, '/auth/login?return_to=%2Fme&by=app'])
  })

  it('shows who is signed in, and keeps the page out of caches [next 3]', async () => {
    const page = await signIn()
    expect(page).toMatchObject({ status: 200, url: `${notes}/me` })
    expect(text(page)).toContain('Hello Ada')
    expect(page.header('cache-control')).toContain('no-store')
    expect(text(await browser.open(`${notes}/`))).toContain('Sign out')
  })

  it('hears a logout at the other app by back-channel, and tells its open tab [BC §2.7]', async () => {
    await signIn()
    await browser.open(`${mail}/auth/login`)
    const tab = await openTab()
    await browser.submit(await browser.open(`${mail}/auth/logout`), { from: 'everywhere' })
    expect(await tab.next()).toMatchObject({ state: 'ended', ended: { cause: 'logout_token' } })
    expect(text(await browser.open(`${notes}/`))).toContain('Sign in')
  })

  it('signs out everywhere by a form of its own, and comes back', async () => {
    await signIn()
    await browser.open(`${mail}/auth/login`)
    const page = await browser.submit(await browser.open(`${notes}/auth/logout`), { from: 'everywhere' })
    expect(page).toMatchObject({ status: 200, url: expect.stringContaining(`${notes}/auth/logged-out`) })
    expect((await browser.fetch(mail, '/auth/session')).status).toBe(401)
  })

  it('signs out of this app only, and the open tab hears it', async () => {
    await signIn()
    const tab = await openTab()
    await browser.submit(await browser.open(`${notes}/auth/logout`), { from: 'this-app' })
    expect(await tab.next()).toMatchObject({ state: 'ended', ended: { cause: 'this_app' } })
  })

  it('answers 404, 405 and 413 with no-store, and serves the session monitor', async () => {
    const monitor = await browser.fetch(notes, '/auth/session-monitor.js')
    expect(monitor.header('content-type')).toBe('text/javascript; charset=utf-8')
    const headers = { 'if-none-match': monitor.header('etag') ?? '' }
    const answers = [
      await browser.fetch(notes, '/auth/nothing'),
      await browser.fetch(notes, '/auth/login', { method: 'POST' }),
      await browser.fetch(notes, '/auth/backchannel-logout', { method: 'POST', headers: form, body: 'logout_token=a' }),
    ]
    expect(answers.map(({ status }) => status)).toEqual([404, 405, 400])
    for (const answer of answers) expect(answer.header('cache-control')).toBe('no-store')
    expect(await browser.fetch(notes, '/auth/session-monitor.js', { headers })).toMatchObject({ status: 304, body: '' })
    expect(await statusOfEndlessBody()).toBe(413)
  })
})

function statusOfEndlessBody(): Promise<number | undefined> {
  return new Promise((done, failed) => {
    const path = '/auth/backchannel-logout'
    const post = request({ host: '127.0.0.1', port: port + 1, path, method: 'POST', headers: form }, (response) => {
      done(response.statusCode)
      post.destroy()
    })
    post.on('error', failed)
    post.write(`logout_token=${'a'.repeat(100_000)}`)
  })
}
