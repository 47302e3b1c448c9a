import { importJWK, jwtVerify, SignJWT } from 'jose'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type OpStore, openSecrets } from '../../../src/op.ts'
import { sqliteStore } from '../../../src/op-sqlite.ts'

const issuer = 'https://op.example'
let store: OpStore
beforeEach(() => {
  store = sqliteStore(':memory:')
})
afterEach(() => store.close())

describe('the secrets of an OP', () => {
  it('are made once and the same ever after [issue #2]', async () => {
    expect(await openSecrets(store, issuer)).toEqual(await openSecrets(store, issuer))
  })

  it('are the same for two that start at the same moment', async () => {
    const [first, ...others] = await Promise.all([1, 2, 3].map(() => openSecrets(store, issuer)))
    for (const other of others) expect(other).toEqual(first)
  })

  it('are different for each issuer [T20]', async () => {
    const [a, b] = [await openSecrets(store, issuer), await openSecrets(store, `${issuer}/tenant`)]
    expect(a.cookieKeys).not.toEqual(b.cookieKeys)
    expect(a.jwks.keys.map(({ kid }) => kid)).not.toEqual(b.jwks.keys.map(({ kid }) => kid))
  })

  it('are a key that signs and one that waits for RS256 and ES256, each with its own kid, and one of 256 bits for cookies', async () => {
    const { jwks, cookieKeys } = await openSecrets(store, issuer)
    expect(jwks.keys.map(({ alg, use }) => [alg, use])).toEqual([
      ['RS256', 'sig'],
      ['ES256', 'sig'],
      ['RS256', 'sig'],
      ['ES256', 'sig'],
    ])
    expect(new Set(jwks.keys.map(({ kid }) => kid)).size).toBe(4)
    expect(cookieKeys).toEqual([expect.stringMatching(/^[\w-]{43}$/)])
    for (const jwk of jwks.keys) {
      const { alg = '' } = jwk
      const { d: _d, p: _p, q: _q, dp: _dp, dq: _dq, qi: _qi, ...publicJwk } = jwk
      const jwt = await new SignJWT({}).setProtectedHeader({ alg }).sign(await importJWK(jwk, alg))
      await expect(jwtVerify(jwt, await importJWK(publicJwk, alg))).resolves.toBeDefined()
    }
  })
})
