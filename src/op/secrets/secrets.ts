import type { JWK } from 'jose'
import { world } from '../../runtime/runtime.ts'
import { isPositive } from '../positive.ts'
import { noteSessionLifetime, resolveSessionLifetime } from '../session-lifetime.ts'
import type { OpIssuerStore, OpStore } from '../store/contract.ts'
import { checkEncryptionKeys, decrypt, type EncryptionKeys, encrypt } from './encryption.ts'
import {
  completeRing,
  jwksOf,
  type KeyRing,
  newRing,
  ringWithout,
  rotatedRing,
  type SigningAlgorithm,
  startedRing,
} from './key-ring.ts'

/** What an OP signs with: pass `jwks` and `cookies: { keys: cookieKeys }` in the configuration. */
export interface OpSecrets {
  /** Private signing keys: of each algorithm first the one that signs. */
  readonly jwks: { readonly keys: JWK[] }
  /** Keys that sign the OP's cookies. */
  readonly cookieKeys: string[]
}

/** How an OP's secrets are made and kept. */
export interface SecretsOptions {
  /** Algorithms to have keys for; one that is left out later keeps its keys. Default `RS256` and `ES256`. */
  algorithms?: readonly SigningAlgorithm[]
  /**
   * 256-bit keys, from outside the store, under which the secrets are encrypted in it (T6): the first encrypts, all decrypt.
   * Give the `Provider` the same. To replace one, put the new one in front and start the OP. Default none: the secrets stand in the store as they are.
   */
  encryptionKeys?: readonly Uint8Array[]
  /** Seconds for which RPs may cache the JWKS: a key is listed for so long before it signs. Default 900. */
  jwksCache?: number
  /**
   * Seconds an OP session may live, as the `Provider` is told: a retired key verifies hints for as long, and a day more.
   * Default 2,592,000 (30 days).
   */
  sessionLifetime?: number
  /** Epoch milliseconds; replaced in tests. */
  now?: () => number
}

/** What {@link rotateKeys} takes beside the above. */
export interface RotationOptions extends SecretsOptions {
  /** The `kid`s of keys that somebody else may have, or `all`: they are withdrawn at once, and nothing else rotates. */
  compromised?: readonly string[] | 'all'
}

/**
 * Returns the OP's signing and cookie keys from its store; the first start of an issuer makes them, so that a restart
 * changes nothing for anybody.
 *
 * @throws TypeError naming the option that is wrong.
 * @throws LockstepError `secrets_unreadable` when no encryption key fits.
 *
 * @example
 * ```ts
 * const store = sqliteStore('op.db')
 * const { jwks, cookieKeys } = await openSecrets(store, issuer)
 * const op = new Provider(issuer, { jwks, cookies: { keys: cookieKeys } }, { store })
 * ```
 */
export async function openSecrets(store: OpStore, issuer: string, options: SecretsOptions = {}): Promise<OpSecrets> {
  const { algorithms, encryptionKeys, sessionLifetime, now } = resolveSecretsOptions(options)
  const ring = await updateRing(
    store.forIssuer(issuer, { ...world, now }),
    { algorithms, encryptionKeys, now },
    (found) => startedRing(found, { now: seconds(now), keep: sessionLifetime + DAY }),
  )
  const jwks = jwksOf(ring)
  noteSessionLifetime(jwks.keys, sessionLifetime)
  return { jwks, cookieKeys: [...ring.cookieKeys] }
}

/**
 * Lets the next keys sign and makes new next ones. The keys that signed until now go on verifying. A `Provider` has the keys it
 * was built with: the server program builds another one within 10 seconds, and docs/mounting.md shows how an app does.
 *
 * With `compromised` the keys named are withdrawn instead: nothing they signed is accepted any more. Whoever logs out with a hint
 * they signed is asked, as without one.
 *
 * @throws TypeError naming the option that is wrong.
 * @throws LockstepError `key_too_young` when RPs cannot know the next keys yet; `key_unknown` when a compromised one is not
 *   there, and then nothing was withdrawn.
 *
 * @returns The `kid` of each key that signs from now on.
 */
export async function rotateKeys(
  store: OpStore,
  issuer: string,
  options: RotationOptions = {},
): Promise<readonly string[]> {
  const { compromised, ...others } = options
  const { algorithms, encryptionKeys, jwksCache, now } = resolveSecretsOptions(others)
  const isList = Array.isArray(compromised) && compromised.length > 0
  if (compromised !== undefined && compromised !== 'all' && !isList) {
    throw new TypeError('compromised must name at least one kid in an array, or be "all"')
  }
  const ring = await updateRing(
    store.forIssuer(issuer, { ...world, now }),
    { algorithms, encryptionKeys, now },
    (found) => (compromised ? ringWithout(found, compromised) : rotatedRing(found, { now: seconds(now), jwksCache })),
  )
  return ring.keys.filter(({ state }) => state === 'current').map(({ jwk }) => jwk.kid ?? '')
}

type ResolvedSecretsOptions = Required<SecretsOptions>
type RingParts = Pick<ResolvedSecretsOptions, 'algorithms' | 'encryptionKeys' | 'now'>

/** Seconds that nodes may go on signing after a start of another one retired the key, and then some. */
const DAY = 86_400

const ALGORITHMS: ReadonlySet<string> = new Set(['RS256', 'PS256', 'ES256', 'EdDSA'] satisfies SigningAlgorithm[])

function resolveSecretsOptions({
  algorithms = ['RS256', 'ES256'],
  encryptionKeys = [],
  jwksCache = 900,
  sessionLifetime,
  now = world.now,
  ...unknown
}: SecretsOptions): ResolvedSecretsOptions {
  const [extra] = Object.keys(unknown)
  if (extra !== undefined) throw new TypeError(`"${extra}" is not an option of openSecrets and rotateKeys`)
  if (algorithms.length === 0 || algorithms.some((alg) => !ALGORITHMS.has(alg))) {
    throw new TypeError('algorithms must be some of RS256, PS256, ES256 and EdDSA')
  }
  checkEncryptionKeys(encryptionKeys)
  if (!(isPositive(jwksCache) || jwksCache === 0))
    throw new TypeError('jwksCache must be a number of seconds, not negative')
  return {
    algorithms,
    encryptionKeys,
    jwksCache,
    sessionLifetime: resolveSessionLifetime(sessionLifetime),
    now,
  }
}

const NAME = 'keys'

/** Reads, changes and writes the ring as often as it takes for nobody to have changed it in between. */
async function updateRing(
  secrets: OpIssuerStore,
  { algorithms, encryptionKeys, now }: RingParts,
  change: (ring: KeyRing) => KeyRing,
): Promise<KeyRing> {
  for (;;) {
    const stored = await secrets.secret(NAME, async () =>
      write(await newRing(algorithms, seconds(now)), encryptionKeys),
    )
    const { ring, fresh } = await read(stored, encryptionKeys)
    const changed = await completeRing(change(ring), algorithms)
    if (fresh && JSON.stringify(changed) === JSON.stringify(ring)) return ring
    if (await secrets.replaceSecret(NAME, stored, await write(changed, encryptionKeys))) return changed
  }
}

async function write(ring: KeyRing, keys: EncryptionKeys): Promise<string> {
  return encrypt(JSON.stringify(ring), keys)
}

async function read(stored: string, keys: EncryptionKeys): Promise<{ ring: KeyRing; fresh: boolean }> {
  const { text, fresh } = await decrypt(stored, keys)
  return { ring: JSON.parse(text) as KeyRing, fresh }
}

function seconds(now: () => number): number {
  return Math.floor(now() / 1000)
}
