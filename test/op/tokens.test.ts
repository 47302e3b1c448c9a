import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { askForTokens, authorize, logIn, logoutUrl, type Tokens } from '../support/op-flow.ts'
import { type RpSite, startRpSite } from '../support/rp-site.ts'
import { startTestOp, type TestOp } from '../support/test-op.ts'
import { createUserAgent, type UserAgent } from '../support/user-agent.ts'

let rps: RpSite
let op: TestOp
let browser: UserAgent
let notes: ReturnType<RpSite['client']>
let mail: ReturnType<RpSite['client']>

beforeAll(async () => {
  rps = await startRpSite()
  notes = rps.client('notes')
  mail = rps.client('mail')
  op = await startTestOp({ clients: [notes, mail] })
})
afterAll(async () => {
  await op.close()
  await rps.close()
})
beforeEach(() => {
  browser = createUserAgent()
})
afterEach(() => browser.close())

const offline = { scope: 'openid offline_access', prompt: 'consent' }

async function userinfo({ access_token }: Tokens): Promise<number> {
  const response = await fetch(`${op.issuer}/me`, { headers: { authorization: `Bearer ${access_token}` } })
  return response.status
}

function refresh(app: ReturnType<RpSite['client']>, { refresh_token = '' }: Tokens) {
  return askForTokens(op, app, { grant_type: 'refresh_token', refresh_token })
}

describe('after a logout', () => {
  it('access and refresh tokens of the OP session are dead, at every RP [BCL-2.7-c]', async () => {
    const first = await logIn(browser, op, notes)
    const second = await logIn(browser, op, mail)
    expect([await userinfo(first.tokens), await userinfo(second.tokens)]).toEqual([200, 200])
    await browser.open(logoutUrl(op, { id_token_hint: first.tokens.id_token }))
    for (const [app, { tokens }] of [
      [notes, first],
      [mail, second],
    ] as const) {
      expect(await userinfo(tokens)).toBe(401)
      expect(await refresh(app, tokens)).toMatchObject({ status: 400, body: { error: 'invalid_grant' } })
    }
  })

  it('a code that was not redeemed yet is dead [BCL-2.7-c]', async () => {
    const { code } = await authorize(browser, op, notes)
    await browser.submit(await browser.open(logoutUrl(op)), { answer: 'yes' })
    const redirect_uri = notes.redirect_uris?.[0] ?? ''
    expect(await askForTokens(op, notes, { grant_type: 'authorization_code', code, redirect_uri })).toMatchObject({
      status: 400,
      body: { error: 'invalid_grant' },
    })
  })

  it('tokens with offline_access go on, and refreshed ones too [BCL-2.7-c]', async () => {
    const kept = await logIn(browser, op, notes, offline)
    const ended = await logIn(browser, op, mail)
    await browser.open(logoutUrl(op, { id_token_hint: ended.tokens.id_token }))
    expect(await userinfo(kept.tokens)).toBe(200)
    expect((await refresh(notes, kept.tokens)).status).toBe(200)
    expect(await userinfo(ended.tokens)).toBe(401)
  })

  it('the RP with offline_access is told all the same [BCL-2.3-a]', async () => {
    const before = rps.logouts.length
    const { tokens } = await logIn(browser, op, notes, offline)
    await browser.open(logoutUrl(op, { id_token_hint: tokens.id_token }))
    expect((await rps.received(before + 1)).slice(before).map(({ app }) => app)).toEqual(['notes'])
  })

  it('tokens of the same user and RP in another browser are alive [design §4]', async () => {
    const other = createUserAgent()
    const elsewhere = await logIn(other, op, notes)
    const here = await logIn(browser, op, notes)
    await browser.open(logoutUrl(op, { id_token_hint: here.tokens.id_token }))
    expect(await userinfo(here.tokens)).toBe(401)
    expect(await userinfo(elsewhere.tokens)).toBe(200)
    expect((await refresh(notes, elsewhere.tokens)).status).toBe(200)
    await other.close()
  })

  it('offline_access that was granted in an earlier OP session does not keep later tokens alive [BCL-2.7-c]', async () => {
    const kept = await logIn(browser, op, notes, offline)
    await browser.open(logoutUrl(op, { id_token_hint: kept.tokens.id_token }))
    const later = await logIn(browser, op, notes)
    await browser.open(logoutUrl(op, { id_token_hint: later.tokens.id_token }))
    expect(await userinfo(later.tokens)).toBe(401)
    expect(await userinfo(kept.tokens)).toBe(200)
  })
})

describe('one RP that logs in with and without offline_access in one OP session', () => {
  it.each([
    ['with it first', [offline, {}]],
    ['without it first', [{}, offline]],
  ])('keeps after the logout what it got with it, and nothing else: %s [BCL-2.7-c]', async (_order, logins) => {
    const got: Tokens[] = []
    for (const params of logins) got.push((await logIn(browser, op, notes, params)).tokens)
    await browser.submit(await browser.open(logoutUrl(op)), { answer: 'yes' })
    const survives = logins.map((params) => (params === offline ? 200 : 401))
    expect(await Promise.all(got.map(userinfo))).toEqual(survives)
    const refreshed = await Promise.all(got.map((tokens) => refresh(notes, tokens)))
    expect(refreshed.map(({ status }) => status)).toEqual(survives.map((status) => (status === 200 ? 200 : 400)))
  })
})

describe('before a logout', () => {
  it('a code that is used twice is refused and takes its tokens with it [RFC 6749 §4.1.2]', async () => {
    const { code, tokens } = await logIn(browser, op, notes)
    const redirect_uri = notes.redirect_uris?.[0] ?? ''
    const again = await askForTokens(op, notes, { grant_type: 'authorization_code', code, redirect_uri })
    expect(again).toMatchObject({ status: 400, body: { error: 'invalid_grant' } })
    expect(await userinfo(tokens)).toBe(401)
    const { code: next } = await authorize(browser, op, notes, { prompt: 'none' })
    const once = await askForTokens(op, notes, { grant_type: 'authorization_code', code: next, redirect_uri })
    expect(once.status).toBe(200) // the login itself goes on, with a grant of its own
  })
})

describe('a grant that a consent replaced with a new one', () => {
  it('is revoked with its offline_access, while the new one lives on [T1] [design §4]', async () => {
    const asked = await startTestOp({
      clients: [notes],
      interact: async ({ prompt, params, session }) => {
        if (prompt.name === 'login') return { login: { accountId: 'ada' } }
        const grant = new asked.provider.Grant({ accountId: session?.accountId ?? 'ada', clientId: 'notes' })
        grant.addOIDCScope(String(params.scope))
        return { consent: { grantId: await grant.save() } }
      },
      configuration: {
        loadExistingGrant: async ({ oidc: { client, result, session, provider } }) => {
          const grantId = result?.consent?.grantId ?? session?.grantIdFor(client?.clientId ?? '')
          return grantId === undefined ? undefined : provider.Grant.find(grantId)
        },
      },
    })
    const first = await logIn(browser, asked, notes, offline)
    const second = await logIn(browser, asked, notes, offline)
    const use = async ({ refresh_token = '' }: Tokens) =>
      (await askForTokens(asked, notes, { grant_type: 'refresh_token', refresh_token })).status
    expect([await use(first.tokens), await use(second.tokens)]).toEqual([400, 200])

    const { opSessions } = asked.provider
    const [session] = (await opSessions.list({ accountId: 'ada' })).sessions
    await opSessions.end(session?.uid ?? '', { cause: 'compromise' })
    expect([await use(first.tokens), await use(second.tokens)]).toEqual([400, 400])
    await asked.close()
  })
})
