import type { ServerResponse } from 'node:http'
import { setTimeout as wait } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest'
import { type Browser, launch, type Tab } from '../support/browser.ts'
import { end, everEnded, hears, until } from '../support/cells.ts'
import { openStage, type Play, type Stage, type StageApp } from '../support/stage.ts'

/* OPs that are not ours, in a browser that lets frames of another site have their cookies: nobody is signed out by them. */

let stage: Stage
let play: Play
let browser: Browser
beforeAll(async () => {
  stage = await openStage()
  play = stage.plays['cross-site']
})
afterAll(() => stage?.close())
beforeEach(async () => {
  browser = await launch('chromium', 'allowed')
})
afterEach(async () => {
  play.twist = undefined
  await play.end('ada')
  await browser?.close()
})

it('an OP whose iframe never answers is left alone, and the push still arrives', async () => {
  play.twist = ({ url }, response) => isOpIframe(url) && show(response, 'nothing to say')
  const { mail, page } = await signIn()
  await until(mail, `!document.querySelector('iframe')`) // given up
  await page.front()
  await until(page, `!document.querySelector('iframe')`)
  expect(await page.run(`monitor.blind`)).toBe(true)
  await staysSignedIn(mail, page)
})

it('an OP whose iframe says changed for ever is left alone, and the push still arrives', async () => {
  const script = `<script>addEventListener('message', ({ source, origin }) => source.postMessage('changed', origin))</script>`
  play.twist = ({ url }, response) => isOpIframe(url) && show(response, script)
  const { mail, page } = await signIn()
  await page.front()
  await until(page, `opIframeSaid.includes('changed') && !document.querySelector('iframe')`)
  await mail.front()
  await until(mail, `opIframeSaid.includes('changed') && !document.querySelector('iframe')`)
  await staysSignedIn(mail, page)
  // The page's own: one at its start, and one that looks into the first changed.
  expect(stage.seen.filter(({ silent }) => silent).length).toBeLessThanOrEqual(2)
  expect(await page.run(`monitor.blind`)).toBe(true)
})

it('an OP that shows a login page to prompt=none is asked once by five tabs, and signs nobody out', async () => {
  play.twist = ({ url = '' }, response) =>
    url.startsWith('/auth?') && url.includes('prompt=none') && show(response, '<h1>Sign in</h1><form></form>')
  stage.seen.length = 0
  const mail = await browser.open(`${play.url('mail')}/auth/login`)
  await hears(mail, 'alive')
  await until(mail, `opIframeSaid.length > 2`) // asked again: the silent check is over
  for (let more = 0; more < 4; more++) {
    const tab = await browser.open(`${play.url('mail')}/`)
    await hears(tab, 'alive')
    await until(tab, `opIframeSaid.length > 2`)
  }
  expect(silentChecks('mail')).toBe(1)
  const page = await openPage()
  await hears(page, 'unknown')
  expect(await page.run(`monitor.blind`)).toBe(true)
  await staysSignedIn(mail, page)
})

it('an OP whose session cookie is SameSite=Lax beside a readable state is not believed when it says login_required', async () => {
  play.twist = (_request, response) => {
    makeLax(response)
    return false
  }
  const { mail: wiki } = await signIn('wiki')
  await until(wiki, `told.at(-1).silentCheck === 'refused' && !document.querySelector('iframe')`)
  expect(silentChecks('wiki')).toBe(1)
  // The OP's state changes, and the same End-User is signed in when it is asked.
  await play.end('ada')
  const again = await browser.open(`${play.url('notes')}/auth/login`)
  await hears(again, 'alive')
  await wiki.front()
  await wait(5_000)
  expect(await everEnded(wiki)).toBe(false)
  expect(silentChecks('wiki')).toBe(1)
})

async function signIn(app: 'mail' | 'wiki' = 'mail'): Promise<{ mail: Tab; page: Tab }> {
  stage.seen.length = 0
  const mail = await browser.open(`${play.url(app)}/auth/login`)
  await hears(mail, 'alive')
  if (app === 'wiki') return { mail, page: mail }
  const page = await openPage()
  await hears(page, 'alive')
  await mail.front()
  return { mail, page }
}

async function openPage(): Promise<Tab> {
  const page = await browser.open(`${play.url('page')}/`)
  await until(page, `document.title === 'page: nobody'`)
  await page.run(`void signIn()`)
  return page
}

/** Nobody is signed out by what the OP's frames say; by the OP's word to the app, and only there. */
async function staysSignedIn(mail: Tab, page: Tab): Promise<void> {
  await wait(5_000)
  expect(await everEnded(mail)).toBe(false)
  expect(await everEnded(page)).toBe(false)
  await play.end('ada')
  expect(await end(mail)).toMatchObject({ heardBy: 'push', cause: 'logout_token' })
  expect(await everEnded(page)).toBe(false)
}

function silentChecks(app: StageApp): number {
  return stage.seen.filter(({ host, path }) => host.startsWith(app) && path === '/auth/silent-check').length
}

function isOpIframe(url = ''): boolean {
  return url.startsWith('/session/check')
}

function show(response: ServerResponse, body: string): true {
  response.setHeader('content-type', 'text/html').end(`<!doctype html><title>OP</title>${body}`)
  return true
}

/** Makes the cookies that scripts cannot read `SameSite=Lax`, as many an OP's session cookie is. */
function makeLax(response: ServerResponse): void {
  const setHeader = response.setHeader.bind(response)
  response.setHeader = (name, value) => {
    const lax = (line: string) => (/httponly/i.test(line) ? line.replace(/samesite=none/i, 'SameSite=Lax') : line)
    const isCookie = name.toLowerCase() === 'set-cookie'
    return setHeader(name, isCookie ? [value].flat().map((line) => lax(`${line}`)) : value)
  }
}
