import type { Page } from 'playwright-core'
import { launchChromium } from './chromium.ts'
import { launchFirefox } from './firefox.ts'
import { launchWebKit } from './webkit.ts'

export type Engine = 'chromium' | 'firefox' | 'webkit'
export type ThirdPartyCookies = 'allowed' | 'blocked'

/** What the tests need of a browser, and every engine can. */
export interface Browser {
  /** Opens a tab in front of the others. */
  open(url: string): Promise<Tab>
  close(): Promise<void>
}

/** A tab; `run` evaluates an expression in its page and awaits it. */
export interface Tab {
  go(url: string): Promise<void>
  run<T>(expression: string): Promise<T>
  front(): Promise<void>
  close(): Promise<void>
}

/** Starts a browser of the distribution's with a profile of its own. */
export async function launch(engine: Engine, thirdPartyCookies: ThirdPartyCookies): Promise<Browser> {
  if (engine === 'firefox') return launchFirefox(thirdPartyCookies)
  if (engine === 'webkit') return launchWebKit(thirdPartyCookies)
  const chromium = await launchChromium({ thirdPartyCookies })
  return { open: async (url) => tabOf(await chromium.openTab(url)), close: () => chromium.close() }
}

/** A page of Chromium's as a tab. */
export function tabOf(page: Page): Tab {
  return {
    go: async (to) => void (await page.goto(to)),
    run: (expression) => page.evaluate(expression),
    front: () => page.bringToFront(),
    close: () => page.close(),
  }
}
