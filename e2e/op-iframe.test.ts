import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { type Chromium, launchChromium } from './support/chromium.ts'
import { freePorts, type Program, startApp, startServer } from './support/demo.ts'
import { signedOut, signIn, signOutAtOp } from './support/user.ts'

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
  it('is signed out by the OP iframe and a silent check where third-party cookies are allowed', async () => {
    chromium = await launchChromium({ thirdPartyCookies: 'allowed' })
    const mail = await signIn(chromium, appUrl)
    expect(await nextAnswer(mail)).toBe('unchanged')
    await signOutAtOp(chromium, issuer)
    await mail.bringToFront() // the OP iframe is asked in a tab that is looked at
    expect(await signedOut(mail)).toContain('You signed out elsewhere')
  })

  it('stays as it is where they are blocked: no false logout, no loop, and the OP is asked for nothing', async () => {
    chromium = await launchChromium({ thirdPartyCookies: 'blocked' })
    const mail = await chromium.openTab(appUrl)
    const answers: unknown[] = []
    const asked: string[] = []
    await mail.exposeFunction('lockstepAnswer', (answer: unknown) => answers.push(answer))
    await mail.addInitScript(() => {
      window.addEventListener('message', ({ data }) => Object(window).lockstepAnswer(data))
    })
    mail.on('request', (request) => asked.push(new URL(request.url()).pathname))
    await mail.close()
  })
})

/** The next word the OP iframe says to that page. */
function nextAnswer(page: Page): Promise<unknown> {
  return page.evaluate(
    () => new Promise((resolve) => window.addEventListener('message', ({ data }) => resolve(data), { once: true })),
  )
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
