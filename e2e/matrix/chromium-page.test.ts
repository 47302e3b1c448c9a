import { setTimeout as wait } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest'
import { type Tab, tabOf } from '../support/browser.ts'
import { confirmSignOut, end, everEnded, hears, until } from '../support/cells.ts'
import { type Chromium, launchChromium } from '../support/chromium.ts'
import { eventually } from '../support/eventually.ts'
import { openStage, type Play, type Stage } from '../support/stage.ts'

/* What may happen to a page without a backend, its OP of another site. */

let stage: Stage
let play: Play
let chromium: Chromium
beforeAll(async () => {
  stage = await openStage()
  play = stage.plays['cross-site']
})
afterAll(() => stage?.close())
afterEach(async () => {
  play.twist = undefined
  play.account = 'ada'
  await play.end('ada')
  await play.end('grace')
  await chromium?.close()
})

it('one that is loaded after the logout hears of it', async () => {
  const page = await signIn('allowed')
  await page.go(`${play.url('notes')}/`)
  await confirmSignOut(await open(`${play.issuer}/session/end`))
  await page.front() // a tab that nobody looks at asks no OP iframe
  await page.go(`${play.url('page')}/?again`)
  expect(await end(page)).toMatchObject({ heardBy: 'iframe', cause: 'silent_check' })
})

it('one that could not ask the OP about the logout hears of it as soon as the network is back', async () => {
  const page = await signIn('allowed')
  stage.seen.length = 0
  play.twist = ({ url = '' }, response) => {
    const isSilent = url.includes('prompt=none')
    if (isSilent) response.destroy()
    return isSilent
  }
  await confirmSignOut(await open(`${play.issuer}/session/end`))
  await page.front()
  // Three times, then never for five minutes.
  await eventually(() => stage.seen.filter(({ silent }) => silent).length === 3 || undefined, 'three silent checks')
  await until(page, `told.filter(({ type }) => type === 'unknown').length > 2`)
  expect(await everEnded(page)).toBe(false)
  play.twist = undefined
  await chromium.context.setOffline(true)
  await chromium.context.setOffline(false)
  expect(await end(page)).toMatchObject({ cause: 'silent_check' })
}, 120_000)

it('two of them, of two End-Users, leave each other alone', async () => {
  const ada = await signIn('blocked')
  play.account = 'grace'
  const grace = await openPage()
  await grace.run(`void signIn('login')`)
  await hears(grace, 'alive')
  for (const page of [ada, grace]) {
    await page.run(`{
      window.posted = 0
      const post = BroadcastChannel.prototype.postMessage
      BroadcastChannel.prototype.postMessage = function (message) { posted++; post.call(this, message) }
    }`)
  }
  await ada.front()
  await until(ada, `document.visibilityState === 'visible' && posted > 0`)
  await grace.front()
  await until(grace, `document.visibilityState === 'visible' && posted > 0`)
  await wait(2_000)
  for (const page of [ada, grace]) {
    expect(await page.run(`posted`)).toBe(1)
    expect(await everEnded(page)).toBe(false)
  }
})

async function signIn(thirdPartyCookies: 'allowed' | 'blocked'): Promise<Tab> {
  chromium = await launchChromium({ thirdPartyCookies })
  const page = await openPage()
  await page.run(`void signIn()`)
  await hears(page, 'alive')
  await until(page, `opIframeSaid.length > 0 || !document.querySelector('iframe')`)
  expect(await page.run(`monitor.blind`)).toBe(thirdPartyCookies === 'blocked')
  return page
}

async function open(url: string): Promise<Tab> {
  return tabOf(await chromium.openTab(url))
}

async function openPage(): Promise<Tab> {
  const page = await open(`${play.url('page')}/`)
  await until(page, `document.title === 'page: nobody'`)
  return page
}
