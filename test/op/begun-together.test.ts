import type { Configuration } from 'oidc-provider'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { OpStore } from '../../src/op.ts'
import { postgresStore } from '../../src/op-postgres.ts'
import { sqliteStore } from '../../src/op-sqlite.ts'
import { authorizationUrl, authorize, isSignedIn, logIn, logoutUrl, redeem } from '../support/op-flow.ts'
import { hasPostgres, startPostgres, type TestPostgres } from '../support/postgres.ts'
import { type RpSite, startRpSite } from '../support/rp-site.ts'
import { startTestOp, type TestOp } from '../support/test-op.ts'
import { createUserAgent, type UserAgent } from '../support/user-agent.ts'

/*
 * What one browser begins at the same moment: its requests leave before the first is answered, so none knows of the others,
 * and of the OP cookies that come back the last one stays. Where a test needs that to the letter, each tab is a browser of its
 * own at first, and then one takes the cookies of all.
 */

const NAMES = ['a', 'b', 'c', 'd', 'e']

let postgres: TestPostgres | undefined
let rps: RpSite
let op: TestOp
let browser: UserAgent
const opened: { close(): Promise<unknown> }[] = []

beforeAll(async () => {
  if (hasPostgres) postgres = await startPostgres()
}, 60_000)
afterAll(() => postgres?.close())
beforeEach(async () => {
  rps = await startRpSite()
  browser = createUserAgent()
  opened.push(rps, browser)
})
afterEach(async () => {
  for (const each of opened.splice(0).reverse()) await each.close()
})

async function start(
  stores: readonly OpStore[] = [sqliteStore(':memory:')],
  configuration: Configuration = {},
  names: readonly string[] = NAMES,
) {
  const [store, ...otherNodes] = stores
  if (!store) throw new Error('not reached')
  opened.push(...stores)
  op = await startTestOp({ clients: names.map((name) => rps.client(name)), store, otherNodes, configuration })
  opened.push(op)
}

function newTab(): UserAgent {
  const tab = createUserAgent()
  opened.push(tab)
  return tab
}

/** The browser takes the cookies that came back to a tab: of each name the last one stays. */
function take(tab: UserAgent): void {
  for (const { name, value, path, sameSite, httpOnly } of tab.cookies(op.issuer)) {
    const line = `${name}=${value}; Path=${path}; SameSite=${sameSite}; Secure${httpOnly ? '; HttpOnly' : ''}`
    browser.setCookie(op.issuer, line)
  }
}

const left = async (accountId = 'ada') =>
  (await op.provider.opSessions.list({ accountId })).sessions.flatMap(({ clients }) => clients.map((c) => c.clientId))

async function logOut(): Promise<string> {
  const question = await browser.open(logoutUrl(op))
  return (await browser.submit(question, { answer: 'yes' }, '/ask')).body
}

const loginCookies = () => browser.cookies(op.issuer).filter(({ name }) => name.startsWith('__Host-op_login.'))

describe.each([
  ['SQLite', () => [sqliteStore(':memory:')]],
  [
    'two nodes on one PostgreSQL',
    () => {
      const { connectionString = '' } = postgres ?? {}
      return [1, 2].map(() => postgresStore({ connectionString, schema: 'begun_together' }))
    },
  ],
] as const)('five tabs that are restored together: %s', (name, stores) => {
  it.skipIf(name !== 'SQLite' && !hasPostgres)('sign in, and one logout tells all five apps [BCL-2.3-a]', async () => {
    await start(stores())
    const answers = await Promise.all(NAMES.map((each) => authorize(browser, op, rps.client(each))))
    for (const [i, answer] of answers.entries()) await redeem(op, rps.client(NAMES[i] ?? ''), answer.code)
    expect((await left()).sort()).toEqual(NAMES)

    await logOut()
    expect(await left()).toEqual([])
    expect((await rps.received(5)).map(({ app }) => app).sort()).toEqual(NAMES)
    expect(loginCookies()).toEqual([])
  })

  it.skipIf(name !== 'SQLite' && !hasPostgres)(
    'are ended together by an operator once the browser has been back',
    async () => {
      await start(stores())
      await Promise.all(NAMES.map((each) => authorize(browser, op, rps.client(each))))
      expect(await isSignedIn(browser, op, rps.client('a'))).toBe(true)
      const [session] = (await op.provider.opSessions.list({ accountId: 'ada' })).sessions
      await op.provider.opSessions.end(session?.uid ?? '')
      expect(await left()).toEqual([])
      const told = async () => [...new Set((await rps.received(5)).map(({ app }) => app))].sort()
      await expect.poll(told).toEqual(NAMES) // of "a" two RP sessions end, where the question was asked in another OP session
    },
  )
})

describe('logins that were begun together', () => {
  beforeEach(async () => {
    await start()
    for (const name of ['a', 'b', 'c']) {
      const tab = newTab()
      await logIn(tab, op, rps.client(name))
      take(tab)
    }
    expect((await op.provider.opSessions.list({ accountId: 'ada' })).sessions).toHaveLength(3)
  })

  it('all end with one logout, and its page shows the apps of all [BCL-2.3-a]', async () => {
    const page = await logOut()
    expect(await left()).toEqual([])
    for (const name of ['A', 'B', 'C']) expect(page).toContain(`>${name}<`)
  })

  it('at one app are one line on that page, and the worst that is known of it is what it says', async () => {
    const tab = newTab()
    await logIn(tab, op, rps.client('a'))
    take(tab)
    let notices = 0
    rps.answer('a', (response) => {
      notices += 1
      response.writeHead(notices === 1 ? 200 : 503).end()
    })
    const page = await logOut()
    expect(page.match(/<span>A<\/span>/g)).toHaveLength(1)
    expect(page).toContain('You are signed out here, and of 2 of 3 apps')
    const answer = await browser.fetch(op.issuer, `${op.issuer}/session/end/signed-out`, {
      headers: { accept: 'application/json' },
    })
    const { apps } = JSON.parse(answer.body) as { apps: { app: string; state: string }[] }
    expect(apps.map(({ app, state }) => [app, state])).toEqual([
      ['A', 'due'],
      ['B', 'delivered'],
      ['C', 'delivered'],
    ])
  })

  it('all end when an operator ends one of them, once the browser has been back', async () => {
    await isSignedIn(browser, op, rps.client('c'))
    const { sessions } = await op.provider.opSessions.list({ accountId: 'ada' })
    const uid = sessions.find(({ clients }) => clients[0]?.clientId === 'a')?.uid ?? ''
    const logoutId = await op.provider.opSessions.end(uid, { actor: 'root@example' })
    expect((await op.provider.receipts.get(logoutId ?? ''))?.apps.map(({ clientId }) => clientId)).toEqual(['a'])
    expect(await left()).toEqual([])
    expect((await rps.received(3)).map(({ app }) => app).sort()).toEqual(['a', 'b', 'c'])
  })

  it('stay when an operator ends what is over already', async () => {
    await isSignedIn(browser, op, rps.client('c'))
    const { sessions } = await op.provider.opSessions.list({ accountId: 'ada' })
    const uid = sessions.find(({ clients }) => clients.some(({ clientId }) => clientId === 'a'))?.uid ?? ''
    await op.provider.opSessions.endAll({ clientId: 'a' })
    expect(await op.provider.opSessions.end(uid)).toBeUndefined()
    expect(await left()).toHaveLength(2)
  })

  it('are not ended with one of them by a browser that only saw some', async () => {
    const stranger = newTab()
    await logIn(stranger, op, rps.client('d'))
    await isSignedIn(browser, op, rps.client('c'))
    const { sessions } = await op.provider.opSessions.list({ accountId: 'ada' })
    await op.provider.opSessions.end(sessions.find(({ clients }) => clients[0]?.clientId === 'a')?.uid ?? '')
    expect(await left()).toEqual(['d'])
  })

  it('are all named in the question', async () => {
    const { body } = await browser.open(logoutUrl(op))
    for (const name of ['A', 'B', 'C']) expect(body).toContain(`>${name}<`)
  })

  it('are joined by the next login', async () => {
    browser.setCookie(op.issuer, `${op.provider.cookieName('session')}=gone; Path=/; Secure; SameSite=None`)
    await logIn(browser, op, rps.client('d'))
    expect((await op.provider.opSessions.list({ accountId: 'ada' })).sessions).toHaveLength(3)
    await logOut()
    expect(await left()).toEqual([])
  })

  it('end although the OP cookie is of none of them any more', async () => {
    browser.setCookie(op.issuer, `${op.provider.cookieName('session')}=gone; Path=/; Secure; SameSite=None`)
    await logOut()
    expect(await left()).toEqual([])
  })

  it('end when somebody else signs in in this browser: a user switch [SM-3.2-g]', async () => {
    await logIn(browser, op, rps.client('d'), { login_hint: 'bob', prompt: 'login' })
    expect(await left()).toEqual([])
    expect(await left('bob')).toEqual(['d'])
    expect((await rps.received(3)).map(({ app }) => app).sort()).toEqual(['a', 'b', 'c'])
    expect(loginCookies()).toHaveLength(1)
  })

  it('are not ended by another browser: by a cookie that says so, or is that of something else [T6]', async () => {
    const stranger = newTab()
    await logIn(stranger, op, rps.client('d'), { login_hint: 'bob', prompt: 'login' })
    const [session] = (await op.provider.opSessions.list({ accountId: 'ada' })).sessions
    const [cookie] = loginCookies()
    const question = new URL((await stranger.open(logoutUrl(op))).url).searchParams.get('request')
    for (const [i, value] of [session?.uid, question, cookie?.value.slice(0, -1), ''].entries()) {
      stranger.setCookie(op.issuer, `${cookie?.name}${i}=${value}; Path=/; Secure; SameSite=None`)
    }
    const page = await stranger.open(logoutUrl(op))
    await stranger.submit(page, { answer: 'yes' }, '/ask')
    expect(await left('bob')).toEqual([])
    expect((await left()).sort()).toEqual(['a', 'b', 'c'])
  })

  it('open nothing by that cookie alone [T6]', async () => {
    for (const { name, value } of loginCookies()) {
      const thief = newTab()
      thief.setCookie(op.issuer, `${name}=${value}; Path=/; Secure; SameSite=None`)
      thief.setCookie(op.issuer, `${op.provider.cookieName('session')}=${value}; Path=/; Secure; SameSite=None`)
      expect(await isSignedIn(thief, op, rps.client('a'))).toBe(false)
    }
  })

  it('are still ended when the browser carries many more cookies of that name', async () => {
    for (let i = 0; i < 60; i++) browser.setCookie(op.issuer, `${loginCookies()[0]?.name}${i}=x; Path=/; Secure`)
    await logOut()
    expect(await left()).toEqual([])
  })
})

describe('thirty tabs that are restored together', () => {
  const MANY = Array.from({ length: 30 }, (_, i) => `app${i}`)

  beforeEach(async () => {
    await start(undefined, undefined, MANY)
    for (const name of MANY) {
      const tab = newTab()
      await logIn(tab, op, rps.client(name))
      take(tab)
    }
    expect(await left()).toHaveLength(30)
  })

  it('are signed out by one logout, and its page shows all thirty apps [BCL-2.3-a]', async () => {
    const page = await logOut()
    expect(await left()).toEqual([])
    expect(page.match(/<span>APP\d+<\/span>/gi)).toHaveLength(30)
  })

  it('are signed out by one user switch [SM-3.2-g]', async () => {
    await logIn(browser, op, rps.client('app0'), { login_hint: 'bob', prompt: 'login' })
    expect(await left()).toEqual([])
    expect(await left('bob')).toEqual(['app0'])
  })
})

it('an ID Token of each of them logs out without a question: all are of this browser [RPI-2-a]', async () => {
  await start()
  const hints: string[] = []
  for (const name of ['a', 'b']) {
    const tab = newTab()
    hints.push((await logIn(tab, op, rps.client(name))).tokens.id_token)
    take(tab)
  }
  const bye = `${rps.origin('a')}/bye`
  const page = await browser.open(logoutUrl(op, { id_token_hint: hints[0] ?? '', post_logout_redirect_uri: bye }))
  expect(page.url).toBe(bye)
  expect(await left()).toEqual([])
})

it('a login of one user leaves one cookie, however often he steps up', async () => {
  await start()
  for (const name of ['a', 'b']) await logIn(browser, op, rps.client(name), { prompt: 'login' })
  expect(loginCookies()).toHaveLength(1)
  await op.provider.opSessions.endAll({ accountId: 'ada' }, { cause: 'password_change' })
  await logIn(browser, op, rps.client('a'))
  expect(loginCookies()).toHaveLength(1)
})

describe('five tabs that ask a signed-in browser at the same moment', () => {
  it.each(['login', 'consent'])('with prompt=%s are all answered, in one OP session', async (prompt) => {
    await start()
    await logIn(browser, op, rps.client('a'))
    const answers = await Promise.all(NAMES.map((name) => authorize(browser, op, rps.client(name), { prompt })))
    for (const [i, { code }] of answers.entries()) await redeem(op, rps.client(NAMES[i] ?? ''), code)
    expect((await op.provider.opSessions.list({ accountId: 'ada' })).sessions).toHaveLength(1)
    expect((await left()).sort()).toEqual(NAMES)
    expect(await isSignedIn(browser, op, rps.client('a'))).toBe(true)
  })
})

describe('a step-up whose answer is lost', () => {
  /** Follows redirects by hand; what the last one sets does not reach the browser. */
  async function loseStepUp(): Promise<void> {
    let url = authorizationUrl(op, rps.client('b'), { prompt: 'login' })
    for (let isLast = false; !isLast; ) {
      const cookie = browser.cookies(url).map(({ name, value }) => `${name}=${value}`)
      const answer = await fetch(url, { redirect: 'manual', headers: { cookie: cookie.join('; ') } })
      const next = new URL(answer.headers.get('location') ?? '', url).href
      isLast = next.startsWith(rps.origin('b'))
      if (!isLast) for (const line of answer.headers.getSetCookie()) browser.setCookie(url, line)
      url = next
    }
  }

  it('leaves an OP session that this browser can end', async () => {
    await start()
    await logIn(browser, op, rps.client('a'))
    await loseStepUp()
    await logOut()
    expect(await left()).toEqual([])
  })

  it('leaves an OP session that the next login goes on in', async () => {
    await start()
    await logIn(browser, op, rps.client('a'))
    await loseStepUp()
    await logIn(browser, op, rps.client('c'))
    expect((await op.provider.opSessions.list({ accountId: 'ada' })).sessions).toHaveLength(1)
    expect((await left()).sort()).toEqual(['a', 'b', 'c'])
    expect(await isSignedIn(browser, op, rps.client('a'))).toBe(true)
  })
})
