import { createHash, randomBytes } from 'node:crypto'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import type { OpLogEvent, OpStore } from '../../../src/op.ts'
import { sqliteStore } from '../../../src/op-sqlite.ts'
import { isSignedIn, logIn, logoutUrl } from '../../support/op-flow.ts'
import { type RpSite, startRpSite } from '../../support/rp-site.ts'
import { startTestOp, type TestOp } from '../../support/test-op.ts'
import { createUserAgent, type UserAgent } from '../../support/user-agent.ts'

/* Clients that were in the store before Lockstep, or that a tool wrote there: its rules have not seen them. */

let rps: RpSite
let browser: UserAgent
let store: OpStore
let op: TestOp
let events: OpLogEvent[]
const opened: { close(): Promise<unknown> }[] = []

beforeEach(async () => {
  events = []
  rps = await startRpSite()
  browser = createUserAgent()
  store = sqliteStore(':memory:')
  opened.push(store, rps, browser)
})
afterEach(async () => {
  for (const each of opened.splice(0).reverse()) await each.close()
})

async function start(port?: number): Promise<TestOp> {
  op = await startTestOp({
    clients: [rps.client('notes')],
    store,
    ...(port !== undefined && { port }),
    options: { log: (event) => events.push(event) },
  })
  opened.push(op)
  return op
}

/** Leaves clients in the store as an OP of before did. */
async function keep(issuer: string, clients: readonly { client_id: string }[]): Promise<void> {
  const models = store.forIssuer(issuer, { now: Date.now, random: randomBytes })
  for (const payload of clients) {
    const handle = createHash('sha256').update(payload.client_id).digest('base64url')
    await models.putModel({ kind: 'Client', handle, payload: { ...payload } })
  }
}

/** An OP that has stored them, and then starts with Lockstep. */
async function restartWith(clients: readonly { client_id: string }[]): Promise<void> {
  const { issuer, port } = await start()
  await opened.pop()?.close()
  await keep(issuer, clients)
  events.length = 0
  await start(port)
}

const refused = () => events.filter(({ event }) => event === 'client_refused' || event === 'clients_refused')

it.each([
  ['backchannel_logout_uri', 'ftp://elsewhere/out', 'must be an absolute web URI'],
  ['backchannel_logout_uri', 'https://app.example/out#top', 'must not have a fragment'],
  [
    'frontchannel_logout_uri',
    'https://elsewhere.example/out',
    'must share scheme, host and port with one of redirect_uris',
  ],
  ['frontchannel_logout_uri', 'http://[::1]:3000/out', 'must name a host: browsers load no frame from an IPv6 address'],
  ['backchannel_logout_uri', 'https://u:p@app.example/out', 'must not have a user name or a password'],
  ['frontchannel_logout_uri', 'https://u@app.example/out', 'must not have a user name or a password'],
  ['lockstep_ignored_causes', 'expired', 'must be an array of causes'],
])('the operator hears at the start of a stored client whose %s is %s, and why [E13] [FCL-2-a]', async (member, value, rule) => {
  await restartWith([rps.client('fine'), rps.client('board', { [member]: value })])
  await vi.waitFor(() => expect(refused()).toHaveLength(1))
  expect(refused()).toEqual([
    { event: 'client_refused', clientId: 'board', message: expect.stringContaining(`${member} ${rule}`) },
  ])
})

it('such a client holds up no logout of others, and nothing is sent to it [E13] [design §4]', async () => {
  const { issuer } = await start()
  const board = rps.client('board')
  await keep(issuer, [board])
  await logIn(browser, op, board)
  await logIn(browser, op, rps.client('notes'))
  await keep(issuer, [{ ...board, backchannel_logout_uri: 'ftp://elsewhere/out' } as typeof board])
  const question = await browser.open(logoutUrl(op))
  const page = await browser.submit(question, { answer: 'yes' }, '/ask')
  expect(page.status).toBe(200)
  expect((await rps.received(1)).map(({ app }) => app)).toEqual(['notes'])
  expect(await isSignedIn(browser, op, rps.client('notes'))).toBe(false)
  expect(events).toContainEqual(expect.objectContaining({ event: 'op_failed', task: 'client', clientId: 'board' }))
})

it('of very many the first twenty are named, and then how many there are', async () => {
  const many = Array.from({ length: 230 }, (_, i) => rps.client(`app${i}`, { frontchannel_logout_uri: 'about:blank' }))
  await restartWith([rps.client('fine'), ...many])
  await vi.waitFor(() => expect(refused().at(-1)).toEqual({ event: 'clients_refused', count: 230 }))
  expect(refused()).toHaveLength(21)
})
