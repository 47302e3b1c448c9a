import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type OpStore, openSecrets } from '../../src/op.ts'
import { sqliteStore } from '../../src/op-sqlite.ts'
import { askForTokens, authorize, claimsOf, isSignedIn, logIn, logoutUrl, redeem } from '../support/op-flow.ts'
import { type RpSite, startRpSite } from '../support/rp-site.ts'
import { startTestOp, type TestOp } from '../support/test-op.ts'
import { createUserAgent, type UserAgent } from '../support/user-agent.ts'

let folder: string
let file: string
let rps: RpSite
let browser: UserAgent
let notes: ReturnType<RpSite['client']>
let store: OpStore
const ops: TestOp[] = []

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lockstep-issuers-'))
  file = join(folder, 'op.db')
  rps = await startRpSite()
  browser = createUserAgent()
  notes = rps.client('notes')
  store = sqliteStore(file)
})
afterEach(async () => {
  for (const op of ops.splice(0)) await op.close()
  await store.close()
  await browser.close()
  await rps.close()
  await rm(folder, { recursive: true })
})

async function start(port?: number): Promise<TestOp> {
  const op = await startTestOp({ clients: [notes], store, ...(port === undefined ? {} : { port }) })
  ops.push(op)
  return op
}

describe('two OPs on one host and one store', () => {
  it('keep two logins of one browser apart, and end them apart [T20] [T21]', async () => {
    const [a, b] = [await start(), await start()]
    const atA = await logIn(browser, a, notes)
    await logIn(browser, b, notes)
    expect(await isSignedIn(browser, a, notes)).toBe(true)
    expect(a.provider.cookieName('session')).not.toBe(b.provider.cookieName('session'))

    await browser.open(logoutUrl(a, { id_token_hint: atA.tokens.id_token }))
    expect(await isSignedIn(browser, a, notes)).toBe(false)
    expect(await isSignedIn(browser, b, notes)).toBe(true)
    expect((await a.provider.opSessions.list({ accountId: 'ada' })).sessions).toEqual([])
    expect((await b.provider.opSessions.list({ accountId: 'ada' })).sessions).toHaveLength(1)
  })

  it('have their own keys [T20]', async () => {
    const [a, b] = [await start(), await start()]
    const [ofA, ofB] = [await openSecrets(store, a.issuer), await openSecrets(store, b.issuer)]
    expect(ofA.cookieKeys).not.toEqual(ofB.cookieKeys)
    const kids = [...ofA.jwks.keys, ...ofB.jwks.keys].map(({ kid }) => kid)
    expect(new Set(kids).size).toBe(kids.length)
  })

  it('are ended apart: everyone of one tenant is nobody of the other [T2] [T20]', async () => {
    const [a, b] = [await start(), await start()]
    await logIn(browser, a, notes)
    const atB = await logIn(browser, b, notes, { scope: 'openid offline_access', prompt: 'consent' })
    const { code } = await authorize(browser, b, notes, { prompt: 'none' })

    const { opSessions } = a.provider
    expect(await opSessions.endAll('everyone', { dryRun: true })).toBe(1)
    expect(await isSignedIn(browser, a, notes)).toBe(true)
    const { id } = await opSessions.endAll('everyone', { cause: 'compromise' })
    await rps.received(1)
    expect(await isSignedIn(browser, a, notes)).toBe(false)

    expect(rps.logouts.map(({ token }) => claimsOf(token).iss)).toEqual([a.issuer])
    expect(await b.provider.opSessions.jobs.get(id ?? '')).toBeUndefined()
    expect((await b.provider.opSessions.jobs.list()).length).toBe(0)
    expect((await b.provider.opSessions.list('everyone')).sessions).toHaveLength(1)
    expect(await isSignedIn(browser, b, notes)).toBe(true)
    await expect(redeem(b, notes, code)).resolves.toHaveProperty('id_token')
    const refresh_token = atB.tokens.refresh_token ?? ''
    expect((await askForTokens(b, notes, { grant_type: 'refresh_token', refresh_token })).status).toBe(200)
  })

  it('do not take each other’s codes, hints, answers or OP sessions [T20]', async () => {
    const [a, b] = [await start(), await start()]
    const atA = await logIn(browser, a, notes)
    await logIn(browser, b, notes)
    const {
      sessions: [session],
    } = await a.provider.opSessions.list({ accountId: 'ada' })
    expect(await b.provider.opSessions.end(session?.uid ?? '')).toBeUndefined()

    const { code } = await authorize(browser, a, notes, { prompt: 'none' })
    const redirect_uri = notes.redirect_uris?.[0] ?? ''
    const stolen = await askForTokens(b, notes, { grant_type: 'authorization_code', code, redirect_uri })
    expect(stolen.body.error).toBe('invalid_grant')
    expect((await browser.open(logoutUrl(b, { id_token_hint: atA.tokens.id_token }))).status).toBe(400)

    const question = await browser.open(logoutUrl(a))
    const request = /name="request" value="([^"]+)"/.exec(question.body)?.[1] ?? ''
    const answer = await browser.fetch(b.issuer, '/session/end/ask', {
      method: 'POST',
      body: new URLSearchParams({ request, answer: 'yes' }).toString(),
    })
    expect(answer.status).toBe(400)
    expect(await isSignedIn(browser, a, notes)).toBe(true)
    expect(await isSignedIn(browser, b, notes)).toBe(true)
    await expect(redeem(a, notes, code)).resolves.toHaveProperty('id_token')
  })
})

describe('an OP that is started again on its file', () => {
  it('knows its users, their tokens and its keys as before [issue #2]', async () => {
    const first = await start()
    const { tokens, sessionState } = await logIn(browser, first, notes)
    const pending = (await authorize(browser, first, notes, { prompt: 'none' })).code
    const cookies = browser.cookies(first.issuer)
    const keysOf = async (op: TestOp) => (await fetch(`${op.issuer}/jwks`)).json()
    const keys = await keysOf(first)
    await ops.pop()?.close()
    await store.close()

    store = sqliteStore(file)
    const second = await start(first.port)
    expect(second.issuer).toBe(first.issuer)
    expect(await keysOf(second)).toEqual(keys)
    expect(await isSignedIn(browser, second, notes)).toBe(true)
    expect(browser.cookies(second.issuer).map(({ name }) => name)).toEqual(cookies.map(({ name }) => name))
    const state = cookies.find(({ name }) => name.startsWith('__Host-op_state.'))?.value
    expect(browser.cookies(second.issuer).find(({ name }) => name.startsWith('__Host-op_state.'))?.value).toBe(state)
    expect(sessionState).toMatch(/./)
    await expect(redeem(second, notes, pending)).resolves.toHaveProperty('id_token')
    const page = await browser.open(logoutUrl(second, { id_token_hint: tokens.id_token }))
    expect(page.url).toBe(`${second.issuer}/session/end/signed-out`)
    expect(await isSignedIn(browser, second, notes)).toBe(false)
  })

  it('still asks the question that was open, and takes its answer', async () => {
    const first = await start()
    await logIn(browser, first, notes)
    const question = await browser.open(logoutUrl(first))
    await ops.pop()?.close()
    await store.close()
    store = sqliteStore(file)
    const second = await start(first.port)
    await browser.submit(question, { answer: 'yes' })
    expect(await isSignedIn(browser, second, notes)).toBe(false)
  })

  it('does not bring back what was ended before [design §4]', async () => {
    const first = await start()
    await logIn(browser, first, notes)
    const cookie = browser.cookies(first.issuer).find(({ name }) => name === first.provider.cookieName('session'))
    await browser.submit(await browser.open(logoutUrl(first)), { answer: 'yes' })
    await ops.pop()?.close()
    await store.close()
    store = sqliteStore(file)
    const second = await start(first.port)
    expect(await second.provider.Session.find(cookie?.value ?? '')).toBeUndefined()
    expect(await isSignedIn(browser, second, notes)).toBe(false)
  })
})

describe('requests of nobody', () => {
  it('to the Logout Endpoint, the OP iframe and by prompt=none store nothing [T29]', async () => {
    const op = await start()
    await op.provider.ready()
    const db = new Database(file, { readonly: true })
    const rows = () =>
      db
        .prepare<[], { name: string }>("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
        .all()
        .map(({ name }) => [name, db.prepare(`SELECT count(*) AS rows FROM "${name}"`).get()])
    const before = rows()
    for (let i = 0; i < 3; i++) {
      for (const method of ['GET', 'POST']) {
        await fetch(`${op.issuer}/session/end`, { method, headers: { 'sec-fetch-dest': 'image' } })
        await fetch(`${op.issuer}/session/end/ask`, { method })
      }
      await browser.open(logoutUrl(op, { client_id: 'notes', post_logout_redirect_uri: `${rps.origin('notes')}/bye` }))
      await fetch(`${op.issuer}/session/end/confirm`, { method: 'POST' })
      await fetch(`${op.issuer}/session/check`)
      await authorize(browser, op, notes, { prompt: 'none' })
    }
    expect(rows()).toEqual(before)
    db.close()
  })
})
