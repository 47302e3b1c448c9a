import type { Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { Tab } from '../support/browser.ts'
import { end, hears, until } from '../support/cells.ts'
import { type Chromium, launchChromium } from '../support/chromium.ts'
import { openStage, type Play, type Stage } from '../support/stage.ts'
import { describeWorst } from '../support/worst.ts'

describe('chromium', () => describeWorst('chromium'))

/* What only Chromium's own protocol can show. */

let stage: Stage
let play: Play
let chromium: Chromium
beforeAll(async () => {
  stage = await openStage()
  play = stage.plays['cross-site']
})
afterAll(() => stage?.close())
beforeEach(async () => {
  chromium = await launchChromium({ thirdPartyCookies: 'blocked' })
})
afterEach(async () => {
  await play.end('ada')
  await chromium?.close()
})

it('a page that comes back from the back/forward cache hears what it missed', async () => {
  const page = await open('mail', '/auth/login')
  // Playwright loses sight of a page in that cache; the browser's own protocol does not.
  const devtools = await chromium.context.newCDPSession(page)
  const mail: Pick<Tab, 'run'> = {
    async run<T>(expression: string) {
      const { result } = await devtools.send('Runtime.evaluate', {
        expression,
        awaitPromise: true,
        returnByValue: true,
      })
      return result.value as T
    },
  }
  await hears(mail, 'alive')
  // A page of which a part is still loading is not kept.
  await until(mail, `document.readyState === 'complete' && opIframeSaid.includes('error')`)
  await until(mail, `!document.querySelector('iframe')`)
  await mail.run(`addEventListener('pageshow', ({ persisted }) => { window.persisted = persisted })`)
  await devtools.send('Page.navigate', { url: `${play.url('notes')}/` })
  await until(mail, `document.title === 'notes'`)
  expect(stage.streams('mail', 'cross-site')).toBe(0)
  await play.end('ada')
  await mail.run(`history.back()`)
  await until(mail, `window.persisted`)
  expect(await end(mail)).toMatchObject({ cause: 'logout_token' })
})

it('two hundred logins and logouts leave no frame, listener or stream behind', async () => {
  const page = await open('mail', '/')
  const devtools = await chromium.context.newCDPSession(page)
  await devtools.send('Performance.enable')
  const login = await open('mail', '/auth/login')
  await page.goto(`${play.url('mail')}/bare`)
  await page.waitForFunction('window.watchOnce')
  const measure = async () => {
    await devtools.send('HeapProfiler.collectGarbage')
    const { metrics } = await devtools.send('Performance.getMetrics')
    const figure = (name: string) => metrics.find((metric) => metric.name === name)?.value ?? 0
    return { listeners: figure('JSEventListeners'), frames: figure('Frames'), nodes: figure('Nodes') }
  }
  let early = await measure()
  for (let round = 0; round < 200; round++) {
    await page.evaluate('watchOnce()')
    await play.end('ada')
    await page.evaluate('watched')
    await login.goto(`${play.url('mail')}/auth/login`)
    if (round === 20) early = await measure()
  }
  const late = await measure()
  expect(stage.streams('mail', 'cross-site')).toBeLessThanOrEqual(1) // that of the tab that signs in
  expect(await page.evaluate(() => document.querySelectorAll('iframe').length)).toBe(0)
  expect(late.frames).toBeLessThanOrEqual(early.frames)
  expect(late.listeners).toBeLessThanOrEqual(early.listeners + 5)
  expect(late.nodes).toBeLessThanOrEqual(early.nodes + 50)
}, 900_000)

function open(app: 'notes' | 'mail', path: string): Promise<Page> {
  return chromium.openTab(`${play.url(app)}${path}`)
}
