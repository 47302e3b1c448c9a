import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import express from 'express'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type OpStore, openSecrets, Provider } from '../../src/op.ts'
import { sqliteStore } from '../../src/op-sqlite.ts'
import { logoutForm } from '../support/logout-pages.ts'
import { authorizationUrl, isSignedIn, logIn, logoutUrl } from '../support/op-flow.ts'
import { type RpSite, startRpSite } from '../support/rp-site.ts'
import { lifetimes } from '../support/test-op.ts'
import { createUserAgent, type UserAgent } from '../support/user-agent.ts'

let rps: RpSite
let browser: UserAgent
let server: Server
let store: OpStore
let provider: Provider
let op: { issuer: string }
let notes: ReturnType<RpSite['client']>
let board: ReturnType<RpSite['client']>

beforeEach(async () => {
  rps = await startRpSite()
  browser = createUserAgent()
  notes = rps.client('notes')
  board = rps.client('board', {
    backchannel_logout_uri: undefined,
    frontchannel_logout_uri: `${rps.origin('board')}/front`,
  })
  store = sqliteStore(':memory:')
  const app = express()
  server = createServer(app)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const issuer = `http://localhost:${(server.address() as AddressInfo).port}/oidc`
  op = { issuer }
  const { jwks, cookieKeys } = await openSecrets(store, issuer)
  provider = new Provider(
    issuer,
    {
      clients: [notes, board],
      jwks: { keys: [...jwks.keys] },
      cookies: { keys: [...cookieKeys] },
      features: { devInteractions: { enabled: false } },
      ttl: lifetimes,
      findAccount: (_ctx, id) => ({ accountId: id, claims: async () => ({ sub: id }) }),
      pkce: { required: () => false },
      interactions: { url: (_ctx, { uid }) => `/interaction/${uid}` },
    },
    { store, egress: { allow: ['127.0.0.1'] }, log: () => {} },
  )
  app.use(express.urlencoded({ extended: true }), express.json())
  app.get('/interaction/:uid', async (request, response) => {
    const { prompt, params, grantId } = await provider.interactionDetails(request, response)
    const accountId = typeof params.login_hint === 'string' ? params.login_hint : 'ada'
    if (prompt.name === 'login') {
      await provider.interactionFinished(request, response, { login: { accountId } })
      return
    }
    const grant = grantId === undefined ? undefined : await provider.Grant.find(grantId)
    const given = grant ?? new provider.Grant({ accountId, clientId: String(params.client_id) })
    given.addOIDCScope('openid')
    await provider.interactionFinished(request, response, { consent: { grantId: await given.save() } })
  })
  app.use('/oidc', provider.callback())
})
afterEach(async () => {
  await browser.close()
  server.closeAllConnections()
  await new Promise((resolve) => server.close(resolve))
  await provider.close()
  await store.close()
  await rps.close()
})

const bye = () => `${rps.origin('notes')}/bye`

describe('an OP below a path of an Express app that parses bodies itself, with oidc-provider’s own grants and consent', () => {
  it('logs in, and out by GET [RPI-2-a]', async () => {
    const { tokens, sessionState } = await logIn(browser, op, notes)
    expect(sessionState).toMatch(/^[\w-]{43}\.[\w-]{22}$/)
    const url = logoutUrl(op, { id_token_hint: tokens.id_token, post_logout_redirect_uri: bye(), state: 's' })
    expect((await browser.open(url)).url).toBe(`${bye()}?state=s`)
    expect((await rps.received(1)).map(({ app }) => app)).toEqual(['notes'])
  })

  it('logs out by POST, whose body the app has read already [RPI-2-a]', async () => {
    const { tokens } = await logIn(browser, op, notes)
    const fields = { id_token_hint: tokens.id_token, post_logout_redirect_uri: bye(), state: 'a&b=c' }
    expect((await browser.submit(logoutForm(rps.origin('notes'), op), fields)).url).toBe(`${bye()}?state=a%26b%3Dc`)
    await rps.received(1)
  })

  it('refuses a parameter that was sent twice there too [RFC 6749 §3.1]', async () => {
    await logIn(browser, op, notes)
    const page = await browser.fetch(rps.origin('notes'), `${op.issuer}/session/end`, {
      method: 'POST',
      body: 'client_id=notes&client_id=notes',
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
    })
    expect(page.status).toBe(400)
  })

  it('frames apps at its own path, after a logout and when another user signs in [FCL-2-c]', async () => {
    const next = ({ body }: { body: string }) => /id="next"[^>]* href="([^"]*)"/.exec(body)?.[1] ?? ''
    await logIn(browser, op, board)
    const switching = await browser.open(authorizationUrl(op, board, { login_hint: 'bob', prompt: 'login' }))
    expect(new URL(switching.url).pathname).toBe('/oidc/session/end/apps')
    expect(switching.body.match(/<iframe /g)).toHaveLength(1)
    expect(new URL(next(switching), switching.url).pathname).toMatch(/^\/oidc\/auth\//)
    expect((await browser.click(switching, next(switching))).url).toContain('code=')

    const leaving = await browser.submit(await browser.open(logoutUrl(op)), { answer: 'yes' })
    expect(new URL(leaving.url).pathname).toBe('/oidc/session/end/apps')
    expect(next(leaving)).toBe('/oidc/session/end/signed-out')
  })

  it('asks, and takes the answer [RPI-2-n]', async () => {
    await logIn(browser, op, notes)
    const question = await browser.open(logoutUrl(op))
    expect(new URL(question.url).pathname).toBe('/oidc/session/end/ask')
    expect(question.body).toContain('<li>Notes</li>')
    const page = await browser.submit(question, { answer: 'yes' })
    expect(new URL(page.url).pathname).toBe('/oidc/session/end/signed-out')
    expect(await isSignedIn(browser, op, notes)).toBe(false)
  })

  it('serves the OP iframe where discovery says, which asks at its own path [SM-3.3-a]', async () => {
    const document = await (await fetch(`${op.issuer}/.well-known/openid-configuration`)).json()
    const { check_session_iframe: url } = document as { check_session_iframe: string }
    const page = await (await fetch(url)).text()
    expect(page).toContain('data-check="/oidc/session/check"')
    const ask = (origin: string) =>
      fetch(url, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ client_id: 'notes', origin }),
      })
    expect((await ask(rps.origin('notes'))).status).toBe(204)
    expect((await ask('https://evil.example')).status).toBe(403)
  })

  it('asks for consent anew after a logout, and each OP session has a grant of its own', async () => {
    const { tokens } = await logIn(browser, op, notes)
    await browser.open(logoutUrl(op, { id_token_hint: tokens.id_token }))
    const again = await logIn(browser, op, notes)
    const response = await fetch(`${op.issuer}/me`, {
      headers: { authorization: `Bearer ${again.tokens.access_token}` },
    })
    expect(response.status).toBe(200)
  })
})

it('an OP can be closed again and again: each time it is closed', async () => {
  await Promise.all([provider.close(), provider.close()])
  await provider.close()
  expect((await provider.opSessions.list({ accountId: 'ada' })).sessions).toEqual([])
})
