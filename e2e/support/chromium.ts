import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type BrowserContext, chromium, type Page } from 'playwright-core'
import { eventually } from './eventually.ts'

/** A Chromium with a profile of its own. */
export interface Chromium {
  readonly context: BrowserContext
  /** Opens a tab in front of the others. */
  openTab(url: string): Promise<Page>
  close(): Promise<void>
}

const executable = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(existsSync)

/**
 * Starts the distribution's Chromium and joins it over its debugging port.
 *
 * Playwright's own launcher is not used: it switches off storage partitioning and the throttling of hidden tabs, which
 * are what these tests are about. Both cookie settings are written, since a fresh Debian profile blocks by default.
 */
export async function launchChromium({
  thirdPartyCookies,
}: {
  thirdPartyCookies: 'allowed' | 'blocked'
}): Promise<Chromium> {
  if (!executable) throw new Error('No Chromium found. On Debian: apt-get install chromium')
  const profile = mkdtempSync(join(tmpdir(), 'lockstep-chromium-'))
  const blocked = thirdPartyCookies === 'blocked'
  mkdirSync(join(profile, 'Default'))
  writeFileSync(
    join(profile, 'Default', 'Preferences'),
    JSON.stringify({ profile: { block_third_party_cookies: blocked, cookie_controls_mode: blocked ? 1 : 0 } }),
  )
  const child = spawn(
    executable,
    [
      '--headless=new',
      '--no-sandbox',
      '--disable-gpu',
      '--disable-dev-shm-usage',
      '--ignore-certificate-errors', // the stage has a certificate of its own
      '--no-first-run',
      '--no-default-browser-check',
      '--password-store=basic',
      // It talks to loopback only.
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-default-apps',
      '--disable-sync',
      '--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE localhost , EXCLUDE *.localhost , EXCLUDE 127.0.0.1',
      '--remote-debugging-port=0',
      `--user-data-dir=${profile}`,
      'about:blank',
    ],
    { stdio: 'ignore' },
  )
  const gone = once(child, 'exit')
  const browser = await chromium.connectOverCDP(`http://127.0.0.1:${await debuggingPort(profile, child)}`, {
    noDefaults: true, // else every page believes that it is looked at
  })
  const context = browser.contexts()[0]
  if (!context) throw new Error('Chromium has no default context')
  context.setDefaultTimeout(90_000) // machines are busy

  return {
    context,
    async openTab(url) {
      const page = await context.newPage()
      await page.goto(url)
      return page
    },
    async close() {
      const devtools = await browser.newBrowserCDPSession()
      await devtools.send('Browser.close') // so that nothing of it writes to the profile any more
      await gone
      rmSync(profile, { recursive: true, force: true, maxRetries: 5 })
    },
  }
}

function debuggingPort(profile: string, child: ChildProcess): Promise<number> {
  const file = join(profile, 'DevToolsActivePort')
  return eventually(() => {
    if (child.exitCode !== null) throw new Error(`Chromium ended with code ${child.exitCode}`)
    return existsSync(file) ? Number(readFileSync(file, 'utf8').split('\n')[0]) || undefined : undefined
  }, 'Chromium to listen')
}
