import { exportSPKI, SignJWT, UnsecuredJWT } from 'jose'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { createUserAgent, type UserAgent } from '../../test/support/user-agent.ts'
import { type RpUnderTest, startRp } from './app-program.ts'

let rp: RpUnderTest
let browser: UserAgent

beforeAll(async () => {
  rp = await startRp()
})
afterAll(() => rp.close())
beforeEach(async () => {
  browser = createUserAgent()
  rp.op.endSession()
  rp.op.script = {}
  await rp.logIn(browser)
  expect(await rp.isSignedIn(browser)).toBe(true)
})
afterEach(async () => {
  await browser.close()
  expect(rp.op.problems).toEqual([])
})

type Claims = Record<string, unknown>
const without = (claims: Claims, ...names: string[]): Claims =>
  Object.fromEntries(Object.entries(claims).filter(([name]) => !names.includes(name)))
const event = 'http://schemas.openid.net/event/backchannel-logout'

describe('oidcc-client-back-channel-logout-rp-basic', () => {
  it('a valid Logout Token, without typ and with what is to be ignored, is answered with exactly 200 [oidcc-client-test-rp-backchannel-rpinitlogout] [BCL-2.4-e] [BCL-2.8-a]', async () => {
    rp.op.script = { token: (claims) => rp.op.sign(claims) }
    const page = await rp.logOut(browser)
    expect(rp.op.received.at(-1)).toEqual({ status: 200, cacheControl: 'no-store' })
    expect(page).toMatchObject({ status: 200, url: expect.stringContaining(rp.url) })
    expect(await rp.isSignedIn(browser)).toBe(false)
  })

  it.each<[string, (claims: Claims) => string | Promise<string>]>([
    [
      'unsecured [oidcc-client-test-rp-backchannel-rpinitlogout-alg-none]',
      (claims) => new UnsecuredJWT(claims).encode(),
    ],
    [
      'by another algorithm, with a key that is published [oidcc-client-test-rp-backchannel-rpinitlogout-wrong-alg]',
      (claims) => rp.op.sign(claims, {}, 'ES256'),
    ],
    [
      'with a wrong aud [oidcc-client-test-rp-backchannel-rpinitlogout-wrong-aud]',
      (claims) => rp.op.sign({ ...claims, aud: `${claims.aud}INVALID` }),
    ],
    [
      'with a wrong iss [oidcc-client-test-rp-backchannel-rpinitlogout-wrong-iss]',
      (claims) => rp.op.sign({ ...claims, iss: `${claims.iss}INVALID` }),
    ],
    [
      'without events [oidcc-client-test-rp-backchannel-rpinitlogout-no-event]',
      (claims) => rp.op.sign(without(claims, 'events')),
    ],
    [
      'with another event [oidcc-client-test-rp-backchannel-rpinitlogout-wrong-event]',
      (claims) => rp.op.sign({ ...claims, events: { 'http://schemas.openid.net/event/foobar': {} } }),
    ],
    [
      'with a nonce [oidcc-client-test-rp-backchannel-rpinitlogout-with-nonce]',
      (claims) => rp.op.sign({ ...claims, nonce: 'n-0S6' }),
    ],
  ])('one that is %s is answered with 400, and the redirect still works', async (_what, token) => {
    rp.op.script = { token }
    const page = await rp.logOut(browser)
    expect(rp.op.received.at(-1)).toEqual({ status: 400, cacheControl: 'no-store' })
    expect(page).toMatchObject({ status: 200, url: expect.stringContaining(rp.url) })
  })
})

describe('beyond the suite, a Logout Token ends nobody', () => {
  it.each<[string, (claims: Claims) => string | Promise<string>]>([
    ['without jti [BCL-2.4-a] [E23] [A30]', (claims) => rp.op.sign(without(claims, 'jti'))],
    ['without iat [BCL-2.4-a] [E19] [A27]', (claims) => rp.op.sign(without(claims, 'iat'))],
    ['without exp [BCL-2.4-a] [E19] [A28]', (claims) => rp.op.sign(without(claims, 'exp'))],
    ['without iss [BCL-2.4-a] [E19] [A24]', (claims) => rp.op.sign(without(claims, 'iss'))],
    ['without aud [BCL-2.4-a] [E19] [A26]', (claims) => rp.op.sign(without(claims, 'aud'))],
    [
      'that has expired [E19] [A28]',
      (claims) => rp.op.sign({ ...claims, iat: Number(claims.iat) - 300, exp: Number(claims.iat) - 100 }),
    ],
    [
      'from the future [E19] [A27]',
      (claims) => rp.op.sign({ ...claims, iat: Number(claims.iat) + 900, exp: Number(claims.iat) + 999 }),
    ],
    ['with events an array [E21] [A31]', (claims) => rp.op.sign({ ...claims, events: [event] })],
    ['with events a string [E21] [A31]', (claims) => rp.op.sign({ ...claims, events: event })],
    ['with events null [E21] [A31]', (claims) => rp.op.sign({ ...claims, events: null })],
    ['with the event true [E21] [A32]', (claims) => rp.op.sign({ ...claims, events: { [event]: true } })],
    ['with an empty nonce [E22] [A35]', (claims) => rp.op.sign({ ...claims, nonce: '' })],
    ['with nonce null [E22] [A35]', (claims) => rp.op.sign({ ...claims, nonce: null })],
    ['without sub and sid [E20] [A36]', (claims) => rp.op.sign(without(claims, 'sub', 'sid'))],
    ['with an empty sid [E20] [A36]', (claims) => rp.op.sign({ ...claims, sid: '' })],
    ['for others as well [E19] [A26]', (claims) => rp.op.sign({ ...claims, aud: [claims.aud, 'mail'] })],
    ['of another type [E29] [A22]', (claims) => rp.op.sign(claims, { typ: 'at+jwt' })],
    ['with the sid of another End-User [E26] [A44]', (claims) => rp.op.sign({ ...claims, sub: 'somebody else' })],
    ['that is the ID Token [A40]', () => rp.op.lastIdToken()],
    [
      'by HS256 with the public key as secret [E18] [A14]',
      async (claims) => {
        const secret = new TextEncoder().encode(await exportSPKI(rp.op.publicKey()))
        return new SignJWT(claims).setProtectedHeader({ alg: 'HS256', kid: 'RS256' }).sign(secret)
      },
    ],
  ])('%s', async (_what, token) => {
    expect(await rp.op.send(await token(rp.op.claims()))).toEqual({ status: 400, cacheControl: 'no-store' })
    expect(await rp.isSignedIn(browser)).toBe(true)
  })

  it('by an unknown kid, and the keys are fetched at most once more for a flood of them [E18] [A17]', async () => {
    const from = rp.op.keysAsked()
    for (let i = 0; i < 30; i++) {
      const token = await rp.op.sign(rp.op.claims(), { kid: `guess ${i}` })
      expect((await rp.op.send(token)).status).toBe(400)
    }
    expect(rp.op.keysAsked() - from).toBeLessThanOrEqual(1)
    expect(await rp.isSignedIn(browser)).toBe(true)
  })

  it('a second time [E24] [A2]', async () => {
    const token = await rp.op.sign(rp.op.claims())
    expect((await rp.op.send(token)).status).toBe(200)
    expect(await rp.isSignedIn(browser)).toBe(false)
    await rp.logIn(browser) // the OP session lives, so this has the same sid
    expect((await rp.op.send(token)).status).toBe(400)
    expect(await rp.isSignedIn(browser)).toBe(true)
  })

  it('by GET, as JSON or in a huge body [A6, A7, A11]', async () => {
    const { backchannelLogoutUri: uri } = rp.registered
    const token = await rp.op.sign(rp.op.claims())
    const form = { 'content-type': 'application/x-www-form-urlencoded' }
    const answers = await Promise.all([
      fetch(`${uri}?logout_token=${token}`),
      fetch(uri, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ logout_token: token }),
      }),
      fetch(uri, { method: 'POST', headers: form, body: `logout_token=${token}&x=${'x'.repeat(100_000)}` }),
    ])
    expect(answers.map(({ status }) => status)).toEqual([405, 415, 413])
    expect(answers.map(({ headers }) => headers.get('cache-control'))).toEqual(['no-store', 'no-store', 'no-store'])
    expect(await rp.isSignedIn(browser)).toBe(true)
  })

  it('as an ID Token signs nobody in [A41]', async () => {
    const stranger = createUserAgent()
    rp.op.nextIdToken = () => rp.op.sign(rp.op.claims())
    const page = await rp.logIn(stranger)
    expect(page.status).toBe(502)
    expect(await rp.isSignedIn(stranger)).toBe(false)
    await stranger.close()
  })
})
