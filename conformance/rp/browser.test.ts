import type { Page as Tab } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type Chromium, launchChromium } from '../../e2e/support/chromium.ts'
import { eventually } from '../../e2e/support/eventually.ts'
import { type RpUnderTest, startRp } from './app-program.ts'

let rp: RpUnderTest
let chromium: Chromium

beforeAll(async () => {
  rp = await startRp()
})
afterAll(() => rp.close())
beforeEach(async () => {
  chromium = await launchChromium({ thirdPartyCookies: 'allowed' })
  rp.op.endSession()
})
afterEach(async () => {
  await chromium.close()
  expect(rp.op.problems).toEqual([])
})

const statusOfSession = (tab: Tab) => tab.evaluate(async () => (await fetch('/auth/session')).status)

describe('oidcc-client-front-channel-logout-rp-basic', () => {
  it('is framed with iss and sid during its own logout, and the browser comes back [oidcc-client-test-rp-frontchannel-rpinitlogout] [FCL-2-d]', async () => {
    rp.op.script = { frame: true }
    const tab = await chromium.openTab(`${rp.url}/auth/login`)
    const framed = tab.waitForResponse((response) => response.url().includes('/auth/frontchannel-logout'))
    await tab.goto(`${rp.url}/auth/logout`)
    await tab.getByRole('button', { name: 'Sign out everywhere' }).click()
    expect((await framed).status()).toBe(200)
    await tab.waitForURL(`${rp.url}/auth/logged-out**`)
    await tab.goto(rp.url)
    expect(await statusOfSession(tab)).toBe(401)
  })

  it('takes both notices of one logout at once, by frame and by Logout Token [oidcc-client-test-rp-init-logout] [FCL-2-d] [BCL-2.8-a]', async () => {
    rp.op.script = { frame: true, token: (claims) => rp.op.sign(claims) }
    const tab = await chromium.openTab(`${rp.url}/auth/login`)
    const other = await chromium.openTab(rp.url)
    const framed = tab.waitForResponse((response) => response.url().includes('/auth/frontchannel-logout'))
    await tab.bringToFront()
    await tab.goto(`${rp.url}/auth/logout`)
    await tab.getByRole('button', { name: 'Sign out everywhere' }).click()
    expect((await framed).status()).toBe(200)
    await tab.waitForURL(`${rp.url}/auth/logged-out**`)
    expect(rp.op.received.at(-1)?.status).toBe(200)
    await other.getByText('signed out').first().waitFor()
    expect(await statusOfSession(other)).toBe(401)
  })

  it('is framed when the OP logs out by itself, and the open tab signs out [oidcc-client-test-rp-frontchannel-opinitlogout] [FCL-2-d]', async () => {
    const tab = await chromium.openTab(`${rp.url}/auth/login`)
    expect(await statusOfSession(tab)).toBe(200)
    const { iss, sid } = rp.op.claims()
    const frame = `${rp.registered.frontchannelLogoutUri}?${new URLSearchParams({ iss: `${iss}`, sid: `${sid}` })}`
    const op = await chromium.openTab(`${rp.op.issuer}/iframe`)
    await op.evaluate((src) => {
      const element = document.createElement('iframe')
      element.src = src
      document.body.append(element)
    }, frame)
    await tab.bringToFront()
    await tab.getByText('signed out').first().waitFor()
    expect(await statusOfSession(tab)).toBe(401)
  })
})

describe('oidcc-client-rp-session-management-rp-basic', () => {
  it('asks the OP iframe while all is well, and once more after a logout elsewhere, then asks the OP and signs out [oidcc-client-test-session-management] [SM-3.1-d/e/i]', async () => {
    rp.op.script = {}
    const from = rp.op.log.length
    const tab = await chromium.openTab(`${rp.url}/auth/login`)
    await tab.bringToFront()
    const seen = () => rp.op.log.slice(from)
    // After the first answer prompt=none is tried once, while the End-User is signed in; the second answer comes after that.
    const unchanged = () => seen().filter((what) => what === 'message unchanged').length
    await eventually(() => unchanged() > 1 || undefined, 'two answers of the OP iframe')
    expect(seen()).toContain('iframe')
    rp.op.endSession()
    await eventually(() => seen().includes('message changed') || undefined, 'a changed')
    const changed = seen().indexOf('message changed')
    await eventually(() => seen().includes('authorize none', changed) || undefined, 'the silent check')
    await tab.getByText('signed out').first().waitFor()
    expect(await statusOfSession(tab)).toBe(401)
  })
})
