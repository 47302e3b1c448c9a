import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { type Chromium, launchChromium } from './support/chromium.ts'
import { freePorts, type Program, startApp, startServer } from './support/demo.ts'
import { signedOut, signIn, signOutAtOp, strip } from './support/user.ts'

// An app the OP cannot tell: it has no back-channel logout URI, so its own backend never knows.
const data = mkdtempSync(join(tmpdir(), 'lockstep-e2e-'))
const programs: Program[] = []
let issuer: string
let appUrl: string
let chromium: Chromium

beforeAll(async () => {
  const port = await freePorts(2)
  issuer = `http://localhost:${port}`
  appUrl = `http://mail.localhost:${port + 1}`
  const config = join(data, 'op.json')
  writeFileSync(config, JSON.stringify(serverConfig(port)))
  programs.push(await startServer(['--config', config], issuer))
  programs.push(await startApp('Mail', { port: port + 1, issuer, data }))
})
afterEach(() => chromium?.close())
afterAll(async () => {
  await Promise.all(programs.map((program) => program.kill('SIGTERM')))
  rmSync(data, { recursive: true, force: true })
})

describe('an app that no notice reaches', () => {
  it('is signed out by the OP iframe and a silent check where third-party cookies are allowed [SM-3.1-d/e]', async () => {
    chromium = await launchChromium({ thirdPartyCookies: 'allowed' })
    const { answers } = await observe(chromium)
    const mail = await signIn(chromium, appUrl)
    await expect.poll(() => answers).toContain('unchanged')
    await signOutAtOp(chromium, issuer)
    await mail.bringToFront() // the OP iframe is asked in a tab that is looked at
    expect(await signedOut(mail)).toContain('You signed out elsewhere')
  })

  it('stays as it is where they are blocked: no false logout, no loop, and the OP is asked for nothing [SM-3.1-d/f] [SM-5.1-a]', async () => {
    chromium = await launchChromium({ thirdPartyCookies: 'blocked' })
    const { answers, requests } = await observe(chromium)
    const mail = await signIn(chromium, appUrl)
    await expect.poll(() => answers).toContain('error')
    await expect.poll(() => mail.locator('iframe').count()).toBe(0)
    await signOutAtOp(chromium, issuer)
    await mail.evaluate(() => {
      document.addEventListener('lockstep:alive', () => document.body.setAttribute('data-asked', ''), { once: true })
    })
    await mail.bringToFront()
    await mail.locator('[data-asked]').waitFor()
    expect(await strip(mail)).toContain('alive')
    expect(answers).toEqual(['error'])
    expect(requests.filter((path) => path === '/auth/silent-check')).toEqual([])
  })
})

/** Notes what windows are told by others, and which paths are asked for. */
async function observe({ context }: Chromium): Promise<{ answers: unknown[]; requests: string[] }> {
  const answers: unknown[] = []
  const requests: string[] = []
  context.on('request', (request) => requests.push(new URL(request.url()).pathname))
  await context.exposeFunction('lockstepAnswer', (answer: unknown) => answers.push(answer))
  await context.addInitScript(() => {
    if (window !== window.top) return
    window.addEventListener('message', ({ data }) => Reflect.get(window, 'lockstepAnswer')(data))
  })
  return { answers, requests }
}

function serverConfig(port: number): object {
  return {
    issuer: `http://localhost:${port}`,
    listen: { host: '127.0.0.1', port },
    store: { sqlite: join(data, 'op.db') },
    clients: [
      {
        client_id: 'mail',
        client_secret: 'demo-secret-of-mail',
        client_name: 'Mail',
        redirect_uris: [`http://mail.localhost:${port + 1}/auth/callback`],
        post_logout_redirect_uris: [`http://mail.localhost:${port + 1}/auth/logged-out`],
      },
    ],
    accounts: [{ username: 'ada', password: 'analytical', claims: { name: 'Ada Lovelace' } }],
    egress: { allow: [] },
  }
}
