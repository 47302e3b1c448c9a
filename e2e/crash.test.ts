import { join } from 'node:path'
import Database from 'better-sqlite3'
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest'
import { type Chromium, launchChromium } from './support/chromium.ts'
import { type Demo, startDemo } from './support/demo.ts'
import { eventually } from './support/eventually.ts'
import { signedOut, signIn, signOutIn, strip } from './support/user.ts'

let demo: Demo
let chromium: Chromium
beforeAll(async () => {
  chromium = await launchChromium({ thirdPartyCookies: 'blocked' })
})
afterAll(() => chromium?.close())
beforeEach(async () => {
  demo = await startDemo()
})
afterEach(() => demo?.stop())

it('kill -9 of the OP in the middle of a logout: once it is back, the other app’s tab signs out', async () => {
  const notes = await signIn(chromium, demo.url('Notes'))
  const mail = await signIn(chromium, demo.url('Mail'))
  process.kill(demo.pid('Mail'), 'SIGSTOP') // so the OP is still telling it when it dies
  await Promise.all([logoutIsRecorded(), signOutIn(notes)])
  process.kill(demo.pid('OpenID Provider'), 'SIGKILL')
  process.kill(demo.pid('Mail'), 'SIGKILL') // with the notice it had not read
  await demo.startApp('Mail')
  await mail.getByText('push connected').waitFor()
  expect(await strip(mail)).toContain('alive')
  await demo.startServer()
  expect(await signedOut(mail)).toContain('You signed out of Notes at')
})

it('kill -9 of the OP as soon as a logout is recorded: the other app’s tab signs out all the same', async () => {
  const notes = await signIn(chromium, demo.url('Notes'))
  const mail = await signIn(chromium, demo.url('Mail'))
  await Promise.all([logoutIsRecorded(), signOutIn(notes)])
  process.kill(demo.pid('OpenID Provider'), 'SIGKILL')
  await demo.startServer()
  expect(await signedOut(mail)).toContain('You signed out of Notes at')
})

it('an app that is down during a logout is signed out when it comes back', async () => {
  const notes = await signIn(chromium, demo.url('Notes'))
  const mail = await signIn(chromium, demo.url('Mail'))
  process.kill(demo.pid('Mail'), 'SIGKILL')
  await mail.getByText('cannot reach this app').waitFor()
  await signOutIn(notes)
  await notes.getByRole('heading', { name: 'Signed out' }).waitFor()
  expect(await mail.getByRole('heading', { name: 'Signed out' }).count()).toBe(0)
  await demo.startApp('Mail')
  expect(await signedOut(mail)).toContain('You signed out of Notes at')
})

/** Watches the OP's own file, since what its pages say comes later. */
async function logoutIsRecorded(): Promise<void> {
  const db = new Database(join(demo.data, 'op.db'), { readonly: true })
  const logouts = db.prepare('SELECT count(*) FROM logout').pluck()
  await eventually(() => (Number(logouts.get()) > 0 ? true : undefined), 'the logout to be recorded')
  db.close()
}
