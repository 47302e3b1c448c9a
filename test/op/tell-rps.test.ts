import type { ServerResponse } from 'node:http'
import { compactDecrypt, createRemoteJWKSet, decodeProtectedHeader, exportJWK, generateKeyPair, jwtVerify } from 'jose'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { type Runtime, world } from '../../src/runtime/runtime.ts'
import { authorize, claimsOf, logIn, logoutUrl } from '../support/op-flow.ts'
import { type ReceivedLogout, type RpSite, startRpSite } from '../support/rp-site.ts'
import { startTestOp, type TestOp, type TestOpParts } from '../support/test-op.ts'
import { createUserAgent, type UserAgent } from '../support/user-agent.ts'

let rps: RpSite
let op: TestOp
let browser: UserAgent
const opened: { close(): Promise<unknown> }[] = []

beforeEach(async () => {
  rps = await startRpSite()
  browser = createUserAgent()
  opened.push(rps, browser)
})
afterEach(async () => {
  for (const each of opened.splice(0).reverse()) await each.close()
})

async function start(apps: TestOpParts['clients'], more: Omit<TestOpParts, 'clients'> = {}): Promise<void> {
  op = await startTestOp({ clients: apps, ...more })
  opened.push(op)
}

type Sleep = Runtime['sleep']
const never = (signal: AbortSignal | undefined): Promise<void> =>
  new Promise((_resolve, reject) => {
    signal?.addEventListener('abort', () => reject(signal.reason))
  })

const bye = (app: string) => `${rps.origin(app)}/bye`
const verify = (token: string, audience: string) =>
  jwtVerify(token, createRemoteJWKSet(new URL(`${op.issuer}/jwks`)), { issuer: op.issuer, audience })

describe('the RPs of an OP session that ends', () => {
  it('are told, the initiating one included, before the post-logout redirect [RPI-2-q] [RPI-3-d]', async () => {
    const apps = ['notes', 'mail', 'files', 'chat'].map((app) => rps.client(app))
    // the second that the redirect waits at most never passes here
    const sleep: Sleep = (ms, signal) => (ms === 1000 ? never(signal) : world.sleep(ms, signal))
    await start(apps, { options: { runtime: { sleep } } })
    const [notes] = apps
    const logins = []
    for (const app of apps) logins.push(await logIn(browser, op, app))
    const from = rps.log.length
    const held: ServerResponse[] = []
    for (const app of ['mail', 'files']) rps.answer(app, (response) => held.push(response))

    const params = { id_token_hint: logins[0]?.tokens.id_token ?? '', post_logout_redirect_uri: bye('notes') }
    const navigation = browser.open(logoutUrl(op, params))
    await rps.received(4)
    expect(rps.log.slice(from).sort()).toEqual(['logout chat', 'logout files', 'logout mail', 'logout notes'])
    for (const response of held) response.end()
    expect((await navigation).url).toBe(bye(notes?.client_id ?? ''))
    expect(rps.log.at(-1)).toBe('GET notes /bye')
  })

  it('that hang hold the redirect back for a second and no longer [design §4]', async () => {
    /** Waits of a second that are not over, nor called off. */
    const waits = new Set<() => void>()
    const sleep: Sleep = (ms, signal) => {
      if (ms <= 900 || ms > 1000) return world.sleep(ms, signal)
      return new Promise((resolve, reject) => {
        waits.add(resolve)
        signal?.addEventListener('abort', () => {
          waits.delete(resolve)
          reject(signal.reason)
        })
      })
    }
    const [notes, mail] = [rps.client('notes'), rps.client('mail')]
    await start([notes, mail], { options: { runtime: { sleep }, backchannel: { stopTimeout: 0 } } })
    const { tokens } = await logIn(browser, op, notes)
    await logIn(browser, op, mail)
    rps.answer('mail', () => {}) // takes the request and never answers
    const from = rps.log.length

    const params = { id_token_hint: tokens.id_token, post_logout_redirect_uri: bye('notes') }
    const navigation = browser.open(logoutUrl(op, params))
    await rps.received(2)
    await vi.waitFor(() => expect(waits.size).toBe(1)) // the wait is on the page after the logout
    expect(rps.log.slice(from)).not.toContain('GET notes /bye')
    const [secondIsOver = expect.unreachable] = waits
    waits.clear()
    secondIsOver()
    expect((await navigation).url).toBe(bye('notes'))
    expect(waits.size).toBe(0)
  })

  it('are those it logged in at, each by its own sid, and nobody else [BCL-2.3-a] [FCL-3-c]', async () => {
    const [notes, mail, files] = [rps.client('notes'), rps.client('mail'), rps.client('files')]
    const deaf = rps.client('deaf', { backchannel_logout_uri: undefined })
    await start([notes, mail, files, deaf, rps.client('unvisited')])
    const mine = new Map<string, string>()
    for (const app of [notes, mail, deaf]) {
      mine.set(app.client_id, claimsOf((await logIn(browser, op, app)).tokens.id_token).sid ?? '')
    }
    const elsewhere = createUserAgent()
    opened.push(elsewhere)
    const other = claimsOf((await logIn(elsewhere, op, notes)).tokens.id_token).sid
    await logIn(elsewhere, op, files)

    await browser.submit(await browser.open(logoutUrl(op)), { answer: 'yes' })
    const told = new Map((await rps.received(2)).map(({ app, token }) => [app, claimsOf(token).sid as string]))
    mine.delete('deaf')
    expect(told).toEqual(mine)
    expect(new Set([...mine.values(), other]).size).toBe(3)
    expect(
      (await op.provider.opSessions.list({ accountId: 'ada' })).sessions.map(({ clients }) => clients),
    ).toMatchObject([[{ clientId: 'files' }, { clientId: 'notes', sid: other }]])
  })

  it('that a login was refused to are not told [BCL-2.3-a]', async () => {
    const [notes, mail] = [rps.client('notes'), rps.client('mail')]
    const interact: TestOpParts['interact'] = ({ params }) =>
      params.client_id === 'mail' ? { error: 'access_denied' } : { login: { accountId: 'ada' } }
    await start([notes, mail], { interact })
    await logIn(browser, op, notes)
    const { params } = await authorize(browser, op, mail, { prompt: 'login' })
    expect(params.get('error')).toBe('access_denied')
    const [session] = (await op.provider.opSessions.list({ accountId: 'ada' })).sessions
    expect(session?.clients.map(({ clientId }) => clientId)).toEqual(['notes'])
    const question = await browser.open(logoutUrl(op))
    expect(question.body).not.toContain('<li>Mail</li>')
    await browser.submit(question, { answer: 'yes' })
    expect((await rps.received(1)).map(({ app }) => app)).toEqual(['notes'])
  })
})

describe('a Logout Token', () => {
  it.each([
    'RS256',
    'ES256',
  ] as const)('signed with %s says what Back-Channel §2.4 asks for [BCL-2.4-a] [BCL-2.4-g] [BCL-4-a]', async (alg) => {
    const notes = rps.client('notes', { id_token_signed_response_alg: alg })
    await start([notes])
    const { tokens } = await logIn(browser, op, notes)
    const idToken = claimsOf(tokens.id_token)
    await browser.open(logoutUrl(op, { id_token_hint: tokens.id_token }))
    const [received] = (await rps.received(1)) as [ReceivedLogout]

    expect(received.contentType).toBe('application/x-www-form-urlencoded')
    const { payload, protectedHeader } = await verify(received.token, 'notes')
    expect(protectedHeader).toMatchObject({ alg, typ: 'logout+jwt' })
    expect(payload).toEqual({
      iss: op.issuer,
      aud: 'notes',
      sub: idToken.sub,
      sid: idToken.sid,
      iat: expect.any(Number),
      exp: expect.any(Number),
      jti: expect.stringMatching(/^[\w-]{22}$/),
      toe: expect.any(Number),
      events: { 'http://schemas.openid.net/event/backchannel-logout': {} },
    })
    expect((payload.exp ?? 0) - (payload.iat ?? 0)).toBeLessThanOrEqual(120)
    expect(Math.abs(Number(payload.toe) - (payload.iat ?? 0))).toBeLessThanOrEqual(2)
    expect(payload).not.toHaveProperty('nonce')
    expect(payload).not.toHaveProperty('lockstep_logout_details')
  })

  it('has its own jti for each RP [BCL-2.4-a]', async () => {
    const apps = [rps.client('notes'), rps.client('mail')]
    await start(apps)
    for (const app of apps) await logIn(browser, op, app)
    await browser.submit(await browser.open(logoutUrl(op)), { answer: 'yes' })
    const jtis = (await rps.received(2)).map(({ token }) => claimsOf(token).jti)
    expect(new Set(jtis).size).toBe(2)
  })

  it('names a pairwise user as the ID Token does, which still works as a hint [BCL-2.4-c] [T12]', async () => {
    const notes = rps.client('notes', { subject_type: 'pairwise' })
    await start([notes, rps.client('mail')], {
      configuration: {
        subjectTypes: ['public', 'pairwise'],
        pairwiseIdentifier: async (_ctx, accountId, client) => `${client.clientId}:${accountId}`,
      },
    })
    const { tokens } = await logIn(browser, op, notes)
    expect(claimsOf(tokens.id_token).sub).toBe('notes:ada')
    const page = await browser.open(
      logoutUrl(op, { id_token_hint: tokens.id_token, post_logout_redirect_uri: bye('notes') }),
    )
    expect(page.url).toBe(bye('notes'))
    expect(claimsOf((await rps.received(1))[0]?.token ?? '').sub).toBe('notes:ada')
  })

  it('is encrypted for an RP whose ID Tokens are, whose decrypted hint still works [BCL-2.4-f]', async () => {
    const { publicKey, privateKey } = await generateKeyPair('RSA-OAEP-256', { extractable: true })
    const notes = rps.client('notes', {
      id_token_encrypted_response_alg: 'RSA-OAEP-256',
      id_token_encrypted_response_enc: 'A256GCM',
      jwks: { keys: [{ ...(await exportJWK(publicKey)), use: 'enc', kid: 'enc-1' }] },
    })
    await start([notes], {
      configuration: { features: { devInteractions: { enabled: false }, encryption: { enabled: true } } },
    })
    const { tokens } = await logIn(browser, op, notes)
    const inner = async (jwe: string) => new TextDecoder().decode((await compactDecrypt(jwe, privateKey)).plaintext)
    const hint = await inner(tokens.id_token)
    const page = await browser.open(logoutUrl(op, { id_token_hint: hint, post_logout_redirect_uri: bye('notes') }))
    expect(page.url).toBe(bye('notes'))
    const [received] = (await rps.received(1)) as [ReceivedLogout]
    expect(decodeProtectedHeader(received.token)).toMatchObject({ enc: 'A256GCM', iss: op.issuer })
    const { payload, protectedHeader } = await verify(await inner(received.token), 'notes')
    expect(protectedHeader.typ).toBe('logout+jwt')
    expect(payload.sid).toBe(claimsOf(hint).sid)
  })

  it('tells who and when to the millisecond to an app that the operator granted it, and to no other [design §4]', async () => {
    const notes = rps.client('notes', { lockstep_logout_details: true })
    const mail = rps.client('mail')
    const now = Date.now()
    await start([notes, mail], { options: { runtime: { now: () => now } } })
    await logIn(browser, op, notes)
    const { tokens } = await logIn(browser, op, mail)
    await browser.open(logoutUrl(op, { id_token_hint: tokens.id_token }))
    const told = new Map((await rps.received(2)).map(({ app, token }) => [app, claimsOf(token)]))
    expect(told.get('notes')?.lockstep_logout_details).toEqual({ ended_at_ms: now, ended_by: 'Mail' })
    expect(told.get('mail')).not.toHaveProperty('lockstep_logout_details')
    expect(told.get('notes')?.toe).toBe(Math.floor(now / 1000))

    await logIn(browser, op, notes)
    await browser.submit(await browser.open(logoutUrl(op)), { answer: 'yes' })
    const second = claimsOf((await rps.received(3))[2]?.token ?? '')
    expect(second.lockstep_logout_details).toEqual({ ended_at_ms: now })
  })

  it('is not an ID Token to the OP that issued it [BCL-4.1-a]', async () => {
    const notes = rps.client('notes')
    await start([notes])
    const { tokens } = await logIn(browser, op, notes)
    await browser.open(logoutUrl(op, { id_token_hint: tokens.id_token }))
    const [received] = (await rps.received(1)) as [ReceivedLogout]
    await logIn(browser, op, notes)
    const page = await browser.open(
      logoutUrl(op, { id_token_hint: received.token, post_logout_redirect_uri: bye('notes') }),
    )
    expect(page.status).toBe(400)
  })
})

describe('an ID Token', () => {
  it('carries a sid for each RP, whatever logout URIs it has [design §4]', async () => {
    const plain = rps.client('plain', { backchannel_logout_uri: undefined, post_logout_redirect_uris: [] })
    await start([plain])
    expect(claimsOf((await logIn(browser, op, plain)).tokens.id_token).sid).toMatch(/^[\w-]{22,}$/)
  })

  it('keeps its sid when the same RP logs in again in one OP session, and gets a new one in the next [FCL-3-c]', async () => {
    const notes = rps.client('notes')
    await start([notes])
    const sids = []
    for (const params of [{}, { prompt: 'none' }, { prompt: 'login' }] as Record<string, string>[]) {
      sids.push(claimsOf((await logIn(browser, op, notes, params)).tokens.id_token).sid)
    }
    expect(new Set(sids).size).toBe(1)
    await browser.submit(await browser.open(logoutUrl(op)), { answer: 'yes' })
    expect(claimsOf((await logIn(browser, op, notes)).tokens.id_token).sid).not.toBe(sids[0])
  })
})
