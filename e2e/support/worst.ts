import { setTimeout as wait } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest'
import { type Browser, type Engine, launch, type Tab } from './browser.ts'
import { end, everEnded, hears, until } from './cells.ts'
import { eventually } from './eventually.ts'
import { openStage, type Play, type Stage } from './stage.ts'

const FULL = process.env.E2E_FULL === 'true'

/**
 * What may happen to tabs in the hardest place for them: third-party cookies blocked, the OP of another site.
 *
 * WebKitGTK has no hidden tab without a window manager (its windows all count as visible), so what waits in the background
 * is not tried there.
 */
export function describeWorst(engine: Engine): void {
  let stage: Stage
  let play: Play
  let browser: Browser
  beforeAll(async () => {
    stage = await openStage()
    play = stage.plays['cross-site']
  })
  afterAll(() => stage?.close())
  beforeEach(async () => {
    browser = await launch(engine, 'blocked')
  })
  afterEach(async () => {
    await play.end('ada')
    await browser?.close()
  })

  it('a network that is cut for half a minute signs nobody out, and what was missed is heard', async () => {
    const tab = await open('mail', '/auth/login')
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
    const tab = await open('mail', '/auth/login')
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
    await hears(first, 'alive')
    const others: Tab[] = []
    while (others.length < 4) others.push(await open('mail', '/'))
    for (const tab of others) await hears(tab, 'alive')
    const streams = () => stage.streams('mail', 'cross-site')
    const opened = () =>
      stage.seen.filter(({ host, path }) => host.startsWith('mail') && path.endsWith('/events')).length
    expect(streams()).toBe(1)
    const listened = opened()
    await first.close()
    await eventually(() => (opened() > listened && streams() === 1) || undefined, 'another tab to listen')
    const before = stage.seen.length
    await play.end('ada')
    for (const tab of others) await end(tab)
    expect(stage.seen.slice(before).filter(({ silent }) => silent)).toEqual([])
  })

  it('the strictest policy that the guide calls enough is enough: nothing of the monitor is refused', async () => {
    const tab = await open('mail', '/auth/login')
    await hears(tab, 'alive')
    await tab.go(`${play.url('mail')}/locked`)
    await hears(tab, 'alive')
    await until(tab, `opIframeSaid.length > 0`)
    expect(await tab.run(`violations`)).toEqual([])
    await play.end('ada')
    expect(await end(tab)).toMatchObject({ heardBy: 'push', cause: 'logout_token' })
    expect(await tab.run(`violations`)).toEqual([])
  })

  it('a page that answered a form is loaded anew without the form being sent again', async () => {
    const tab = await open('mail', '/auth/login')
    await hears(tab, 'alive')
    await tab.go(`${play.url('mail')}/form`)
    await hears(tab, 'alive')
    await tab.run(`void document.querySelector('#form button').click()`)
    await until(tab, `document.querySelector('#method').textContent === 'POST'`)
    await hears(tab, 'alive')
    const before = stage.seen.length
    await play.end('ada')
    await until(tab, `document.querySelector('#method').textContent === 'GET'`)
    expect(stage.seen.slice(before).filter(({ method, path }) => method === 'POST' && path === '/form')).toEqual([])
    expect(await tab.run(`location.hash`)).toBe('#sent')
  })

  if (engine !== 'webkit') {
    it('a tab that has been in the background for over two minutes hears within two seconds of one that is looked at', async () => {
      const tab = await open('mail', '/auth/login')
      await hears(tab, 'alive')
      const lookedAt = await open('notes', '/auth/login')
      await hears(lookedAt, 'alive')
      await lookedAt.front()
      await until(tab, `document.visibilityState === 'hidden'`)
      await wait(FULL ? 600_000 : 125_000)
      expect(await everEnded(tab)).toBe(false)
      await play.end('ada')
      const { heardAt, heardBy } = await end(tab)
      expect(heardBy).toBe('push')
      // Timers of such a tab run once a minute. By the clock of the browser itself, so that a busy machine does not count.
      expect(heardAt - (await end(lookedAt)).heardAt).toBeLessThan(2_000)
      expect(await tab.run(`document.visibilityState`)).toBe('hidden')
    }, 900_000)
  }

  // Chromium's own protocol shows more of these two: chromium-at-its-worst.test.ts.
  if (engine !== 'chromium') {
    it('a page that is left and come back to hears what it missed', async () => {
      const tab = await open('mail', '/auth/login')
      await hears(tab, 'alive')
      await tab.go(`${play.url('notes')}/`)
      await until(tab, `document.title === 'notes'`)
      await eventually(() => (stage.streams('mail', 'cross-site') === 0 ? true : undefined), 'the stream to be closed')
      await play.end('ada')
      await tab.run(`void history.back()`)
      await until(tab, `document.title.startsWith('mail')`)
      expect(await end(tab)).toMatchObject({ cause: 'logout_token' })
    })

    it('two hundred logins and logouts leave no frame or stream behind', async () => {
      const watcher = await open('mail', '/auth/login')
      const login = await open('mail', '/')
      await watcher.go(`${play.url('mail')}/bare`)
      await until(watcher, `window.watchOnce`)
      for (let round = 0; round < 200; round++) {
        await watcher.run('watchOnce()')
        await play.end('ada')
        await watcher.run('watched.then(() => true)')
        await login.go(`${play.url('mail')}/auth/login`)
      }
      expect(stage.streams('mail', 'cross-site')).toBeLessThanOrEqual(1) // that of the tab that signs in
      expect(await watcher.run(`document.querySelectorAll('iframe').length`)).toBe(0)
    }, 1_800_000)
  }

  function open(app: 'notes' | 'mail', path: string): Promise<Tab> {
    return browser.open(`${play.url(app)}${path}`)
  }
}
