import { createRemoteJWKSet, decodeJwt, decodeProtectedHeader, type JWTPayload, jwtVerify } from 'jose'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type RpSite, startRpSite } from '../../test/support/rp-site.ts'
import { createUserAgent, type UserAgent } from '../../test/support/user-agent.ts'
import { expectDiscovery, expectLoginRequired } from './assertions.ts'
import { type App, askForTokens, confirmed, logIn, logoutUrl, silently, wildState } from './relying-party.ts'
import { type OpUnderTest, startOp } from './server-program.ts'

const EVENT = 'http://schemas.openid.net/event/backchannel-logout'

let rps: RpSite
let op: OpUnderTest
let browser: UserAgent
let notes: App
let mail: App
let bye: string

beforeEach(async () => {
  rps = await startRpSite()
  notes = rps.client('notes', { backchannel_logout_session_required: true })
  mail = rps.client('mail')
  bye = `${rps.origin('notes')}/bye`
  op = await startOp([notes, mail])
  browser = createUserAgent()
})
afterEach(async () => {
  await browser.close()
  await op.close()
  await rps.close()
})

const hinted = (idToken: string) => ({ id_token_hint: idToken, post_logout_redirect_uri: bye, state: wildState })

async function verified(token: string): Promise<JWTPayload> {
  const { payload } = await jwtVerify(token, createRemoteJWKSet(new URL(op.metadata.jwks_uri)))
  return payload
}

describe('oidcc-backchannel-rp-initiated-logout-certification-test-plan', () => {
  it('discovery [oidcc-backchannel-logout-discovery-endpoint-verification] [BCL-2.1-a]', async () => {
    await expectDiscovery(op)
    expect(op.metadata).toMatchObject({
      backchannel_logout_supported: true,
      backchannel_logout_session_supported: true,
    })
  })

  it('a Logout Token by POST, then the redirect with state [oidcc-backchannel-rp-initiated-logout] [BCL-2.4-a/b/c/d/f/g] [BCL-2.5-a] [BCL-4-a] [RPI-2-q]', async () => {
    const { tokens } = await logIn(browser, op, notes)
    const idToken = decodeJwt(tokens.id_token)
    const page = await browser.open(logoutUrl(op, hinted(tokens.id_token)))
    expect(new URL(page.url).searchParams.get('state')).toBe(wildState)
    const [sent] = await rps.received(1)
    const claims = await verified(sent?.token ?? '')
    expect(sent?.contentType).toMatch(/^application\/x-www-form-urlencoded/)
    expect(claims).toMatchObject({ iss: op.metadata.issuer, aud: 'notes', sid: idToken.sid, events: { [EVENT]: {} } })
    expect(Object.keys(claims.events as object)).toEqual([EVENT])
    expect(claims.jti).toMatch(/./)
    expect(claims).not.toHaveProperty('nonce')
    expect([undefined, idToken.sub]).toContain(claims.sub)
    expect((claims.exp ?? 0) - (claims.iat ?? 0)).toBeGreaterThan(0)
    expect((claims.exp ?? 0) - (claims.iat ?? 0)).toBeLessThanOrEqual(120)
    expect(Math.abs((claims.iat ?? 0) - Date.now() / 1000)).toBeLessThan(300)
    expect(decodeProtectedHeader(sent?.token ?? '')).toMatchObject({ typ: 'logout+jwt', alg: 'RS256' })
    expectLoginRequired(op, await silently(browser, op, notes))
  })
})

describe('beyond the suite', () => {
  it('tells all RPs of the session before the redirect, the initiating one too [RPI-2-q] [RPI-3-d] [BCL-2.3-a] [FCL-3-a]', async () => {
    const { tokens } = await logIn(browser, op, notes)
    await logIn(browser, op, mail)
    const from = rps.log.length
    await browser.open(logoutUrl(op, hinted(tokens.id_token)))
    const order = rps.log.slice(from).map((line) => line.split('?')[0])
    expect(order.slice(0, 2).toSorted()).toEqual(['logout mail', 'logout notes'])
    expect(order[2]).toBe('GET notes /bye')
  })

  it('tells nobody of another session of the same user [BCL-2.4-c] [FCL-3-c]', async () => {
    const phone = createUserAgent()
    const elsewhere = await logIn(phone, op, notes)
    const here = await logIn(browser, op, notes)
    await browser.open(logoutUrl(op, hinted(here.tokens.id_token)))
    const [sent, ...others] = await rps.received(1)
    const { sid } = decodeJwt(sent?.token ?? '')
    expect(others).toEqual([])
    expect(sid).toBe(decodeJwt(here.tokens.id_token).sid)
    expect(sid).not.toBe(decodeJwt(elsewhere.tokens.id_token).sid)
    expect((await silently(phone, op, notes)).has('code')).toBe(true)
    await phone.close()
  })

  it('a sid is printable, at least 128 bits, and another at each RP [FCL-3-c] [FCL-5-a]', async () => {
    const sids = [await logIn(browser, op, notes), await logIn(browser, op, mail)].map(({ tokens }) =>
      String(decodeJwt(tokens.id_token).sid),
    )
    for (const sid of sids) expect(sid).toMatch(/^[\x20-\x7e]{22,}$/)
    expect(new Set(sids).size).toBe(2)
  })

  it('an RP that hangs does not hold the user up for good [RPI-3-d]', async () => {
    rps.answer('mail', () => {})
    const { tokens } = await logIn(browser, op, notes)
    await logIn(browser, op, mail)
    const page = await browser.open(logoutUrl(op, hinted(tokens.id_token)))
    expect(page.url.startsWith(bye)).toBe(true)
  })

  it('a failed delivery is made again with a new jti and the time of the event [BCL-2.5-b] [E33]', async () => {
    let down = true
    rps.answer('notes', (response) => {
      response.statusCode = down ? 503 : 200
      down = false
      response.end()
    })
    const { tokens } = await logIn(browser, op, notes)
    await browser.open(logoutUrl(op, hinted(tokens.id_token)))
    const [first, second] = await Promise.all((await rps.received(2)).map(({ token }) => verified(token)))
    expect(second?.jti).not.toBe(first?.jti)
    expect(second).toMatchObject({ sid: first?.sid, toe: first?.toe })
  })

  it('204 is a success, and a redirect is not followed [BCL-2.8-a] [E31]', async () => {
    rps.answer('notes', (response) => {
      response.writeHead(204).end()
    })
    rps.answer('mail', (response) => {
      response.writeHead(307, { location: '/elsewhere' }).end()
    })
    const { tokens } = await logIn(browser, op, notes)
    await logIn(browser, op, mail)
    await browser.open(logoutUrl(op, { id_token_hint: tokens.id_token }))
    await rps.received(3) // a redirect is a failure that may pass: mail is asked again
    expect(rps.log.filter((line) => line === 'logout notes')).toHaveLength(1)
    expect(rps.log.join()).not.toContain('/elsewhere')
  })

  it('refresh tokens die with the session, those with offline_access live on [BCL-2.7-c]', async () => {
    const kept = await logIn(browser, op, mail, { scope: 'openid offline_access', prompt: 'consent' })
    const { tokens } = await logIn(browser, op, notes)
    const refresh = (app: App, token = '') =>
      askForTokens(op, app, { grant_type: 'refresh_token', refresh_token: token }).then(({ status }) => status)
    await confirmed(browser, await browser.open(logoutUrl(op)))
    const userinfo = await fetch(op.metadata.userinfo_endpoint, {
      headers: { authorization: `Bearer ${tokens.access_token}` },
    })
    expect(userinfo.status).toBe(401)
    if (tokens.refresh_token) expect(await refresh(notes, tokens.refresh_token)).toBe(400)
    expect(await refresh(mail, kept.tokens.refresh_token)).toBe(200)
  })
})
