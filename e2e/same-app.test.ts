import type { Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest'
import { type Chromium, launchChromium } from './support/chromium.ts'
import { type Demo, startDemo } from './support/demo.ts'
import { signIn, signOutIn, strip } from './support/user.ts'

/* Two tabs of one app. */

let demo: Demo
let chromium: Chromium
beforeAll(async () => {
  demo = await startDemo()
})
afterAll(() => demo?.stop())
beforeEach(async () => {
  chromium = await launchChromium({ thirdPartyCookies: 'blocked' })
})
afterEach(() => chromium?.close())

it('the second tab says at once that push is connected, though the first one holds the stream', async () => {
  const first = await signIn(chromium, demo.url('Notes'))
  const second = await chromium.openTab(demo.url('Notes'))
  await second.getByText('push connected').waitFor({ timeout: 5_000 }) // the next heartbeat is up to 15 s away
  expect(await strip(first)).toContain('push connected')
})

it('signing out of one app only signs out its other tab, and signing in again asks for the password once more', async () => {
  const first = await signIn(chromium, demo.url('Notes'))
  const second = await chromium.openTab(demo.url('Notes'))
  await second.getByText('push connected').waitFor()
  await signOutIn(first, 'only from this app')
  await second.getByText('You signed out of this app only').waitFor()
  await second.bringToFront()
  await second.getByRole('link', { name: 'Sign in again' }).click()
  await second.locator('[name=password]').waitFor()
})

it('every page says truly whether this browser is signed in, also the one after a logout and one that is not there', async () => {
  const first = await signIn(chromium, demo.url('Notes'))
  await signOutIn(first)
  await first.waitForURL('**/signed-out')
  await first.locator('#strip').getByText('not signed in').waitFor()
  const second = await signIn(chromium, demo.url('Notes'))
  await second.goto(`${demo.url('Notes')}/nowhere`)
  await second.locator('#strip').getByText('signed in', { exact: true }).waitFor()
  await first.bringToFront()
  await first.locator('#strip').getByText('signed in', { exact: true }).waitFor()
})

it('when somebody else signs in in this browser the other tab says so, and not that its user has signed out', async () => {
  const ada = await signIn(chromium, demo.url('Notes'))
  const grace = await chromium.openTab(`${demo.url('Notes')}/auth/login?prompt=login`)
  await signInAsGrace(grace)
  await ada.bringToFront()
  const card = ada.locator('.card.ended')
  await card
    .getByText('Somebody else is signed in in this browser now')
    .or(card.getByText('Somebody else signed in'))
    .waitFor()
  expect(await card.innerText()).not.toContain('You signed out')
})

async function signInAsGrace(tab: Page): Promise<void> {
  await tab.locator('[name=username]').fill('grace')
  await tab.locator('[name=password]').fill('nanosecond')
  await tab.getByRole('button', { name: 'Sign in', exact: true }).click()
  await tab.getByText('push connected').waitFor()
}
