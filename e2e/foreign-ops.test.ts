import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type Chromium, launchChromium } from './support/chromium.ts'
import { freePorts, type Program, startApp } from './support/demo.ts'
import { type ForeignOp, type RegisteredApp, startBetterAuth, startStockOidcProvider } from './support/foreign-ops.ts'

/* Our RP, as the demo's two apps, at OPs that are not ours. */

describe.each([
  { name: 'stock oidc-provider', start: startStockOidcProvider, registers: false },
  { name: 'better-auth', start: startBetterAuth, registers: true },
])('at $name', ({ start, registers }) => {
  const data = mkdtempSync(join(tmpdir(), 'lockstep-e2e-'))
  const apps: Program[] = []
  let op: ForeignOp
  let notes: string
  let mail: string
  let chromium: Chromium

  beforeAll(async () => {
    const port = await freePorts(3)
    notes = `http://notes.localhost:${port + 1}`
    mail = `http://mail.localhost:${port + 2}`
    op = await start(port, [appAt('notes', port + 1), appAt('mail', port + 2)])
    for (const [name, at] of [
      ['Notes', port + 1],
      ['Mail', port + 2],
    ] as const) {
      apps.push(await startApp(name, { port: at, issuer: op.issuer, data }))
    }
  })
  afterAll(async () => {
    await Promise.all(apps.map((app) => app.kill('SIGTERM')))
    await op.close()
    rmSync(data, { recursive: true, force: true })
  })
  beforeEach(async () => {
    chromium = await launchChromium({ thirdPartyCookies: 'blocked' })
  })
  afterEach(() => chromium.close())

  /** Signs in at Notes by hand, and at Mail by the OP session that is there now. */
  async function signIn(): Promise<{ notesTab: Page; mailTab: Page }> {
    const notesTab = await chromium.openTab(`${notes}/auth/login`)
    await notesTab.getByRole('button', { name: 'Sign in' }).click()
    await notesTab.waitForURL(`${notes}/`)
    const mailTab = await chromium.openTab(`${mail}/auth/login`)
    await mailTab.waitForURL(`${mail}/`)
    return { notesTab, mailTab }
  }

  const sessionOf = (tab: Page) => tab.evaluate(async () => (await fetch('/auth/session')).status)

  it('a logout in one app ends the OP session and signs out the other app’s open tab [BCL-2.7-a] [RPI-2-b/c]', async () => {
    const { notesTab, mailTab } = await signIn()
    await notesTab.bringToFront()
    await notesTab.goto(`${notes}/auth/logout`)
    await notesTab.getByRole('button', { name: 'Sign out everywhere' }).click()
    await agree(notesTab)
    await notesTab.waitForURL(`${notes}/**`)
    await mailTab.bringToFront()
    await mailTab.getByText('signed out').first().waitFor()
    expect(await sessionOf(mailTab)).toBe(401)
    await mailTab.goto(`${mail}/auth/login`)
    expect(new URL(mailTab.url()).origin).toBe(new URL(op.issuer).origin) // it asks who is there
  })

  it('a silent check finds the same End-User, and the end of the OP session [SM-3.1-g/i]', async () => {
    await chromium.close()
    chromium = await launchChromium({ thirdPartyCookies: 'allowed' })
    const { mailTab } = await signIn()
    expect(await checkSilently(mailTab)).toMatchObject({ result: 'same' })
    await chromium.context.clearCookies({ domain: 'localhost' }) // the OP forgets this browser, and tells nobody
    expect(await checkSilently(mailTab)).toMatchObject({ result: 'ended' })
    expect(await sessionOf(mailTab)).toBe(401)
  })

  it('a logout in one browser leaves the same End-User’s other browser alone [BCL-2.4-c]', async () => {
    const phone = await launchChromium({ thirdPartyCookies: 'blocked' })
    try {
      const other = await phone.openTab(`${mail}/auth/login`)
      await other.getByRole('button', { name: 'Sign in' }).click()
      await other.waitForURL(`${mail}/`)
      const { notesTab, mailTab } = await signIn()
      await notesTab.bringToFront()
      await notesTab.goto(`${notes}/auth/logout`)
      await notesTab.getByRole('button', { name: 'Sign out everywhere' }).click()
      await agree(notesTab)
      await mailTab.bringToFront()
      await mailTab.getByText('signed out').first().waitFor()
      expect(await sessionOf(other)).toBe(200)
    } finally {
      await phone.close()
    }
  })

  it(`register ${registers ? 'starts at account creation' : 'says that this OP cannot'} [PC-4-a]`, async () => {
    const tab = await chromium.openTab(`${notes}/auth/register`)
    if (registers) expect(await tab.innerText('h1')).toBe('Create an account')
    else expect(await tab.innerText('body')).toContain('account')
  })

  /** prompt=none in a frame of the app's page, and what it says. */
  const checkSilently = (tab: Page) =>
    tab.evaluate(
      () =>
        new Promise((resolve) => {
          const frame = document.createElement('iframe')
          addEventListener('message', ({ data, source }) => source === frame.contentWindow && resolve(data))
          frame.src = '/auth/silent-check'
          document.body.append(frame)
        }),
    )

  /** Some OPs ask. */
  async function agree(tab: Page): Promise<void> {
    const yes = tab.getByRole('button', { name: /^yes|continue|log ?out|sign ?out/i })
    const back = tab.waitForURL(`${notes}/auth/logged-out**`).then(() => 'back' as const)
    const asked = yes
      .first()
      .waitFor()
      .then(() => 'asked' as const)
    const first = await Promise.race([back, asked.catch(() => 'back' as const)])
    if (first === 'asked' && tab.url().startsWith(new URL(op.issuer).origin)) await yes.first().click()
    await back
  }
})

function appAt(id: string, port: number): RegisteredApp {
  const url = `http://${id}.localhost:${port}`
  return {
    clientId: id,
    clientSecret: `demo-secret-of-${id}`,
    redirectUri: `${url}/auth/callback`,
    postLogoutRedirectUri: `${url}/auth/logged-out`,
    backchannelLogoutUri: `http://127.0.0.1:${port}/auth/backchannel-logout`,
  }
}
