import { setTimeout as wait } from 'node:timers/promises'
import type { SilentCheckTrust } from 'lockstep'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { type Browser, type Engine, launch, type Tab, type ThirdPartyCookies } from './browser.ts'
import { eventually } from './eventually.ts'
import { openStage, type Play, type Site, type Stage, type StageApp } from './stage.ts'

/** What a page was told by its monitor. */
export interface Told {
  readonly type: 'alive' | 'unknown' | 'userswitched' | 'ended'
  readonly heardBy: 'push' | 'iframe' | 'poll'
  readonly heardAt: number
  readonly cause?: string
  /** What the backend knew of prompt=none, with `alive`. */
  readonly silentCheck?: SilentCheckTrust
}

/** Seconds of looking on, where a test says that nothing happens. */
const LONG = process.env.E2E_FULL === 'true'
const IDLE = LONG ? 60_000 : 4_000

/** The four cells of an engine: third-party cookies allowed and blocked, the OP of the same site and of another. */
export function describeCells(engine: Engine): void {
  let stage: Stage
  beforeAll(async () => {
    stage = await openStage()
  })
  afterAll(() => stage?.close())

  describe.each(['allowed', 'blocked'] as const)('third-party cookies %s', (cookies) => {
    let browser: Browser
    beforeAll(async () => {
      browser = await launch(engine, cookies)
    })
    afterAll(() => browser?.close())

    describe.each(['same-site', 'cross-site'] as const)('OP %s', (site) => {
      cell(() => ({ stage, browser, play: stage.plays[site], cookies, site }))
    })
  })
}

interface Cell {
  readonly stage: Stage
  readonly browser: Browser
  readonly play: Play
  readonly cookies: ThirdPartyCookies
  readonly site: Site
}

function cell(setting: () => Cell): void {
  const tabs: Tab[] = []
  afterEach(async () => {
    const { play } = setting()
    await play.end('ada')
    await play.end('grace')
    play.account = 'ada'
    for (const tab of tabs.splice(0)) await tab.close()
  })

  it('a logout at the OP signs out every app that is told, and a page that can see it', async () => {
    const { play } = setting()
    const { notes, mail, page } = await signInEverywhere()
    await signOutAtOp()
    expect(await end(notes)).toMatchObject({ heardBy: 'push', cause: 'logout_token' })
    expect(await end(mail)).toMatchObject({ heardBy: 'push', cause: 'logout_token' })
    await pageHears(page, play)
  })

  it('a logout in one app signs out the others', async () => {
    const { play } = setting()
    const { notes, mail, page } = await signInEverywhere()
    await notes.run(`document.forms[0].submit()`)
    expect(await end(mail)).toMatchObject({ heardBy: 'push', cause: 'logout_token' })
    await pageHears(page, play)
  })

  it('an administrator signs out apps in open tabs, and no frame is needed for it', async () => {
    const { play } = setting()
    const { notes, mail } = await signInEverywhere()
    expect(await play.end('ada')).toBe(1)
    expect(await end(notes)).toMatchObject({ heardBy: 'push', cause: 'logout_token' })
    expect(await end(mail)).toMatchObject({ heardBy: 'push', cause: 'logout_token' })
  })

  it('somebody else who signs in takes the place of the first in all apps', async () => {
    const { play } = setting()
    const { notes, mail } = await signInEverywhere()
    play.account = 'grace'
    const again = await openTab(`${play.url('mail')}/auth/login?prompt=login`)
    await hears(again, 'alive')
    expect(await end(notes)).toMatchObject({ cause: 'logout_token' })
    // The old tab of Mail hears of its own end or finds another End-User in its place, whichever comes first.
    expect((await end(mail)).cause).toMatch(/^(logout_token|user_switched)$/)
    expect(await everEnded(again)).toBe(false)
  })

  it('a frame that is refused signs nobody out, and the push still arrives', async () => {
    const { play, stage } = setting()
    const notes = await signIn('notes')
    await notes.go(`${play.url('notes')}/strict`)
    await hears(notes, 'alive')
    const before = stage.seen.length
    if (LONG)
      await until(notes, `!document.querySelector('iframe')`) // it is given up
    else await wait(3_000)
    expect(await everEnded(notes)).toBe(false)
    expect(stage.seen.slice(before).filter(({ silent }) => silent)).toEqual([])
    await play.end('ada')
    expect(await end(notes)).toMatchObject({ heardBy: 'push' })
  })

  it('five idle tabs ask for nothing, and one change costs one prompt=none at most', async () => {
    const { play, stage, site } = setting()
    const first = await signIn('wiki')
    const wikis = [first]
    while (wikis.length < 5) wikis.push(await openTab(`${play.url('wiki')}/`))
    for (const tab of wikis) await hears(tab, 'alive')
    // The last one is looked at: its OP iframe answers, and prompt=none is tried once where that could work.
    await until(
      wikis[4]!,
      `opIframeSaid.includes('error') || (opIframeSaid.length > 1 && told.at(-1).silentCheck === 'works')`,
    )
    expect(stage.streams('wiki', site)).toBe(1)
    const idle = stage.seen.length
    await wait(IDLE)
    expect(stage.seen.slice(idle).map(({ host, path }) => host + path)).toEqual([])

    const sees = await seesItsOp()
    const change = stage.seen.length
    await signOutAtOp()
    await wikis.at(-1)?.front() // it was looked at long enough to know that its OP iframe works
    if (sees) for (const tab of wikis) expect(await end(tab)).toMatchObject({ cause: 'silent_check' })
    else await wait(5_000)
    for (const tab of wikis) expect(await everEnded(tab)).toBe(sees)
    const checks = stage.seen.slice(change).filter(({ path }) => path === '/auth/silent-check')
    expect(checks.length).toBe(sees ? 1 : 0)
  })

  async function signInEverywhere() {
    return { notes: await signIn('notes'), mail: await signIn('mail'), page: await signIn('page') }
  }

  async function signIn(app: StageApp): Promise<Tab> {
    const { play } = setting()
    const tab = await openTab(app === 'page' ? `${play.url('page')}/` : `${play.url(app)}/auth/login`)
    if (app === 'page') {
      await until(tab, `document.title === 'page: nobody'`)
      await tab.run(`void signIn()`)
    }
    await hears(tab, 'alive')
    // Its OP iframe has to work once before it is believed; there is none where prompt=none was refused.
    if (app === 'page') await until(tab, `opIframeSaid.length > 0 || !document.querySelector('iframe')`)
    return tab
  }

  async function openTab(url: string): Promise<Tab> {
    const tab = await setting().browser.open(url)
    tabs.push(tab)
    return tab
  }

  async function signOutAtOp(): Promise<void> {
    await confirmSignOut(await openTab(`${setting().play.issuer}/session/end`))
  }

  /** Whether this browser lets a page of the play see the OP's cookies: a fresh page without a backend finds out. */
  async function seesItsOp(): Promise<boolean> {
    const page = await signIn('page')
    return page.run<boolean>(`!monitor.blind`)
  }

  /** A page without a backend is signed out where it can see it; where it cannot it knows that, and stays. */
  async function pageHears(page: Tab, { issuer }: Play): Promise<void> {
    const { cookies, site } = setting()
    const blind = await page.run<boolean>(`monitor.blind`)
    expect(blind, `${issuer} seen by a page`).toBe(cookies === 'blocked' && site === 'cross-site')
    await page.front()
    if (blind) await wait(3_000)
    else expect(await end(page)).toMatchObject({ heardBy: 'iframe', cause: 'silent_check' })
    expect(await everEnded(page)).toBe(!blind)
  }
}

/** Signs out at the OP, in a tab with the page that asks whether to. */
export async function confirmSignOut(tab: Tab): Promise<void> {
  await tab.run(`document.querySelector('form [value=yes]').click()`)
  await until(tab, `/signed out/i.test(document.body.innerText) && !document.querySelector('form')`)
}

/** Waits until the page has been told that, and fails if it was told `ended` before. */
export async function hears(tab: Pick<Tab, 'run'>, type: Told['type']): Promise<Told> {
  await until(tab, `window.told?.some(({ type }) => type === '${type}')`)
  const told = await tab.run<Told[]>(`told`)
  if (type !== 'ended') expect(told.filter((what) => what.type === 'ended')).toEqual([])
  return told.find((what) => what.type === type) as Told
}

/** Waits until the page has been told that it is signed out, which happens once. */
export async function end(tab: Pick<Tab, 'run'>): Promise<Told> {
  const told = await hears(tab, 'ended')
  expect(await tab.run(`told.filter(({ type }) => type === 'ended').length`)).toBe(1)
  return told
}

export function everEnded(tab: Pick<Tab, 'run'>): Promise<boolean> {
  return tab.run(`told.some(({ type }) => type === 'ended')`)
}

export async function until(tab: Pick<Tab, 'run'>, expression: string): Promise<void> {
  // While the tab navigates there is no page to ask.
  await eventually(
    async () => ((await tab.run(`Boolean(${expression})`).catch(() => false)) === true ? true : undefined),
    expression,
  )
}
