import { createRemoteJWKSet, decodeProtectedHeader, jwtVerify } from 'jose'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openSecrets } from '../../src/op.ts'
import { sqliteStore } from '../../src/op-sqlite.ts'
import { logIn, logoutUrl } from '../support/op-flow.ts'
import { type RpSite, startRpSite } from '../support/rp-site.ts'
import { startTestOp, type TestOp } from '../support/test-op.ts'
import { createUserAgent } from '../support/user-agent.ts'

const algorithms = ['RS256', 'PS256', 'ES256', 'EdDSA'] as const
let rps: RpSite
let op: TestOp

beforeAll(async () => {
  rps = await startRpSite()
  const keys = sqliteStore(':memory:')
  const { jwks } = await openSecrets(keys, 'https://op.example', { algorithms })
  await keys.close()
  op = await startTestOp({
    clients: algorithms.map((alg) => rps.client(alg.toLowerCase(), { id_token_signed_response_alg: alg })),
    configuration: { jwks: { keys: [...jwks.keys] } },
  })
})
afterAll(async () => {
  await op.close()
  await rps.close()
})

describe.each(algorithms)('a client that registered %s', (alg) => {
  it('gets ID Tokens and Logout Tokens signed so, by the same key, and its hints are accepted [BCL-2.4-f] [RPI-2-k]', async () => {
    const app = rps.client(alg.toLowerCase())
    const bye = `${rps.origin(alg.toLowerCase())}/bye`
    const browser = createUserAgent()
    const { tokens } = await logIn(browser, op, app)
    const before = rps.logouts.length
    const url = logoutUrl(op, { id_token_hint: tokens.id_token, post_logout_redirect_uri: bye })
    expect((await browser.open(url)).url).toBe(bye)
    const { token } = (await rps.received(before + 1))[before] ?? { token: '' }
    const jwks = createRemoteJWKSet(new URL(`${op.issuer}/jwks`))
    const verified = await jwtVerify(token, jwks, { algorithms: [alg], audience: app.client_id, issuer: op.issuer })
    expect(verified.protectedHeader).toMatchObject({ alg, typ: 'logout+jwt' })
    expect(decodeProtectedHeader(tokens.id_token)).toMatchObject({ alg, kid: verified.protectedHeader.kid })
    await browser.close()
  })
})
