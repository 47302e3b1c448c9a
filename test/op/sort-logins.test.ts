import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { sortLogins } from '../../src/op/logins-together.ts'
import { sqliteStore } from '../../src/op-sqlite.ts'
import { authorize, isSignedIn, logIn } from '../support/op-flow.ts'
import { type RpSite, startRpSite } from '../support/rp-site.ts'
import { startTestOp, type TestOp } from '../support/test-op.ts'
import { createUserAgent, type UserAgent } from '../support/user-agent.ts'

/* Who belongs together of those that one browser began at the same moment, and how long they live. */

const HOUR = 3_600_000

let rps: RpSite
let op: TestOp
let browser: UserAgent
let ahead: number
const opened: { close(): Promise<unknown> }[] = []

beforeEach(async () => {
  ahead = 0
  rps = await startRpSite()
  browser = createUserAgent()
  const store = sqliteStore(':memory:')
  opened.push(rps, browser, store)
  op = await startTestOp({
    clients: ['a', 'b', 'c'].map((name) => rps.client(name)),
    store,
    configuration: { ttl: { Session: 2 * 3600 } },
    options: { sessionLifetime: 5 * 3600, runtime: { now: () => Date.now() + ahead } },
  })
  opened.push(op)
})
afterEach(async () => {
  for (const each of opened.splice(0).reverse()) await each.close()
})

/** Signs in in a tab that knows nothing of the others; the browser takes the cookies that came back. */
async function logInBeside(app: string, user = 'ada'): Promise<void> {
  const tab = createUserAgent()
  opened.push(tab)
  await logIn(tab, op, rps.client(app), { login_hint: user })
  for (const { name, value, path, sameSite, httpOnly } of tab.cookies(op.issuer)) {
    const line = `${name}=${value}; Path=${path}; SameSite=${sameSite}; Secure${httpOnly ? '; HttpOnly' : ''}`
    browser.setCookie(op.issuer, line)
  }
}

const left = async (accountId = 'ada') =>
  (await op.provider.opSessions.list({ accountId })).sessions.flatMap(({ clients }) => clients.map((c) => c.clientId))
const loginCookies = () => browser.cookies(op.issuer).filter(({ name }) => name.startsWith('__Host-op_login.'))

describe('of the logins of a browser', () => {
  const login = (uid: string, accountId: string) => ({
    uid,
    accountId,
    handle: `handle of ${uid}`,
    payload: {},
    rps: [],
    createdAt: 0,
    expiresAt: 0,
  })

  it('those of the same user belong together, the others are foreign, and what is not his needs no cookie', () => {
    const [one, other, bobs] = [login('1', 'ada'), login('2', 'ada'), login('3', 'bob')]
    const logins = new Map([
      ['its own', one],
      ['other', other],
      ['the same again', other],
      ['foreign', bobs],
      ['ended', undefined],
    ])
    expect(sortLogins(one, logins)).toEqual({ own: [other], foreign: [bobs], over: ['foreign', 'ended'] })
  })
})

describe('two users who sign in at the same moment in one browser', () => {
  const signInBoth = async (last: string) => {
    await logInBeside('a', last === 'ada' ? 'bob' : 'ada')
    await logInBeside('b', last)
    expect([await left('ada'), await left('bob')].flat()).toHaveLength(2)
  }

  it.each([
    ['ada', 'bob'],
    ['bob', 'ada'],
  ])('%s stays, whose OP cookie came last, and %s ends as in any user switch', async (stays, ends) => {
    await signInBoth(stays)
    await authorize(browser, op, rps.client('c'), { login_hint: stays })
    expect(await left(ends)).toEqual([])
    expect(await left(stays)).toEqual(['b', 'c'])
    const [told] = await rps.received(1)
    expect(told?.app).toBe('a')
    expect(loginCookies()).toHaveLength(1)
  })

  it('are told apart by what a user does, and not by a background check [T11]', async () => {
    await signInBoth('bob')
    expect(await isSignedIn(browser, op, rps.client('b'))).toBe(true)
    expect([await left('ada'), await left('bob')]).toEqual([['a'], ['b']])
  })
})

describe('the idle lifetime of logins that belong together', () => {
  beforeEach(async () => {
    for (const name of ['a', 'b']) await logInBeside(name)
  })

  it('is one: a user who is busy in one of them is signed out of none', async () => {
    for (const _ of [1, 2]) {
      ahead += 1.5 * HOUR
      await authorize(browser, op, rps.client('b'))
    }
    expect((await left()).sort()).toEqual(['a', 'b'])
  })

  it('is not extended by a background check [T11]', async () => {
    ahead += 1.5 * HOUR
    await isSignedIn(browser, op, rps.client('b'))
    ahead += HOUR
    expect(await left()).toEqual([])
  })

  it('ends at the absolute lifetime of each, however busy the browser is', async () => {
    for (const _ of [1, 2, 3]) {
      ahead += 1.5 * HOUR
      await authorize(browser, op, rps.client('b'))
    }
    expect(await left()).toHaveLength(2)
    ahead += HOUR
    expect(await left()).toEqual([])
  })
})
