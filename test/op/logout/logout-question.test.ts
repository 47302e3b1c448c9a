import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { request } from 'undici'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { sqliteStore } from '../../../src/op-sqlite.ts'
import { askForTokens, authorize, isSignedIn, logIn, logoutUrl, redeem, type Tokens } from '../../support/op-flow.ts'
import { type RpSite, startRpSite } from '../../support/rp-site.ts'
import { startTestOp, type TestOp } from '../../support/test-op.ts'
import { createUserAgent, type Page, type UserAgent } from '../../support/user-agent.ts'

let folder: string
let rps: RpSite
let op: TestOp
let browser: UserAgent
let notes: ReturnType<RpSite['client']>
let mail: ReturnType<RpSite['client']>
let tokens: Tokens
let clockAhead = 0

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lockstep-question-'))
  rps = await startRpSite()
  notes = rps.client('notes')
  mail = rps.client('mail', { client_name: 'Mail <b>& more</b>' })
  const phone = rps.client('phone', {
    application_type: 'native',
    redirect_uris: ['org.example.phone:/cb'],
    post_logout_redirect_uris: ['org.example.phone:/bye'],
  })
  op = await startTestOp({
    clients: [notes, mail, phone, rps.client('other')],
    store: sqliteStore(join(folder, 'op.db')),
    options: { runtime: { now: () => Date.now() + clockAhead } },
  })
})
afterAll(async () => {
  await op.close()
  await op.store.close()
  await rps.close()
  await rm(folder, { recursive: true })
})
beforeEach(async () => {
  clockAhead = 0
  browser = createUserAgent()
  tokens = (await logIn(browser, op, notes, { login_hint: 'ada' })).tokens
  await logIn(browser, op, mail)
})
afterEach(() => browser.close())

const ask = (params: Record<string, string> = {}): Promise<Page> => browser.open(logoutUrl(op, params))
const byNotes = () => ({ client_id: 'notes', post_logout_redirect_uri: `${rps.origin('notes')}/bye`, state: 's' })

async function expectNothingChanged(): Promise<void> {
  expect(await isSignedIn(browser, op, notes)).toBe(true)
  const userinfo = await fetch(`${op.issuer}/me`, { headers: { authorization: `Bearer ${tokens.access_token}` } })
  expect(userinfo.status).toBe(200)
  const refreshed = await askForTokens(op, notes, {
    grant_type: 'refresh_token',
    refresh_token: tokens.refresh_token ?? '',
  })
  expect(refreshed.status).toBe(200)
}

it('"no" in one tab after "yes" in another does not say that the user is still signed in', async () => {
  const [first, second] = [await ask(), await ask()]
  await browser.submit(first, { answer: 'yes' }, '/ask')
  const page = await browser.submit(second, { answer: 'no' }, '/ask')
  expect(new URL(page.url).pathname).toBe('/session/end/signed-out')
  expect(page.body).not.toContain('still signed in')
})

describe('the question', () => {
  it('names the user, the app that asks and exactly the apps that would be signed out [RPI-2-n]', async () => {
    const { body } = await ask(byNotes())
    expect(body).toContain('Notes asks to sign you out.')
    expect(body).toContain('<strong>ada the tester</strong>')
    expect(body).toContain('<li>Notes</li>')
    expect(body).toContain('<li>Mail &lt;b&gt;&amp; more&lt;/b&gt;</li>')
    expect(body).not.toContain('<li>Other</li>')
  })

  it('says when no app asked [RPI-2-n]', async () => {
    expect((await ask()).body).not.toContain('asks to sign you out')
  })

  it('offers both answers as buttons of one form that posts to the OP only [RPI-6]', async () => {
    const page = await ask()
    expect(page.body.match(/<form/g)).toHaveLength(1)
    expect(page.body).toContain('<button name="answer" value="yes">')
    expect(page.body).toContain('<button name="answer" value="no"')
    expect(page.header('content-security-policy')).toContain("form-action 'self';")
  })

  it('lets the form lead on to the app that asked and from there wherever that app leads [RPI-3-a]', async () => {
    // Browsers hold form-action against every redirect that follows, the app's own included.
    expect((await ask(byNotes())).header('content-security-policy')).not.toContain('form-action')
  })
})

describe('the answer yes', () => {
  it('logs out and returns to the app that asked [RPI-2-p]', async () => {
    const page = await browser.submit(await ask(byNotes()), { answer: 'yes' })
    expect(page.url).toBe(`${rps.origin('notes')}/bye?state=s`)
    expect(await isSignedIn(browser, op, notes)).toBe(false)
  })

  it('with only a redirect URI logs out and returns to nobody [RPI-3-b] [E6]', async () => {
    const { post_logout_redirect_uri } = byNotes()
    const page = await browser.submit(await ask({ post_logout_redirect_uri }), { answer: 'yes' })
    expect(page.url).toBe(`${op.issuer}/session/end/signed-out`)
    expect(await isSignedIn(browser, op, notes)).toBe(false)
  })

  it('works in a second tab that has been asking all along [RPI-4-b]', async () => {
    const [first, second] = [await ask(byNotes()), await ask()]
    const one = await browser.submit(first, { answer: 'yes' })
    expect(one.url).toBe(`${rps.origin('notes')}/bye?state=s`)
    const two = await browser.submit(second, { answer: 'yes' })
    expect(two.url).toBe(`${op.issuer}/session/end/signed-out`)
    expect(await isSignedIn(browser, op, notes)).toBe(false)
  })

  it('takes the OP cookie away and tells the browser what happened in a cookie of its own [T14]', async () => {
    await browser.submit(await ask(), { answer: 'yes' })
    const cookies = browser.cookies(op.issuer)
    expect(cookies.filter(({ name }) => name.startsWith('__Host-op_session'))).toEqual([])
    const receipts = cookies.filter(({ name }) => name.startsWith('__Host-op_logout.'))
    expect(receipts).toMatchObject([{ httpOnly: true, sameSite: 'strict', path: '/' }])
  })
})

describe('the answer no', () => {
  it('keeps OP session, tokens and RPs as they are and goes nowhere [RPI-2-n] [E11]', async () => {
    const before = rps.log.length
    const page = await browser.submit(await ask(byNotes()), { answer: 'no' })
    expect(page.status).toBe(200)
    expect(page.body).toContain('You are still signed in')
    expect(rps.log.slice(before)).toEqual([])
    await expectNothingChanged()
  })

  it('is what anything but yes means [E11]', async () => {
    for (const answer of ['', 'YES', 'on', 'true']) await browser.submit(await ask(), { answer })
    await expectNothingChanged()
  })

  it('in one tab does not spoil yes in another [RPI-4-b]', async () => {
    const [first, second] = [await ask(), await ask()]
    await browser.submit(first, { answer: 'no' })
    await browser.submit(second, { answer: 'yes' })
    expect(await isSignedIn(browser, op, notes)).toBe(false)
  })
})

describe('an answer is refused and changes nothing', () => {
  const post = (fields: Record<string, string>, headers: Record<string, string> = {}) =>
    browser.fetch(op.issuer, `${op.issuer}/session/end/ask`, {
      method: 'POST',
      body: new URLSearchParams(fields).toString(),
      headers,
    })
  const sealedOn = (page: Page) => /name="request" value="([^"]+)"/.exec(page.body)?.[1] ?? ''

  it.each([
    ['is missing', {}],
    ['is empty', { request: '' }],
    ['is made up', { request: 'eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0..AAAA.AAAA.AAAA' }],
  ])('when the question it answers %s [RPI-6] [E12]', async (_what, fields) => {
    const page = await post({ ...fields, answer: 'yes' })
    expect(page.status).toBe(400)
    expect(page.body).toContain('Code: logout_answer_invalid')
    await expectNothingChanged()
  })

  it('when the question was asked of another OP session, such as an attacker’s own [RPI-6] [E12]', async () => {
    const attacker = createUserAgent()
    await logIn(attacker, op, notes, { login_hint: 'mallory' })
    const theirs = sealedOn(await attacker.open(logoutUrl(op)))
    const page = await post({ request: theirs, answer: 'yes' })
    expect(page.status).toBe(400)
    expect(page.body).toContain('Code: logout_answer_outdated')
    await expectNothingChanged()
    expect(await isSignedIn(attacker, op, notes)).toBe(true)
    await attacker.close()
  })

  it('when the user signed in again since [RPI-6] [E12]', async () => {
    const old = sealedOn(await ask())
    await browser.submit(await ask(), { answer: 'yes' })
    tokens = (await logIn(browser, op, notes)).tokens
    expect((await post({ request: old, answer: 'yes' })).status).toBe(400)
    await expectNothingChanged()
  })

  it('when the question is older than 15 minutes [RPI-6]', async () => {
    const page = await ask()
    clockAhead = 16 * 60_000
    const answered = await browser.submit(page, { answer: 'yes' })
    expect(answered.status).toBe(400)
    expect(answered.body).toContain('older than 15 minutes')
    await expectNothingChanged()
  })

  it.each([
    ['another site', { origin: 'https://evil.example', 'sec-fetch-site': 'cross-site' }],
    [
      'another site, spelled as the OP in the path',
      { origin: 'https://evil.example/localhost', 'sec-fetch-site': 'cross-site' },
    ],
    ['a sandboxed frame', { origin: 'null', 'sec-fetch-site': 'cross-site' }],
    ['a sandboxed frame that says same-origin', { origin: 'null', 'sec-fetch-site': 'same-origin' }],
    ['another port of the same host', { origin: 'http://localhost:1', 'sec-fetch-site': 'same-site' }],
  ])('when it was posted by %s [T5] [E12]', async (_who, headers) => {
    const page = await post({ request: sealedOn(await ask()), answer: 'yes' }, headers)
    expect(page.status).toBe(403)
    expect(page.body).toContain('Code: logout_answer_cross_origin')
    await expectNothingChanged()
  })

  it.each([
    ['neither Origin nor Fetch Metadata', {}],
    ['Fetch Metadata of the address bar', { 'sec-fetch-site': 'none' }],
  ])('when it comes from nowhere: %s [T5] [E12]', async (_what, more) => {
    const body = new URLSearchParams({ request: sealedOn(await ask()), answer: 'yes' }).toString()
    const cookie = browser.cookies(op.issuer).map(({ name, value }) => `${name}=${value}`)
    const headers = { cookie: cookie.join('; '), 'content-type': 'application/x-www-form-urlencoded', ...more }
    // not by fetch, which says by itself where it comes from
    const { statusCode, body: page } = await request(`${op.issuer}/session/end/ask`, { method: 'POST', headers, body })
    await page.dump()
    expect(statusCode).toBe(403)
    await expectNothingChanged()
  })

  it('but one header is enough: Fetch Metadata without Origin [T5]', async () => {
    const body = new URLSearchParams({ request: sealedOn(await ask()), answer: 'yes' }).toString()
    const cookie = browser.cookies(op.issuer).map(({ name, value }) => `${name}=${value}`)
    const headers = {
      cookie: cookie.join('; '),
      'content-type': 'application/x-www-form-urlencoded',
      'sec-fetch-site': 'same-origin',
    }
    const { statusCode, body: page } = await request(`${op.issuer}/session/end/ask`, { method: 'POST', headers, body })
    await page.dump()
    expect(statusCode).toBe(303)
    expect(await isSignedIn(browser, op, notes)).toBe(false)
  })
})

describe('the page that asks', () => {
  it('asks anew when its question is of another login, too old or made up', async () => {
    const old = (await ask(byNotes())).url
    await browser.submit(await ask(), { answer: 'yes' })
    await logIn(browser, op, notes)
    for (const url of [old, `${op.issuer}/session/end/ask?request=x`, `${op.issuer}/session/end/ask`]) {
      const page = await browser.open(url)
      expect(page.status).toBe(200)
      expect(page.url).not.toBe(url)
      expect(page.body).toContain('Sign out everywhere?')
      expect(page.body).not.toContain('Notes asks')
    }
  })

  it('says that you are signed out when you are', async () => {
    const { url } = await ask()
    await browser.submit(await ask(), { answer: 'yes' })
    expect((await browser.open(url)).url).toBe(`${op.issuer}/session/end/signed-out`)
  })
})

describe('the page after a logout', () => {
  it('shows each app and how it went, and this browser only [T14]', async () => {
    await browser.submit(await ask(), { answer: 'yes' })
    const page = await browser.open(`${op.issuer}/session/end/signed-out`)
    expect(page.body).toContain('<span>Notes</span>')
    expect(page.body).toContain('<span>Mail &lt;b&gt;&amp; more&lt;/b&gt;</span>')
    expect(page.body).not.toContain('<span>Other</span>')
    expect(page.body).toContain('You are signed out of 2 apps')
    const other = createUserAgent()
    expect((await other.open(`${op.issuer}/session/end/signed-out`)).body).not.toContain('Notes')
    await other.close()
  })
})

describe('when the store fails in the middle of a logout', () => {
  /** SQLite itself refuses the row: a full disk or a broken page looks the same from here. */
  async function whileStoreFails(table: string, work: () => Promise<void>): Promise<void> {
    const db = new Database(join(folder, 'op.db'))
    db.exec(`CREATE TRIGGER broken BEFORE INSERT ON ${table} BEGIN SELECT RAISE(ABORT, 'the disk is full'); END`)
    try {
      await work()
    } finally {
      db.exec('DROP TRIGGER broken')
      db.close()
    }
  }

  it.each([
    'tombstone',
    'logout',
    'delivery',
  ])('at the table %s the user sees an error and is still signed in, nothing is revoked, nobody is told [design §4]', async (table) => {
    const before = rps.log.length
    const asked = await ask()
    await whileStoreFails(table, async () => {
      for (const page of [
        await browser.open(logoutUrl(op, { id_token_hint: tokens.id_token })),
        await browser.submit(asked, { answer: 'yes' }),
      ]) {
        expect(page.status).toBe(500)
        expect(page.body).toContain('You may still be signed in') // a commit may fail after it was made
        expect(page.body).toContain('Code: server_error')
        expect(page.body).not.toMatch(/disk is full|SQLITE|\.ts:/i)
      }
      await expectNothingChanged()
    })
    expect(op.failures.map(({ message }) => message).join()).toContain('the disk is full')
    expect(rps.log.slice(before).filter((line) => line.startsWith('logout'))).toEqual([])

    await browser.submit(asked, { answer: 'yes' }) // the same question still works
    expect(await isSignedIn(browser, op, notes)).toBe(false)
  })

  it('a code that was on its way still redeems [design §4]', async () => {
    const { code } = await authorize(browser, op, notes, { prompt: 'none' })
    await whileStoreFails('delivery', async () => {
      await browser.open(logoutUrl(op, { id_token_hint: tokens.id_token }))
    })
    await expect(redeem(op, notes, code)).resolves.toHaveProperty('id_token')
  })
})
