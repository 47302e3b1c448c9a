import { randomBytes } from 'node:crypto'
import { exportJWK, generateKeyPair, type JWK } from 'jose'
import { world } from '../runtime/runtime.ts'
import type { OpStore } from './store/contract.ts'

/** What an OP signs with: pass `jwks` and `cookies: { keys: cookieKeys }` in the configuration. */
export interface OpSecrets {
  /** Private signing keys, RS256 and ES256. */
  readonly jwks: { keys: JWK[] }
  /** Keys that sign the OP's cookies. */
  readonly cookieKeys: string[]
}

/**
 * Returns the OP's signing and cookie keys from its store; the first start of an issuer makes them, so that a restart
 * changes nothing for anybody.
 *
 * @example
 * ```ts
 * const store = sqliteStore('op.db')
 * const { jwks, cookieKeys } = await openSecrets(store, issuer)
 * const op = new Provider(issuer, { jwks, cookies: { keys: cookieKeys } }, { store })
 * ```
 */
export async function openSecrets(store: OpStore, issuer: string): Promise<OpSecrets> {
  const secrets = store.forIssuer(issuer, world)
  const [rs256, es256, cookieKey] = await Promise.all([
    secrets.secret('jwk.RS256', () => newSigningKey('RS256')),
    secrets.secret('jwk.ES256', () => newSigningKey('ES256')),
    secrets.secret('cookies', async () => randomBytes(32).toString('base64url')),
  ])
  return { jwks: { keys: [JSON.parse(rs256) as JWK, JSON.parse(es256) as JWK] }, cookieKeys: [cookieKey] }
}

async function newSigningKey(alg: 'RS256' | 'ES256'): Promise<string> {
  const { privateKey } = await generateKeyPair(alg, { extractable: true, modulusLength: 2048 })
  return JSON.stringify({
    ...(await exportJWK(privateKey)),
    alg,
    use: 'sig',
    kid: randomBytes(9).toString('base64url'),
  })
}
