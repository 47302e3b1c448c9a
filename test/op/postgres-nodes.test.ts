import type { ClientMetadata } from 'oidc-provider'
import { Client } from 'pg'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { postgresStore } from '../../src/op-postgres.ts'
import { askForTokens, authorize, isSignedIn, logIn, logoutUrl } from '../support/op-flow.ts'
import { hasPostgres, startPostgres, type TestPostgres } from '../support/postgres.ts'
import { type RpSite, startRpSite } from '../support/rp-site.ts'
import { startTestOp, type TestOp } from '../support/test-op.ts'
import { createUserAgent, type UserAgent } from '../support/user-agent.ts'

let postgres: TestPostgres
let rps: RpSite
let browser: UserAgent
let schema: string
let made = 0
const opened: { close(): Promise<unknown> }[] = []

async function startNodes(clients: ClientMetadata[]): Promise<TestOp> {
  const [store, other] = [1, 2].map(() => postgresStore({ connectionString: postgres.connectionString, schema }))
  if (!store || !other) throw new Error('not reached')
  opened.push(store, other)
  const op = await startTestOp({ clients, store, otherNodes: [other] })
  opened.push(op)
  return op
}

/** Runs SQL of the test's own; answers the rows' only column, `text`. */
async function sql(statement: string): Promise<string[]> {
  const client = new Client(postgres.connectionString)
  await client.connect()
  await client.query(`SET search_path = ${schema}`)
  const { rows } = await client.query<{ text: string }>(statement)
  await client.end()
  return rows.map(({ text }) => text)
}

describe.skipIf(!hasPostgres)('two nodes on one PostgreSQL', () => {
  beforeAll(async () => {
    postgres = await startPostgres()
  }, 60_000)
  afterAll(() => postgres?.close())

  beforeEach(async () => {
    schema = `nodes_${++made}`
    rps = await startRpSite()
    browser = createUserAgent()
    opened.push(rps, browser)
  })
  afterEach(async () => {
    for (const each of opened.splice(0).reverse()) await each.close()
  })

  it('serve one browser in turn: login, silent check, refresh, logout [design §1]', async () => {
    const [notes, mail] = [rps.client('notes'), rps.client('mail')]
    const op = await startNodes([notes, mail])
    const served = op.nodes.map(() => 0)
    for (const [i, node] of op.nodes.entries()) {
      node.on('session.saved', () => {
        served[i] = (served[i] ?? 0) + 1
      })
    }
    const { tokens } = await logIn(browser, op, notes, { scope: 'openid offline_access', prompt: 'consent' })
    await logIn(browser, op, mail)
    for (let i = 0; i < 4; i++) expect(await isSignedIn(browser, op, mail)).toBe(true)
    const { status, body } = await askForTokens(op, notes, {
      grant_type: 'refresh_token',
      refresh_token: tokens.refresh_token ?? '',
    })
    expect([status, typeof body.access_token]).toEqual([200, 'string'])

    const post_logout_redirect_uri = `${rps.origin('notes')}/bye`
    const page = await browser.open(logoutUrl(op, { id_token_hint: tokens.id_token, post_logout_redirect_uri }))
    expect(page.url).toBe(post_logout_redirect_uri)
    await rps.received(2)
    expect(rps.logouts.map(({ app }) => app).sort()).toEqual(['mail', 'notes'])
    for (let i = 0; i < 2; i++) expect(await isSignedIn(browser, op, mail)).toBe(false)
    expect(Math.min(...served)).toBeGreaterThan(0)
    expect(op.failures).toEqual([])
  })

  it('record twenty RPs that log one browser in at the same moment, and all codes redeem [BCL-2.3-a] [race 1]', async () => {
    const apps = Array.from({ length: 20 }, (_, i) => rps.client(`app${i}`))
    const [first] = apps
    const op = await startNodes(apps)
    await authorize(browser, op, first ?? expect.unreachable())
    await Promise.all(apps.map((app) => logIn(browser, op, app, { prompt: 'none' })))
    const [session] = (await op.provider.opSessions.list({ accountId: 'ada' })).sessions
    expect(session?.clients).toHaveLength(20)
  })

  it('keep no cookie, code or token as it was issued [T6]', async () => {
    const notes = rps.client('notes')
    const op = await startNodes([notes])
    const { code, tokens } = await logIn(browser, op, notes, { scope: 'openid offline_access', prompt: 'consent' })
    const unused = await authorize(browser, op, notes, { prompt: 'none' })
    const handles = [code, unused.code, tokens.access_token, tokens.refresh_token ?? '']
    for (const { name, value } of browser.cookies(op.issuer)) if (!name.includes('op_state')) handles.push(value)

    const tables = await sql('SELECT tablename AS text FROM pg_tables WHERE schemaname = current_schema()')
    const dump = (await Promise.all(tables.map((table) => sql(`SELECT t::text AS text FROM "${table}" t`))))
      .flat()
      .join('\n')
    expect(dump).toContain('ada') // it is the right place
    expect(handles.length).toBeGreaterThan(4)
    for (const handle of handles) {
      expect(handle.length).toBeGreaterThan(20)
      expect(dump).not.toContain(handle)
    }
  })

  it('leave the user signed in, and say so, when the transaction fails [design §4]', async () => {
    const notes = rps.client('notes')
    const op = await startNodes([notes])
    const { tokens } = await logIn(browser, op, notes)
    await sql(`CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'disk full'; END $$`)
    await sql('CREATE TRIGGER fail BEFORE INSERT ON delivery EXECUTE FUNCTION fail()')
    const page = await browser.open(logoutUrl(op, { id_token_hint: tokens.id_token }))
    expect(page.status).toBe(500)
    expect(page.body).not.toMatch(/disk full|PostgreSQL/)
    for (let i = 0; i < 2; i++) expect(await isSignedIn(browser, op, notes)).toBe(true)
    expect(rps.logouts).toEqual([])

    await sql('DROP TRIGGER fail ON delivery')
    await browser.open(logoutUrl(op, { id_token_hint: tokens.id_token }))
    await rps.received(1)
    expect(await isSignedIn(browser, op, notes)).toBe(false)
  })
})
