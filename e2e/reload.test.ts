import type { Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest'
import { type Chromium, launchChromium } from './support/chromium.ts'
import { type Demo, startDemo } from './support/demo.ts'
import { signIn, signOutIn } from './support/user.ts'

let demo: Demo
let chromium: Chromium
beforeAll(async () => {
  demo = await startDemo()
})
afterAll(() => demo?.stop())
beforeEach(async () => {
  chromium = await launchChromium({ thirdPartyCookies: 'blocked' })
  // The demo apps tell the end themselves; here they are pages that leave it to data-on-ended="reload".
  await chromium.context.addInitScript(() => {
    new MutationObserver(() => {
      const script = document.querySelector<HTMLScriptElement>('script[data-on-ended=event]')
      if (script) script.dataset.onEnded = 'reload'
    }).observe(document, { childList: true, subtree: true })
  })
})
afterEach(() => chromium?.close())

it('a page that wants to be reloaded is, once, and then shows that nobody is signed in', async () => {
  const notes = await signIn(chromium, demo.url('Notes'))
  const mail = await signIn(chromium, demo.url('Mail'))
  let loads = 0
  mail.on('load', () => loads++)
  await signOutIn(notes)
  await showsSignedOut(mail)
  await mail.bringToFront() // a page that still believed to be signed in would ask, hear it and reload again
  await mail.waitForLoadState('networkidle')
  expect(loads).toBe(1)
  expect(await mail.evaluate(() => 'lockstepTest' in window)).toBe(false)
})

it('a reload does not get in the way of the logout that this very tab has begun', async () => {
  const mail = await signIn(chromium, demo.url('Mail'))
  const notes = await signIn(chromium, demo.url('Notes'))
  await holdBack(notes, '*/auth/logout', heardOfTheEnd(notes))
  await signOutIn(notes)
  await notes.waitForURL((url) => url.pathname === '/signed-out')
  await showsSignedOut(mail)
})

/** The page as the app renders it anew, not as the monitor's event changes it. */
async function showsSignedOut(tab: Page): Promise<void> {
  await tab.getByText('You signed out of Notes').or(tab.getByText('You are not signed in')).waitFor()
}

async function heardOfTheEnd(tab: Page): Promise<void> {
  await tab.evaluate(
    () => new Promise((resolve) => document.addEventListener('lockstep:ended', resolve, { once: true })),
  )
}

/** Lets the answer to a request arrive only after something else has happened. */
async function holdBack(tab: Page, urlPattern: string, until: Promise<void>): Promise<void> {
  const devtools = await tab.context().newCDPSession(tab)
  devtools.on('Fetch.requestPaused', ({ requestId }) => {
    void until.then(() => devtools.send('Fetch.continueRequest', { requestId }))
  })
  await devtools.send('Fetch.enable', { patterns: [{ urlPattern, requestStage: 'Response' }] })
}
