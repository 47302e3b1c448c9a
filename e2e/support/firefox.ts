import { existsSync } from 'node:fs'
import puppeteer from 'puppeteer-core'
import type { Browser, ThirdPartyCookies } from './browser.ts'

const executable = ['/usr/bin/firefox-esr', '/usr/bin/firefox'].find(existsSync)

/**
 * Starts the distribution's Firefox over WebDriver BiDi.
 *
 * Blocked is Firefox' own default (a cookie jar per site, `cookieBehavior` 5): a login that nobody clicked for gives the
 * OP's frame no access to its cookies. Allowed is `cookieBehavior` 0.
 */
export async function launchFirefox(thirdPartyCookies: ThirdPartyCookies): Promise<Browser> {
  if (!executable) throw new Error('No Firefox found. On Debian: apt-get install firefox-esr')
  const browser = await puppeteer.launch({
    browser: 'firefox',
    executablePath: executable,
    headless: true,
    acceptInsecureCerts: true,
    timeout: 60_000,
    extraPrefsFirefox: {
      'network.cookie.cookieBehavior': thirdPartyCookies === 'blocked' ? 5 : 0,
      'dom.security.https_first': false,
      // It talks to loopback only.
      'network.captive-portal-service.enabled': false,
      'network.connectivity-service.enabled': false,
    },
  })
  return {
    async open(url) {
      const page = await browser.newPage()
      page.setDefaultTimeout(90_000) // machines are busy
      await page.goto(url)
      return {
        // As a link does: the driver's own navigation fails with NS_BINDING_ABORTED where a frame of the page that is left
        // begins to load just then, for it takes the end of that for its own.
        go: async (to) =>
          void (await Promise.all([page.waitForNavigation(), page.evaluate((url) => location.assign(url), to)])),
        run: async <T>(expression: string) => (await page.evaluate(expression)) as T,
        front: () => page.bringToFront(),
        close: () => page.close(),
      }
    },
    close: () => browser.close(),
  }
}
