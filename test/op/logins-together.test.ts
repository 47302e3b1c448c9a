import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { postgresStore } from '../../src/op-postgres.ts'
import { sqliteStore } from '../../src/op-sqlite.ts'
import { authorize, isSignedIn, logIn, logoutUrl } from '../support/op-flow.ts'
import { hasPostgres, startPostgres, type TestPostgres } from '../support/postgres.ts'
import { type RpSite, startRpSite } from '../support/rp-site.ts'
import { startTestOp, type TestOp } from '../support/test-op.ts'
import { createUserAgent, type UserAgent } from '../support/user-agent.ts'

/*
 * Two OP sessions that one browser began at the same moment, and that the OP knows to belong together since that browser has been
 * back. What happens to one of them happens to both, with or without the browser's cookies.
 */

let postgres: TestPostgres | undefined
let rps: RpSite
let op: TestOp
let browser: UserAgent
/** An ID Token of the OP session at "a". */
let hint: string
const opened: { close(): Promise<unknown> }[] = []

beforeAll(async () => {
  if (hasPostgres) postgres = await startPostgres()
}, 60_000)
afterAll(() => postgres?.close())
afterEach(async () => {
  for (const each of opened.splice(0).reverse()) await each.close()
})

function newTab(): UserAgent {
  const tab = createUserAgent()
  opened.push(tab)
  return tab
}

function take(tab: UserAgent, isTaken: (name: string) => boolean = () => true): void {
  for (const { name, value, path, sameSite, httpOnly } of tab.cookies(op.issuer)) {
    const line = `${name}=${value}; Path=${path}; SameSite=${sameSite}; Secure${httpOnly ? '; HttpOnly' : ''}`
    if (isTaken(name)) browser.setCookie(op.issuer, line)
  }
}

const isLoginCookie = (name: string): boolean => name.startsWith('__Host-op_login.')
const sessions = async (accountId = 'ada') => (await op.provider.opSessions.list({ accountId })).sessions
const left = async (accountId = 'ada') =>
  (await sessions(accountId)).flatMap(({ clients }) => clients.map((client) => client.clientId)).sort()
const uidAt = async (clientId: string) =>
  (await sessions()).find(({ clients }) => clients.some((client) => client.clientId === clientId))?.uid ?? ''

const stores = [
  ['SQLite', () => sqliteStore(':memory:')],
  [
    'PostgreSQL',
    () => postgresStore({ connectionString: postgres?.connectionString ?? '', schema: 'logins_together' }),
  ],
] as const

describe.each(stores)('OP sessions that belong together: %s', (store, open) => {
  const both = it.skipIf(store === 'PostgreSQL' && !hasPostgres)

  beforeEach(async ({ skip }) => {
    if (store === 'PostgreSQL' && !hasPostgres) skip()
    rps = await startRpSite()
    opened.push(rps)
    const opStore = open()
    opened.push(opStore)
    op = await startTestOp({ clients: ['a', 'b', 'c', 'd'].map((name) => rps.client(name)), store: opStore })
    opened.push(op)
    browser = newTab()
    for (const name of ['a', 'b']) {
      const tab = newTab()
      const { tokens } = await logIn(tab, op, rps.client(name))
      if (name === 'a') hint = tokens.id_token
      take(tab)
    }
    expect(await isSignedIn(browser, op, rps.client('b'))).toBe(true)
    expect(await left()).toEqual(['a', 'b'])
  })
  afterEach(() => op.provider.opSessions.endAll('everyone'))

  both('stay when a changed password spares the one at hand; those of other browsers end [T2]', async () => {
    await logIn(newTab(), op, rps.client('c'))
    const spared = { accountId: 'ada', except: [await uidAt('b')] }
    expect(await op.provider.opSessions.endAll(spared, { cause: 'password_change', dryRun: true })).toBe(1)
    await op.provider.opSessions.endAll(spared, { cause: 'password_change' })
    expect(await left()).toEqual(['a', 'b'])
  })

  both('still end together after a changed password that spared them', async () => {
    const uid = await uidAt('a')
    const except = [uid, await uidAt('b')]
    await op.provider.opSessions.endAll({ accountId: 'ada', except }, { cause: 'password_change' })
    expect(await left()).toEqual(['a', 'b'])
    await authorize(browser, op, rps.client('b'))
    await op.provider.opSessions.end(uid)
    expect(await left()).toEqual([])
  })

  both('get to know another that begins after a changed password', async () => {
    const uid = await uidAt('a')
    await op.provider.opSessions.endAll({ accountId: 'ada', except: [uid] }, { cause: 'password_change' })
    const tab = newTab()
    await logIn(tab, op, rps.client('c'))
    take(tab, isLoginCookie)
    await authorize(browser, op, rps.client('b'))
    await op.provider.opSessions.end(uid)
    expect(await left()).toEqual([])
  })

  both('do not end together when all of one client end: the other app is not meant', async () => {
    await op.provider.opSessions.endAll({ clientId: 'a' })
    expect(await left()).toEqual(['b'])
  })

  both('all end with "sign out everywhere" in a browser that has lost its cookies [RPI-2-a]', async () => {
    const lost = newTab()
    const question = await lost.open(logoutUrl(op, { id_token_hint: hint }))
    await lost.submit(question, { answer: 'yes' }, '/ask')
    expect(await left()).toEqual([])
    const told = async () => [...new Set((await rps.received(2)).map(({ app }) => app))].sort()
    await expect.poll(told).toEqual(['a', 'b'])
  })

  both('all end with a user switch in a browser that has the OP cookie alone', async () => {
    const name = op.provider.cookieName('session')
    const bare = newTab()
    for (const cookie of browser.cookies(op.issuer)) {
      if (!cookie.name.startsWith(name)) continue
      bare.setCookie(op.issuer, `${cookie.name}=${cookie.value}; Path=/; SameSite=None; Secure; HttpOnly`)
    }
    await logIn(bare, op, rps.client('d'), { login_hint: 'bob', prompt: 'login' })
    expect(await left()).toEqual([])
    expect(await left('bob')).toEqual(['d'])
  })
})
