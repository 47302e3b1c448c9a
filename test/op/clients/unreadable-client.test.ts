import { createHash, randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { OpLogEvent, OpStore } from '../../../src/op.ts'
import { sqliteStore } from '../../../src/op-sqlite.ts'
import { expectErrorPage, expectQuestion } from '../../support/logout-pages.ts'
import { authorizationUrl, isSignedIn, logIn, logoutUrl, type Tokens } from '../../support/op-flow.ts'
import { type RpSite, startRpSite } from '../../support/rp-site.ts'
import { startTestOp, type TestOp } from '../../support/test-op.ts'
import { createUserAgent, type UserAgent } from '../../support/user-agent.ts'

let folder: string
let rps: RpSite
let browser: UserAgent
let store: OpStore
let op: TestOp
let tokens: Tokens
let mailToken: string
let notes: ReturnType<RpSite['client']>
const log: OpLogEvent[] = []

/** Signed in at notes and mail; then the OP starts again, and the server that mail's registration names does not answer. */
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lockstep-unreadable-'))
  rps = await startRpSite()
  browser = createUserAgent()
  store = sqliteStore(join(folder, 'op.db'))
  notes = rps.client('notes')
  const mail = rps.client('mail')
  const first = await startTestOp({ clients: [notes, mail], store })
  tokens = (await logIn(browser, first, notes)).tokens
  mailToken = (await logIn(browser, first, mail)).tokens.id_token
  await first.close()

  log.length = 0
  const down = { ...mail, subject_type: 'pairwise', sector_identifier_uri: 'https://127.0.0.1:1/sector' } as const
  op = await startTestOp({
    clients: [notes, down],
    configuration: {
      subjectTypes: ['public', 'pairwise'],
      pairwiseIdentifier: async (_ctx, accountId, client) => `${client.clientId} ${accountId}`,
    },
    options: { log: (event) => log.push(event) },
    store,
    port: first.port,
  })
  await expect(op.provider.Client.find('mail')).rejects.toThrow()
})
afterEach(async () => {
  await op.close()
  await store.close()
  await browser.close()
  await rps.close()
  await rm(folder, { recursive: true })
})

const unread = () => log.filter((event) => event.event === 'op_failed' && event.task === 'client')

describe('a client whose sector_identifier_uri cannot be read now', () => {
  it('is shown and told of a logout like any other [design §4]', async () => {
    const page = await browser.open(logoutUrl(op, { id_token_hint: tokens.id_token }))
    expect(op.failures).toEqual([])
    expect(page.status).toBe(200)
    expect(page.url).toBe(`${op.issuer}/session/end/signed-out`)
    expect(page.body).toContain('<span>Mail</span>')
    expect(await isSignedIn(browser, op, notes)).toBe(false)
    expect((await rps.received(2)).map(({ app }) => app).sort()).toEqual(['mail', 'notes'])
    expect(unread()).toEqual([])
  })

  it('does not block the question either, which names it [design §4]', async () => {
    const question = await browser.open(logoutUrl(op))
    expect(question.status).toBe(200)
    expect(question.body).toContain('Mail')
    expect(unread()).toEqual([])
    await browser.submit(question, { answer: 'yes' })
    expect(await isSignedIn(browser, op, notes)).toBe(false)
  })

  it('that a hint or client_id names is an error page from which the user can still log out, and goes to no app [RPI-4-c] [RPI-4-d]', async () => {
    const bye = `${rps.origin('mail')}/bye`
    for (const named of [{ id_token_hint: mailToken }, { client_id: 'mail' }]) {
      const before = rps.log.length
      const page = await browser.open(logoutUrl(op, { ...named, post_logout_redirect_uri: bye, state: 's' }))
      expectErrorPage(page, op, 500)
      expect(rps.log.slice(before)).toEqual([])
      expect(await isSignedIn(browser, op, notes)).toBe(true)
      expectQuestion(await browser.submit(page), op)
    }
    const question = await browser.submit(await browser.open(logoutUrl(op, { client_id: 'mail' })))
    await browser.submit(question, { answer: 'yes' })
    expect(await isSignedIn(browser, op, notes)).toBe(false)
  })

  it('may speak for itself in no frame: the OP iframe is told nothing, not even that [SM-3.2-b]', async () => {
    const answer = await fetch(`${op.issuer}/session/check`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ client_id: 'mail', origin: rps.origin('mail') }),
    })
    expect([answer.status, answer.headers.get('cache-control'), await answer.text()]).toEqual([500, 'no-store', ''])
    expect(op.failures).toHaveLength(1)
  })
})

describe('a client in the store whose metadata was changed so that the rules refuse it', () => {
  const keep = async (metadata: object): Promise<void> => {
    const handle = createHash('sha256').update('board').digest('base64url')
    const models = store.forIssuer(op.issuer, { now: Date.now, random: randomBytes })
    await models.putModel({ kind: 'Client', handle, payload: { ...metadata } })
  }

  it('signs nobody in any more, holds up no logout, and the operator hears of it [E13] [FCL-2-a]', async () => {
    const board = rps.client('board')
    await keep(board)
    await logIn(browser, op, board)
    await keep({ ...board, frontchannel_logout_uri: 'http://elsewhere.localhost/front' })
    const refused = await browser.open(authorizationUrl(op, board))
    expect(refused.status).toBe(400)
    expect(new URL(refused.url).origin).toBe(op.issuer)

    expect(unread()).toEqual([])
    const page = await browser.open(logoutUrl(op, { id_token_hint: tokens.id_token }))
    expect(page.body).not.toContain('elsewhere.localhost')
    expect(await isSignedIn(browser, op, notes)).toBe(false)
    const why = expect.stringContaining('frontchannel_logout_uri')
    expect(unread()).toContainEqual(expect.objectContaining({ clientId: 'board', message: why }))
  })
})
