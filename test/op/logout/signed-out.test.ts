import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import type { OpStore } from '../../../src/op.ts'
import { sqliteStore } from '../../../src/op-sqlite.ts'
import { isSignedIn, logIn, logoutUrl, type Tokens } from '../../support/op-flow.ts'
import { type RpSite, startRpSite } from '../../support/rp-site.ts'
import { startTestOp, type TestOp } from '../../support/test-op.ts'
import { createUserAgent, type Page, type UserAgent } from '../../support/user-agent.ts'

let rps: RpSite
let op: TestOp
let browser: UserAgent
let tokens: Tokens
let clockAhead: number
let notes: ReturnType<RpSite['client']>
let mail: ReturnType<RpSite['client']>

beforeAll(async () => {
  rps = await startRpSite()
})
afterAll(() => rps.close())
beforeEach(async () => {
  clockAhead = 0
  notes = rps.client('notes')
  mail = rps.client('mail', { client_name: 'Mail\u0000\u202E<b>' })
  op = await startTestOp({ clients: [notes, mail], options: { runtime: { now: () => Date.now() + clockAhead } } })
  browser = createUserAgent()
  tokens = (await logIn(browser, op, notes)).tokens
  await logIn(browser, op, mail)
  rps.answer('notes', (response) => response.writeHead(200, { 'logout-sessions-ended': '1' }).end())
  rps.answer('mail', (response) => response.writeHead(200, { 'logout-sessions-ended': '1' }).end())
})
afterEach(async () => {
  await browser.close()
  await op.close()
})

const logOut = (): Promise<Page> => browser.open(logoutUrl(op, { id_token_hint: tokens.id_token }))
const signedOutUrl = () => `${op.issuer}/session/end/signed-out`

interface Progress {
  readonly heading: string
  readonly again?: number
  readonly apps: readonly {
    readonly app: string
    readonly mark: string
    readonly says: string
    readonly state: string
  }[]
}

async function progress(): Promise<{ page: Page; body: Progress }> {
  const page = await browser.fetch(op.issuer, signedOutUrl(), { headers: { accept: 'application/json' } })
  return { page, body: JSON.parse(page.body) as Progress }
}

/** The only logout of this test: its receipt as an operator gets it. */
async function receipt() {
  const cookie = browser.cookies(op.issuer).find(({ name }) => name.startsWith('__Host-op_logout.'))
  return op.provider.receipts.get(cookie?.value ?? '')
}

describe('the signed-out page', () => {
  it('says of each app what it answered', async () => {
    const page = await logOut()
    expect(page.body).toContain('You are signed out of 2 apps')
    expect(page.body.match(/class="says">Signed out</g)).toHaveLength(2)
    expect(page.body).not.toContain('http-equiv="refresh"')
    expect(page.body).not.toContain('<script')
  })

  it('goes on looking while something is open, by a script of its own hash or by itself without JavaScript', async () => {
    rps.answer('mail', (response) => response.writeHead(503).end())
    const page = await logOut()
    expect(page.body).toContain('You are signed out here, and of 1 of 2 apps')
    expect(page.body).toMatch(/<noscript><meta http-equiv="refresh" content="\d+"><\/noscript>/)
    expect(page.body).toMatch(/Next try in \d+ s|Telling/)
    const csp = page.header('content-security-policy') ?? ''
    expect(csp).toMatch(/script-src 'sha256-[\w+/=]+';/)
    expect(csp).toContain("connect-src 'self'")
    expect(csp).toContain("require-trusted-types-for 'script'")
    const { body } = await progress()
    expect(body.again).toBeGreaterThanOrEqual(2)
    expect(body.apps.find(({ app }) => app === 'Notes')).toMatchObject({ mark: 'told', says: 'Signed out' })
  })

  it('says so when an app says that it ended nothing, and flags it for the operator [T28]', async () => {
    rps.answer('mail', (response) => response.writeHead(200, { 'logout-sessions-ended': '0' }).end())
    const page = await logOut()
    expect(page.body).toContain('Found nobody to sign out')
    expect(page.body).toContain('You are signed out here, and of 1 of 2 apps')
    expect((await receipt())?.apps.map(({ clientId, flag }) => [clientId, flag])).toEqual([
      ['mail', 'ended_nothing'],
      ['notes', undefined],
    ])
  })

  it('does not flag it when an earlier attempt may have ended it: its answer was lost [T28]', async () => {
    let attempts = 0
    rps.answer('mail', (response) => {
      attempts += 1
      if (attempts === 1) response.destroy()
      else response.writeHead(200, { 'logout-sessions-ended': '0' }).end()
    })
    await logOut()
    await expect.poll(async () => (await receipt())?.apps[0]?.state, { timeout: 10_000 }).toBe('delivered')
    expect((await receipt())?.apps[0]).toMatchObject({ clientId: 'mail', state: 'delivered', sessionsEnded: 0 })
    expect((await receipt())?.apps[0]).not.toHaveProperty('flag')
  }, 15_000)

  it('is about this browser’s logout only, and holds no handle of it [T14]', async () => {
    await logOut()
    const { page, body } = await progress()
    expect(page.header('cache-control')).toBe('no-store')
    const { logoutId = '' } = (await receipt()) ?? {}
    expect(page.body).not.toContain(logoutId)
    expect(JSON.stringify(body)).not.toMatch(/ada|clientId|"id"/)
    const other = createUserAgent()
    const answer = await other.fetch(op.issuer, signedOutUrl(), { headers: { accept: 'application/json' } })
    expect(answer.status).toBe(404)
    await other.close()
  })

  it('is there for ten minutes, also where the browser keeps the cookie for longer [T14]', async () => {
    await logOut()
    clockAhead = 599_000
    expect((await browser.open(signedOutUrl())).body).toContain('<span>Notes</span>')
    clockAhead = 601_000
    expect((await browser.open(signedOutUrl())).body).not.toContain('<span>Notes</span>')
    expect((await browser.fetch(op.issuer, signedOutUrl(), { headers: { accept: 'application/json' } })).status).toBe(
      404,
    )
  })

  it('is under a handle of 128 bits in a Strict cookie that no script reads [T14]', async () => {
    await logOut()
    const [cookie, ...more] = browser.cookies(op.issuer).filter(({ name }) => name.startsWith('__Host-op_logout.'))
    expect(more).toEqual([])
    expect(cookie).toMatchObject({ httpOnly: true, sameSite: 'strict' })
    expect(Buffer.from(cookie?.value ?? '', 'base64url')).toHaveLength(16)
  })

  it('loads itself once more on the way from an app’s site, where a Strict cookie stays at home [T14]', async () => {
    const from = { ...(await logOut()), url: `${rps.origin('notes')}/` }
    const first = await browser.click(from, signedOutUrl())
    expect(first.body).not.toContain('<span>Notes</span>')
    expect(first.body).toContain('<meta http-equiv="refresh" content="0">')
    const second = await browser.click(first, first.url)
    expect(second.body).toContain('<span>Notes</span>')
    expect(second.body).not.toContain('http-equiv="refresh" content="0"')
  })

  it('does not load itself for ever in a browser that keeps no cookies', async () => {
    const stranger = createUserAgent()
    const from = { ...(await stranger.open(signedOutUrl())), url: `${rps.origin('notes')}/` }
    const first = await stranger.click(from, signedOutUrl())
    expect((await stranger.click(first, first.url)).body).not.toContain('http-equiv="refresh"')
    await stranger.close()
  })

  it('shows names as text, without controls and marks that turn it round [T24]', async () => {
    const page = await logOut()
    expect(page.body).toContain('<span>Mail &lt;b&gt;</span>')
    expect(page.body).not.toContain('\u202E')
  })
})

describe('when the store fails', () => {
  it('the page does not tell a user who is signed in that he is signed out', async () => {
    const inner = sqliteStore(':memory:')
    let isDown = false
    const store: OpStore = {
      forIssuer: (issuer, runtime) => {
        const issuerStore = inner.forIssuer(issuer, runtime)
        const getOpSession: typeof issuerStore.getOpSession = async (by) => {
          if (isDown) throw new Error('the store is away')
          return issuerStore.getOpSession(by)
        }
        return { ...issuerStore, getOpSession }
      },
      close: () => inner.close(),
    }
    const other = await startTestOp({ clients: [notes], store })
    await logIn(browser, other, notes)
    isDown = true
    const page = await browser.open(`${other.issuer}/session/end/signed-out`)
    await other.close()
    await inner.close()
    expect(page.status).toBe(500)
    expect(page.body).not.toContain('You are signed out')
    expect(page.body).toContain('Code: server_error')
  })
})

it('a login that is made while apps are still being told of a logout keeps its cookies [SM-3.2-g]', async () => {
  let answer = () => {}
  rps.answer('notes', (response) => {
    answer = () => response.end()
  })
  const session = op.provider.cookieName('session')
  const logout = logOut()
  await rps.received(1)
  await vi.waitFor(() => expect(browser.cookies(op.issuer).map(({ name }) => name)).not.toContain(session))
  await logIn(browser, op, mail)
  answer()
  await logout
  expect(await isSignedIn(browser, op, mail)).toBe(true)
})

describe('a receipt', () => {
  it('is the whole story for the operator, as JSON', async () => {
    await logOut()
    const found = await receipt()
    expect(JSON.parse(JSON.stringify(found))).toMatchObject({
      accountId: 'ada',
      cause: 'rp_initiated',
      initiator: 'notes',
      apps: [
        { clientId: 'mail', mechanism: 'backchannel', state: 'delivered', attempts: 1, sessionsEnded: 1 },
        { clientId: 'notes', app: 'Notes', mechanism: 'backchannel', state: 'delivered', attempts: 1 },
      ],
    })
    for (const { plannedAt, finalAt } of found?.apps ?? []) expect(finalAt).toBeGreaterThanOrEqual(plannedAt)
    expect(found?.endedAt).toBe(found?.apps[0]?.plannedAt)
  })

  it('is not there for a logout that never was', async () => {
    expect(await op.provider.receipts.get('nothing')).toBeUndefined()
  })
})

describe('a request that is refused', () => {
  const wrong = () => ({ id_token_hint: tokens.id_token, client_id: 'mail' })

  it('leaves no hint in the address bar, and is a 400 all the same [T12]', async () => {
    const page = await browser.open(logoutUrl(op, wrong()))
    expect(page.status).toBe(400)
    expect(page.url).toMatch(new RegExp(`^${op.issuer}/session/end/refused\\?request=[\\w.-]+$`))
    expect(page.url).not.toContain(tokens.id_token)
    expect(page.body).toContain('not the client that')
    expect(page.body).toContain('Code: logout_request_invalid')
  })

  it('is a 400 at once for a program [E4]', async () => {
    const response = await fetch(logoutUrl(op, wrong()), { redirect: 'manual' })
    expect(response.status).toBe(400)
    expect(await response.text()).toContain('You were not signed out')
  })

  it('leads to the question when its page is too old to say why', async () => {
    const { url } = await browser.open(logoutUrl(op, wrong()))
    clockAhead = 16 * 60_000
    expect((await browser.open(url)).url).toContain('/session/end/ask?')
  })
})
