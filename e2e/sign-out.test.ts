import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type Chromium, launchChromium } from './support/chromium.ts'
import { type Demo, startDemo } from './support/demo.ts'
import { signedOut, signIn, signOutAtOp, signOutIn } from './support/user.ts'

let demo: Demo
beforeAll(async () => {
  demo = await startDemo()
})
afterAll(() => demo?.stop())

describe.each(['allowed', 'blocked'] as const)('with third-party cookies %s', (thirdPartyCookies) => {
  let chromium: Chromium
  beforeEach(async () => {
    chromium = await launchChromium({ thirdPartyCookies })
  })
  afterEach(() => chromium?.close())

  it('a logout in one app signs out the other app’s tab in the background, without a reload', async () => {
    const mail = await signIn(chromium, demo.url('Mail'))
    const notes = await signIn(chromium, demo.url('Notes'))
    await expect.poll(() => mail.evaluate(() => document.visibilityState)).toBe('hidden')
    await signOutIn(notes)
    expect(await signedOut(mail)).toMatch(
      /You signed out of Notes at \d\d:\d\d:\d\d; this tab knew \d+\sms later, by push\./,
    )
    expect(await mail.title()).toBe('Signed out · Mail')
    await notes.getByRole('heading', { name: 'Signed out' }).waitFor()
    expect(await mail.evaluate(() => document.visibilityState)).toBe('hidden')
  })

  it('a logout on the OP’s own page signs out the tabs of both apps', async () => {
    const notes = await signIn(chromium, demo.url('Notes'))
    const mail = await signIn(chromium, demo.url('Mail'))
    const op = await signOutAtOp(chromium, demo.issuer)
    await op.getByText('You are signed out of 2 apps').waitFor()
    expect(await signedOut(notes)).toMatch(/signed out/i)
    expect(await signedOut(mail)).toMatch(/signed out/i)
  })

  it('every tab of an app signs out, however many there are, and one of them listens for all', async () => {
    const streams: string[] = []
    chromium.context.on('request', (request) => {
      if (request.url() === `${demo.url('Mail')}/auth/session/events`) streams.push(request.url())
    })
    const first = await signIn(chromium, demo.url('Mail'))
    const more = await Promise.all([1, 2, 3, 4, 5, 6, 7].map(() => chromium.openTab(demo.url('Mail'))))
    for (const tab of more) await tab.getByText('alive').waitFor()
    expect(streams).toHaveLength(1)
    const notes = await signIn(chromium, demo.url('Notes'))
    await first.close() // it held the stream
    await expect.poll(() => streams).toHaveLength(2)
    await signOutIn(notes)
    for (const tab of more) await tab.getByRole('heading', { name: 'Signed out' }).waitFor()
  })

  it('signing out of one app only leaves the other alone', async () => {
    const notes = await signIn(chromium, demo.url('Notes'))
    const mail = await signIn(chromium, demo.url('Mail'))
    await signOutIn(notes, 'only from this app')
    await notes.getByRole('heading', { name: 'Signed out' }).waitFor()
    await mail.reload()
    await mail.getByText('push connected').waitFor()
  })
})
