import type { Page } from 'playwright-core'
import type { Chromium } from './chromium.ts'

/** Opens an app, signs in to it and waits until its tab says that it is watched. */
export async function signIn(chromium: Chromium, appUrl: string): Promise<Page> {
  const tab = await chromium.openTab(appUrl)
  await tab.getByRole('link', { name: 'Sign in' }).click()
  // The OP asks only once for all apps.
  await tab.waitForURL((url) => url.href.startsWith(appUrl) || url.pathname.startsWith('/interaction/'))
  if (!tab.url().startsWith(appUrl)) {
    await tab.locator('[name=username]').fill('ada')
    await tab.locator('[name=password]').fill('analytical')
    await tab.getByRole('button', { name: 'Sign in', exact: true }).click()
  }
  await tab.getByText('push connected').waitFor()
  await markLoad(tab)
  return tab
}

/** Clicks a button of the app's own page; by default the one that signs out everywhere. */
export async function signOutIn(tab: Page, button = 'Sign out'): Promise<void> {
  await tab.bringToFront() // nobody can click in a tab behind another
  await tab.getByRole('button', { name: button, exact: true }).click()
}

/** Signs out on the OP's own page. */
export async function signOutAtOp(chromium: Chromium, issuer: string): Promise<Page> {
  const tab = await chromium.openTab(issuer)
  await tab.getByRole('link', { name: 'Sign out' }).click()
  await tab.getByRole('button', { name: 'Sign out' }).click()
  return tab
}

/** Waits until the tab says that it is signed out, and returns its words; fails if the page was loaded anew. */
export async function signedOut(tab: Page): Promise<string> {
  await tab.getByRole('heading', { name: 'Signed out' }).waitFor()
  if (!(await tab.evaluate(() => 'lockstepTest' in window))) throw new Error('the tab was reloaded')
  return tab.locator('.card.ended').innerText()
}

/** What the strip at the bottom of the page says. */
export function strip(tab: Page): Promise<string> {
  return tab.locator('#strip').innerText()
}

/** Leaves a mark that a reload would wipe. */
async function markLoad(tab: Page): Promise<void> {
  await tab.evaluate(() => Object.assign(window, { lockstepTest: true }))
}
