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
  await mail.getByText('You signed out of Notes').or(mail.getByText('You are not signed in')).waitFor()
  await mail.bringToFront() // a page that still believed to be signed in would ask, hear it and reload again
  await mail.waitForLoadState('networkidle')
  expect(loads).toBe(1)
  expect(await mail.evaluate(() => 'lockstepTest' in window)).toBe(false)
})

it('a reload does not get in the way of the logout that this very tab has begun', async () => {
  const mail = await signIn(chromium, demo.url('Mail'))
  const notes = await signIn(chromium, demo.url('Notes'))
  await signOutIn(notes)
  await notes.waitForURL((url) => url.pathname === '/signed-out')
  await mail.getByText('You signed out of Notes').or(mail.getByText('You are not signed in')).waitFor()
})
