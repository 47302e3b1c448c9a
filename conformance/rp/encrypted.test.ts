import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { createUserAgent, type UserAgent } from '../../test/support/user-agent.ts'
import { type RpUnderTest, startEncryptedRp } from './app-program.ts'

let rp: RpUnderTest
let browser: UserAgent

beforeAll(async () => {
  rp = await startEncryptedRp()
})
afterAll(() => rp.close())
beforeEach(async () => {
  browser = createUserAgent()
  rp.op.endSession()
  await rp.logIn(browser)
  expect(await rp.isSignedIn(browser)).toBe(true)
})
afterEach(async () => {
  await browser.close()
  expect(rp.op.problems).toEqual([])
})

describe('an RP that has registered id_token_encrypted_response_alg', () => {
  it('takes a Logout Token that is encrypted like its ID Tokens [oidcc-client-test-rp-backchannel-rpinitlogout] [BCL-2.4-f] [BCL-2.6-1]', async () => {
    rp.op.script = { token: async (claims) => rp.op.encrypt(await rp.op.sign(claims)) }
    const page = await rp.logOut(browser)
    expect(rp.op.received.at(-1)).toEqual({ status: 200, cacheControl: 'no-store' })
    expect(page).toMatchObject({ status: 200, url: expect.stringContaining(rp.url) })
    expect(await rp.isSignedIn(browser)).toBe(false)
  })

  it('refuses one that is not encrypted, and nobody is signed out [BCL-2.6-1] [E30]', async () => {
    const plain = await rp.op.sign(rp.op.claims())
    expect(await rp.op.send(plain)).toEqual({ status: 400, cacheControl: 'no-store' })
    expect(await rp.isSignedIn(browser)).toBe(true)
  })

  it('refuses what is encrypted to it and not signed by the OP [BCL-2.6-2] [E18]', async () => {
    const forged = `${(await rp.op.sign(rp.op.claims())).split('.').slice(0, 2).join('.')}.${'A'.repeat(342)}`
    expect((await rp.op.send(await rp.op.encrypt(forged))).status).toBe(400)
    expect(await rp.isSignedIn(browser)).toBe(true)
  })
})
