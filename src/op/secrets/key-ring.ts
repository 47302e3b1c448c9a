import { randomBytes } from 'node:crypto'
import { exportJWK, generateKeyPair, type JWK } from 'jose'
import { LockstepError } from '../../protocol/errors.ts'

/** The algorithms an OP can make keys for. */
export type SigningAlgorithm = 'RS256' | 'PS256' | 'ES256' | 'EdDSA'

/** `next` is listed and waits, `current` signs, `retired` still verifies what it signed. */
type KeyState = 'next' | 'current' | 'retired'

/** A private key with its history; times are epoch seconds. */
interface RingKey {
  readonly jwk: JWK
  readonly alg: SigningAlgorithm
  readonly state: KeyState
  /** When a start of the OP first listed it. */
  readonly listedAt?: number
  /** When a start of the OP first no longer signed with it. */
  readonly retiredAt?: number
}

/** What an OP keeps secret, as one value of the store. */
export interface KeyRing {
  readonly keys: readonly RingKey[]
  readonly cookieKeys: readonly string[]
}

/** Makes the ring of an OP that starts for the first time. */
export async function newRing(algorithms: readonly SigningAlgorithm[], now: number): Promise<KeyRing> {
  const empty: KeyRing = { keys: [], cookieKeys: [newCookieKey()] }
  return startedRing(await completeRing(empty, algorithms), { now, keep: Number.POSITIVE_INFINITY })
}

/**
 * Adds what is missing, so that each algorithm has a key that signs and one that is listed and waits: whoever caches the
 * JWKS knows the next key long before it signs, also when the present one must go at once (T26).
 */
export async function completeRing(ring: KeyRing, algorithms: readonly SigningAlgorithm[]): Promise<KeyRing> {
  const known = new Set([...algorithms, ...ring.keys.map(({ alg }) => alg)])
  const made = [...known].flatMap((alg) => {
    const states = new Set(ring.keys.filter((key) => key.alg === alg).map(({ state }) => state))
    return (['current', 'next'] as const).filter((state) => !states.has(state)).map((state) => newKey(alg, state))
  })
  return made.length === 0 ? ring : { ...ring, keys: [...ring.keys, ...(await Promise.all(made))] }
}

/** The ring as it is once an OP started with it: keys are listed from now on, and what was retired for long is gone. */
export function startedRing(ring: KeyRing, { now, keep }: { now: number; keep: number }): KeyRing {
  const keys = ring.keys.map((key): RingKey => {
    if (key.state === 'retired') return { ...key, retiredAt: key.retiredAt ?? now }
    return { ...key, listedAt: key.listedAt ?? now }
  })
  return { ...ring, keys: keys.filter(({ retiredAt = now }) => retiredAt + keep >= now) }
}

/**
 * The ring after a rotation: the next keys sign, the present ones only verify.
 *
 * @throws LockstepError `key_too_young` when a next key was not listed for `jwksCache` seconds.
 */
export function rotatedRing(ring: KeyRing, { now, jwksCache }: { now: number; jwksCache: number }): KeyRing {
  const next = ring.keys.filter(({ state }) => state === 'next')
  const wait = Math.max(0, ...next.map(({ listedAt = now }) => listedAt + jwksCache - now))
  if (wait > 0) {
    throw new LockstepError(
      'key_too_young',
      `The next signing key has not been listed for ${jwksCache} seconds yet; rotate in ${wait} seconds, after a start of the OP`,
    )
  }
  const turned: Readonly<Record<KeyState, KeyState>> = { next: 'current', current: 'retired', retired: 'retired' }
  return { ...ring, keys: ring.keys.map((key) => ({ ...key, state: turned[key.state] })) }
}

/**
 * The ring without keys that somebody else may have: at once, whatever becomes of the tokens they signed. `all` are the keys
 * that sign cookies too: a fresh one signs from now on, and only the one before it still verifies, or nobody's OP session
 * would be found by its cookie any more, nor be logged out. (A cookie holds a random handle; its signature opens nothing.)
 *
 * @throws LockstepError `key_unknown` when one of them is not there: a misspelt `kid` withdraws nothing.
 */
export function ringWithout(ring: KeyRing, compromised: readonly string[] | 'all'): KeyRing {
  const kids = ring.keys.map(({ jwk }) => jwk.kid ?? '')
  const unknown = compromised === 'all' ? undefined : compromised.find((kid) => !kids.includes(kid))
  if (unknown !== undefined) {
    throw new LockstepError(
      'key_unknown',
      `There is no key ${unknown}, so nothing was withdrawn; there are ${kids.join(', ')}`,
    )
  }
  const isLost = ({ jwk }: RingKey): boolean => compromised === 'all' || compromised.includes(jwk.kid ?? '')
  const orphaned = new Set(ring.keys.filter((key) => key.state === 'current' && isLost(key)).map(({ alg }) => alg))
  const keys = ring.keys
    .filter((key) => !isLost(key))
    .map((key): RingKey => (key.state === 'next' && orphaned.has(key.alg) ? { ...key, state: 'current' } : key))
  return {
    cookieKeys: compromised === 'all' ? [newCookieKey(), ...ring.cookieKeys.slice(0, 1)] : ring.cookieKeys,
    keys,
  }
}

function newCookieKey(): string {
  return randomBytes(32).toString('base64url')
}

/** The JWKS to configure: oidc-provider signs with the first key of an algorithm and verifies with all. */
export function jwksOf({ keys }: KeyRing): { keys: JWK[] } {
  const order: readonly KeyState[] = ['current', 'next', 'retired']
  return { keys: order.flatMap((state) => keys.filter((key) => key.state === state).map(({ jwk }) => jwk)) }
}

async function newKey(alg: SigningAlgorithm, state: KeyState): Promise<RingKey> {
  const { privateKey } = await generateKeyPair(alg, { extractable: true, modulusLength: 2048 })
  const kid = randomBytes(9).toString('base64url')
  return { alg, state, jwk: { ...(await exportJWK(privateKey)), alg, use: 'sig', kid } }
}
