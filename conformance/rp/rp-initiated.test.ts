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
})
afterEach(async () => {
  await browser.close()
  expect(rp.op.problems).toEqual([])
})

describe('oidcc-client-rp-initiated-logout-rp-basic', () => {
  it('sends hint and URI, takes the notice by back channel, and comes back [oidcc-client-test-rp-init-logout] [RPI-2-b/c]', async () => {
    rp.op.script = { token: (claims) => rp.op.sign(claims) }
    const page = await rp.logOut(browser)
    expect(page.url.startsWith(rp.url)).toBe(true)
    expect(page.status).toBe(200)
    expect(rp.op.received.at(-1)?.status).toBe(200)
    expect(await rp.isSignedIn(browser)).toBe(false)
  })

  it('copes with another state than it sent [oidcc-client-test-rp-init-logout-other-state] [A58]', async () => {
    rp.op.script = { token: (claims) => rp.op.sign(claims), state: 'changed' }
    const page = await rp.logOut(browser)
    expect(page).toMatchObject({ status: 200, body: expect.stringContaining('You are signed out') })
    expect(await rp.isSignedIn(browser)).toBe(false)
  })

  it('copes with no state [oidcc-client-test-rp-init-logout-no-state] [A58]', async () => {
    rp.op.script = { token: (claims) => rp.op.sign(claims), state: 'none' }
    const page = await rp.logOut(browser)
    expect(page).toMatchObject({ status: 200, body: expect.stringContaining('You are signed out') })
    expect(await rp.isSignedIn(browser)).toBe(false)
  })
})

describe('oidcc-client-test-3rd-party-init-login-test-plan', () => {
  it('a visit with iss starts a login, with target_link_uri as its end [oidcc-client-test-3rd-party-init-login]', async () => {
    const fresh = createUserAgent()
    const query = new URLSearchParams({ iss: rp.op.issuer, target_link_uri: `${rp.url}/?from=launcher` })
    const page = await fresh.open(`${rp.url}/auth/initiate-login?${query}`)
    expect(page).toMatchObject({ status: 200, url: `${rp.url}/?from=launcher` })
    expect(await rp.isSignedIn(fresh)).toBe(true)
    await fresh.close()
  })

  it('one with another iss goes nowhere [Core §4]', async () => {
    const before = rp.op.log.length
    const fresh = createUserAgent()
    const page = await fresh.open(`${rp.url}/auth/initiate-login?iss=https%3A%2F%2Fevil.example`)
    expect(page.status).toBe(400)
    expect(rp.op.log).toHaveLength(before)
    await fresh.close()
  })
})
