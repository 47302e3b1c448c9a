import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { Client } from 'pg'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import type { EraseOptions, OpLogEvent, OpStore } from '../../src/op.ts'
import { postgresStore } from '../../src/op-postgres.ts'
import { sqliteStore } from '../../src/op-sqlite.ts'
import {
  askForTokens,
  authorizationUrl,
  authorize,
  claimsOf,
  isSignedIn,
  logIn,
  logoutUrl,
} from '../support/op-flow.ts'
import { hasPostgres, startPostgres, type TestPostgres } from '../support/postgres.ts'
import { type RpSite, startRpSite } from '../support/rp-site.ts'
import { startTestOp, type TestOp } from '../support/test-op.ts'
import { createUserAgent, type UserAgent } from '../support/user-agent.ts'
import { type SkippingTime, skippingTime } from './skipping-time.ts'

const day = 86_400_000
const her = 'ada-of-4711'
const offline = { scope: 'openid offline_access', prompt: 'consent' }

let postgres: TestPostgres | undefined
let folder: string
let made = 0
let rps: RpSite
let time: SkippingTime
let events: OpLogEvent[]
const opened: { close(): Promise<unknown> }[] = []

beforeAll(async () => {
  if (hasPostgres) postgres = await startPostgres()
}, 60_000)
afterAll(() => postgres?.close())
beforeEach(async () => {
  made += 1
  events = []
  time = skippingTime()
  folder = await mkdtemp(join(tmpdir(), 'lockstep-accounts-'))
  rps = await startRpSite()
  opened.push(rps)
})
afterEach(async () => {
  for (const each of opened.splice(0).reverse()) await each.close()
  await rm(folder, { recursive: true })
})

interface Place {
  open(): OpStore
  /** All that stands in the tables, as text. */
  dump(): Promise<string>
}

const places: Readonly<Record<string, () => Place>> = {
  SQLite: () => {
    const file = join(folder, 'op.db')
    return {
      open: () => sqliteStore(file),
      async dump() {
        const db = new Database(file, { readonly: true })
        const tables = db.prepare<[], { name: string }>(`SELECT name FROM sqlite_schema WHERE type = 'table'`).all()
        const rows = tables.map(({ name }) => [name, db.prepare(`SELECT * FROM ${name}`).all()])
        db.close()
        return JSON.stringify(rows)
      },
    }
  },
  PostgreSQL: () => {
    const { connectionString = '' } = postgres ?? {}
    const schema = `accounts_${made}`
    return {
      open: () => postgresStore({ connectionString, schema, clock: () => time.runtime.now() }),
      async dump() {
        const client = new Client(connectionString)
        await client.connect()
        await client.query(`SET search_path = ${schema}`)
        const all = async (sql: string) => (await client.query<{ text: string }>(sql)).rows.map(({ text }) => text)
        const tables = await all('SELECT tablename AS text FROM pg_tables WHERE schemaname = current_schema()')
        const rows: string[] = []
        for (const table of tables) rows.push(table, ...(await all(`SELECT t::text AS text FROM "${table}" t`)))
        await client.end()
        return rows.join('\n')
      },
    }
  },
}

async function start(store: OpStore = sqliteStore(':memory:'), port?: number): Promise<TestOp> {
  const framed = { backchannel_logout_uri: undefined, frontchannel_logout_uri: `${rps.origin('board')}/front` }
  const op = await startTestOp({
    clients: [rps.client('notes'), rps.client('mail'), rps.client('board', framed)],
    store,
    options: { runtime: time.runtime, log: (event) => events.push(event) },
    ...(port !== undefined && { port }),
  })
  opened.push(store, op)
  return op
}

function newBrowser(): UserAgent {
  const browser = createUserAgent()
  opened.push(browser)
  return browser
}

/** Until the sweeper has nothing to do but wait: for the day to be over, or for RPs. */
async function untilErased(op: TestOp, id: string): Promise<void> {
  await vi.waitFor(
    async () => {
      time.skip(61_000)
      expect((await op.provider.accounts.erasures.get(id))?.state).toBe('done')
    },
    { timeout: 30_000, interval: 20 },
  )
}

describe.each(Object.keys(places))('the erasure of an account in %s', (name) => {
  const needs = name === 'PostgreSQL' && !hasPostgres

  it.skipIf(needs)('leaves it in no table, tells its RPs first, and leaves others alone [T30]', async () => {
    const place = places[name]?.() ?? expect.unreachable()
    const op = await start(place.open())
    const [one, two, his] = [newBrowser(), newBrowser(), newBrowser()]
    const as = { login_hint: her }
    const { tokens } = await logIn(one, op, rps.client('notes'), { ...as, ...offline })
    for (const app of ['mail', 'board']) await logIn(one, op, rps.client(app), as)
    await logIn(two, op, rps.client('notes'), as)
    await two.open(logoutUrl(op)).then((question) => two.submit(question, { answer: 'yes' }, '/ask')) // a logout of before
    const bobs = await logIn(his, op, rps.client('notes'), { login_hint: 'bob', ...offline })
    const unused = await authorize(one, op, rps.client('mail'), { ...as, prompt: 'none' })
    expect(unused.code).toMatch(/./)
    await rps.received(1)

    const { id, pseudonym, jobId } = await op.provider.accounts.erase(her, { actor: her, reason: 'gdpr-17' })
    expect(await isSignedIn(one, op, rps.client('notes'))).toBe(false)
    const refreshed = { grant_type: 'refresh_token', refresh_token: tokens.refresh_token ?? '' }
    expect((await askForTokens(op, rps.client('notes'), refreshed)).status).toBe(400)
    const told = (await rps.received(3)).map(({ app, token }) => [app, claimsOf(token).sub])
    expect(told.sort()).toEqual([
      ['mail', her],
      ['notes', her],
      ['notes', her],
    ])

    expect(await place.dump()).toContain(her)
    time.skip(day)
    await untilErased(op, id)
    expect(await place.dump()).not.toContain(her)
    const { deliveries } = await op.provider.deliveries.list({ accountId: pseudonym })
    expect(deliveries.map(({ state }) => state)).toEqual(['delivered', 'delivered', 'delivered'])
    expect(await op.provider.receipts.get(deliveries[0]?.logoutId ?? '')).toMatchObject({
      accountId: pseudonym,
      cause: 'account_deleted',
    })
    expect(await op.provider.opSessions.jobs.get(jobId)).toMatchObject({ scope: { accountId: pseudonym }, ended: 1 })
    expect(events).toContainEqual({ event: 'account_erased', erasureId: id, pseudonym })
    expect(JSON.stringify(events)).not.toContain(her)

    const his2 = { grant_type: 'refresh_token', refresh_token: bobs.tokens.refresh_token ?? '' }
    expect((await askForTokens(op, rps.client('notes'), his2)).status).toBe(200)
    expect(await isSignedIn(his, op, rps.client('notes'))).toBe(true)
    expect(op.failures).toEqual([])
  })

  it.skipIf(needs)('has nothing to do about addresses and browsers: they are in no table [T30]', async () => {
    const place = places[name]?.() ?? expect.unreachable()
    const op = await start(place.open())
    op.provider.proxy = true
    const hers = { 'x-forwarded-for': '203.0.113.77', 'user-agent': 'Netscape 4.7 of hers' }
    const browser = newBrowser()
    for (const app of ['notes', 'mail']) {
      await browser.open(authorizationUrl(op, rps.client(app), { login_hint: her }), hers)
    }
    await browser.open(authorizationUrl(op, rps.client('notes'), { prompt: 'none' }), hers)
    expect(await place.dump()).toContain(her)
    const question = await browser.open(logoutUrl(op), hers)
    await browser.submit(question, { answer: 'yes' }, '/ask')
    await rps.received(2)
    const dump = await place.dump()
    expect(dump).toContain('op_logout')
    for (const of of Object.values(hers)) expect(dump).not.toContain(of)
  })

  it.skipIf(needs)('goes on in the next process, once the RP that was down has been told [T30]', async () => {
    const place = places[name]?.() ?? expect.unreachable()
    const op = await start(place.open())
    await logIn(newBrowser(), op, rps.client('notes'), { login_hint: her })
    rps.answer('notes', (response) => response.writeHead(503).end())
    const { id } = await op.provider.accounts.erase(her)
    const attempts = async () => (await op.provider.deliveries.list({ state: 'due' })).deliveries[0]?.attempts
    await vi.waitFor(async () => expect(await attempts()).toBe(1))
    time.skip(2 * day)
    await vi.waitFor(async () => expect(await attempts()).toBe(2))
    expect((await op.provider.accounts.erasures.get(id))?.state).toBe('running')
    for (const each of opened.splice(1).reverse()) await each.close()

    rps.answer('notes', (response) => response.end())
    const next = await start(place.open(), op.port)
    await untilErased(next, id)
    expect(claimsOf(rps.logouts.at(-1)?.token ?? '').sub).toBe(her)
    expect(await place.dump()).not.toContain(her)
    expect(await next.provider.accounts.erasures.list()).toMatchObject([{ id, state: 'done' }])
  })
})

it('an RP that is told once more after the erasure is told by its sid alone: it knows no pseudonym [T30]', async () => {
  const op = await start()
  const { tokens } = await logIn(newBrowser(), op, rps.client('notes'), { login_hint: her })
  rps.answer('notes', (response) => response.writeHead(503).end())
  const { id, pseudonym } = await op.provider.accounts.erase(her)
  const { deliveries } = op.provider
  await vi.waitFor(async () => expect((await deliveries.list({ state: 'due' })).deliveries[0]?.attempts).toBe(1))
  time.skip(4 * day)
  await vi.waitFor(async () => expect((await deliveries.list({ state: 'dead' })).deliveries).toHaveLength(1))
  await untilErased(op, id)
  const before = rps.logouts.length
  rps.answer('notes', (response) => response.end())
  expect(await deliveries.retry({ accountId: pseudonym })).toMatchObject({ count: 1 })
  await vi.waitFor(() => expect(rps.logouts.length).toBeGreaterThan(before))
  const claims = claimsOf(rps.logouts.at(-1)?.token ?? '')
  expect(claims.sid).toBe(claimsOf(tokens.id_token).sid)
  expect(claims).not.toHaveProperty('sub')
})

it('an account whose name looks like a pseudonym is told by it: nobody erased it [T30] [BCL-2.4-a]', async () => {
  const op = await start()
  const named = `erased:${'A'.repeat(22)}`
  const browser = newBrowser()
  await logIn(browser, op, rps.client('notes'), { login_hint: named })
  const question = await browser.open(logoutUrl(op))
  await browser.submit(question, { answer: 'yes' }, '/ask')
  const [told] = await rps.received(1)
  expect(claimsOf(told?.token ?? '').sub).toBe(named)
})

it('a login whose password was right a moment before the erasure comes too late [T30] [T2]', async () => {
  const store = sqliteStore(':memory:')
  let asked = 0
  const op = await startTestOp({
    clients: [rps.client('notes')],
    store,
    interact: async ({ prompt }) => {
      if (prompt.name !== 'login') return { consent: {} }
      asked += 1
      if (asked > 1) return { error: 'access_denied' } // findAccount knows her no more
      await op.provider.accounts.erase(her)
      return { login: { accountId: her } }
    },
  })
  opened.push(store, op)
  const browser = newBrowser()
  const page = await browser.open(authorizationUrl(op, rps.client('notes')))
  expect(new URL(page.url).searchParams.get('error')).toBe('access_denied')
  expect(asked).toBe(2)
  expect((await op.provider.opSessions.list('everyone')).sessions).toEqual([])
})

it.each([
  ['', {}, 'accountId must be the id of an account'],
  [{ accountId: her }, {}, 'accountId must be the id of an account'],
  [her, { cause: 'admin' }, 'an account is erased for one cause: account_deleted'],
  [her, { because: 'x' }, '"because" is not an option'],
  [her, { reason: 'She asked for it' }, 'reason must be a code'],
])('a wrong erasure is a TypeError that says why: %j %j', async (accountId, options, message) => {
  const { provider } = await start()
  const erasing = provider.accounts.erase(accountId as string, options as EraseOptions)
  await expect(erasing).rejects.toThrow(TypeError)
  await expect(erasing).rejects.toThrow(message)
  await expect(provider.accounts.erasures.list(0)).rejects.toThrow('limit must be a whole number')
})
