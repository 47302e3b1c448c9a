import { setTimeout as wait } from 'node:timers/promises'
import type { Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest'
import type { Tab } from '../support/browser.ts'
import { end, everEnded, hears, until } from '../support/cells.ts'
import { type Chromium, launchChromium } from '../support/chromium.ts'
import { eventually } from '../support/eventually.ts'
import { openStage, type Play, type Stage } from '../support/stage.ts'

/* The hardest place for a tab: third-party cookies blocked, the OP of another site. */

const FULL = process.env.E2E_FULL === 'true'

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

it('a network that is cut for half a minute signs nobody out, and what was missed is heard', async () => {
  const { tab } = await open('mail', '/auth/login')
  await hears(tab, 'alive')
  const restore = stage.cutNetwork()
  await hears(tab, 'unknown')
  await wait(30_000)
  expect(await everEnded(tab)).toBe(false)
  await play.end('ada')
  restore()
  expect(await end(tab)).toMatchObject({ cause: 'logout_token' })
})

it('an OP that is restarted signs nobody out, and its next logout is heard', async () => {
  const { tab } = await open('mail', '/auth/login')
  await hears(tab, 'alive')
  await play.stopOp()
  await tab.run(`window.dispatchEvent(new Event('online'))`) // have everything asked anew
  await wait(FULL ? 30_000 : 3_000)
  expect(await everEnded(tab)).toBe(false)
  await play.startOp()
  expect(await play.end('ada')).toBe(1)
  await end(tab)
})

it('of five tabs one listens; when it is closed another does, and all of them are signed out once', async () => {
  const first = await open('mail', '/auth/login')
  await hears(first.tab, 'alive')
  const others: Tab[] = []
  while (others.length < 4) others.push((await open('mail', '/')).tab)
  for (const tab of others) await hears(tab, 'alive')
  const streams = () => stage.streams('mail', 'cross-site')
  expect(streams()).toBe(1)
  await first.page.close()
  await eventually(() => (streams() === 1 ? true : undefined), 'another tab to listen')
  const before = stage.seen.length
  await play.end('ada')
  for (const tab of others) await end(tab)
  expect(stage.seen.slice(before).filter(({ silent }) => silent)).toEqual([])
})

it('a tab that has been in the background for over two minutes hears within two seconds', async () => {
  const { tab, page } = await open('mail', '/auth/login')
  await hears(tab, 'alive')
  await (await open('notes', '/')).page.bringToFront()
  await until(tab, `document.visibilityState === 'hidden'`)
  await wait(FULL ? 600_000 : 125_000)
  expect(await everEnded(tab)).toBe(false)
  await play.end('ada')
  const at = Date.now()
  const { heardAt, heardBy } = await end(tab)
  expect(heardBy).toBe('push')
  expect(heardAt - at).toBeLessThan(2_000)
  expect(await page.evaluate(() => document.visibilityState)).toBe('hidden')
}, 900_000)

it('a page that comes back from the back/forward cache hears what it missed', async () => {
  const { page } = await open('mail', '/auth/login')
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
  const { page } = await open('mail', '/')
  const devtools = await chromium.context.newCDPSession(page)
  await devtools.send('Performance.enable')
  const login = await open('mail', '/auth/login')
  await page.goto(`${play.url('mail')}/bare`)
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
    await login.page.goto(`${play.url('mail')}/auth/login`)
    if (round === 20) early = await measure()
  }
  const late = await measure()
  expect(stage.streams('mail', 'cross-site')).toBeLessThanOrEqual(1) // that of the tab that signs in
  expect(await page.evaluate(() => document.querySelectorAll('iframe').length)).toBe(0)
  expect(late.frames).toBeLessThanOrEqual(early.frames)
  expect(late.listeners).toBeLessThanOrEqual(early.listeners + 5)
  expect(late.nodes).toBeLessThanOrEqual(early.nodes + 50)
}, 900_000)

async function open(app: 'notes' | 'mail', path: string): Promise<{ tab: Tab; page: Page }> {
  const page = await chromium.openTab(`${play.url(app)}${path}`)
  const tab: Tab = {
    go: async (url) => void (await page.goto(url)),
    run: (expression) => page.evaluate(expression),
    front: () => page.bringToFront(),
    close: () => page.close(),
  }
  return { tab, page }
}
