import { createLocalJWKSet, createRemoteJWKSet, customFetch, errors, type JWTVerifyGetKey } from 'jose'
import { LockstepError } from '../protocol/errors.ts'
import { pause } from '../runtime/alarm.ts'
import { boundedFetch } from '../runtime/bounded-fetch.ts'
import { chance, type Runtime } from '../runtime/runtime.ts'
import { whatCameBack } from './op-answer.ts'

/** Milliseconds for which keys are used before the OP is asked whether they still are its keys. */
const FRESH = 600_000
/** Milliseconds that a Logout Token waits for that answer when keys are known: the OP waits for ours. */
const PATIENCE = 2_000
/** Milliseconds between two fetches for an unknown `kid`. */
const COOL_DOWN = 30_000
/** Milliseconds, at least and at most, for which the OP is left alone after a failure: less than the 5 s after which it comes again. */
const REST = { least: 2_000, most: 4_000 }

/**
 * Leaves the OP alone for a few seconds after a failure, whoever asks: anybody may post what looks like a Logout Token, and
 * each would knock there again. The failure is thrown until then.
 */
export function createRest(runtime: Pick<Runtime, 'now' | 'random'>): {
  failure(): { readonly error: unknown } | undefined
  begin(error: unknown): void
} {
  let last: { readonly error: unknown; readonly until: number } | undefined
  return {
    failure: () => (last !== undefined && runtime.now() < last.until ? last : undefined),
    begin(error) {
      last = { error, until: runtime.now() + REST.least + chance(runtime) * (REST.most - REST.least) }
    },
  }
}

/** The keys were fetched before the OP can have been asked for this one, and are not fetched again yet. */
export class OpKeyNotYetKnown extends LockstepError {
  /** Seconds after which the OP is asked again. */
  readonly retryAfter: number

  constructor(retryAfter: number) {
    super('op_key_unknown', `none of the OP's keys fits the header, and they are fetched again in ${retryAfter} s`)
    this.retryAfter = retryAfter
  }
}

/**
 * Finds keys in the JWK Set at a URL. It is fetched when it is first needed, when it is older than ten minutes, and for an
 * unknown `kid`, that at most once per half a minute: who comes in between may have a new key, and is put off until then
 * ({@link OpKeyNotYetKnown}). While it cannot be fetched, the keys that are known go on verifying.
 *
 * @param timeout Milliseconds the OP has for one answer.
 */
export function opKeys(
  uri: string,
  runtime: Pick<Runtime, 'now' | 'sleep' | 'random'>,
  timeout: number,
): JWTVerifyGetKey {
  const remote = createRemoteJWKSet(new URL(uri), {
    // How old it is, and what then, is judged here.
    cacheMaxAge: Number.POSITIVE_INFINITY,
    cooldownDuration: Number.POSITIVE_INFINITY,
    timeoutDuration: timeout,
    [customFetch]: fetchKeys,
  })
  const rest = createRest(runtime)
  let fetches = 0
  let fetchedAt = Number.NEGATIVE_INFINITY
  const age = () => Math.abs(runtime.now() - fetchedAt)

  async function refresh(): Promise<void> {
    const over = new AbortController()
    const isKnown = remote.jwks() !== undefined
    const limit = pause(runtime, isKnown ? PATIENCE : timeout, over.signal).then(() => {
      if (!over.signal.aborted) throw new errors.JWKSTimeout()
    })
    if (!remote.reloading) fetches += 1
    // Also when the answer comes in after nobody waits for it any more.
    const fetched = remote.reload().then(() => {
      fetchedAt = runtime.now()
    })
    try {
      await Promise.race([fetched, limit])
    } catch (error) {
      const cause = new Error(`${uri}: ${whatCameBack(error)}`, { cause: error })
      throw new LockstepError('op_unreachable', "The OP's keys could not be fetched", { cause })
    } finally {
      over.abort()
    }
  }

  /** With keys no older than they may be; that none fits is said only of keys that were fetched since we were asked. */
  async function current(...asked: Parameters<JWTVerifyGetKey>): Promise<CryptoKey> {
    const before = fetches
    for (const oldest of [FRESH, COOL_DOWN]) {
      if (age() >= oldest) await refresh()
      try {
        return await remote(...asked)
      } catch (error) {
        if (!(error instanceof errors.JWKSNoMatchingKey) || fetches > before) throw error
      }
    }
    throw new OpKeyNotYetKnown(Math.max(Math.ceil((COOL_DOWN - age()) / 1000), 1))
  }

  /** With the keys that are known, or the failure because of which there are no others. */
  async function known(error: unknown, ...asked: Parameters<JWTVerifyGetKey>): Promise<CryptoKey> {
    const jwks = remote.jwks()
    if (jwks === undefined) throw error
    try {
      return await createLocalJWKSet(jwks)(...asked)
    } catch (cause) {
      throw cause instanceof errors.JWKSNoMatchingKey ? error : cause
    }
  }

  return async (...asked) => {
    const failure = rest.failure()
    if (failure) return known(failure.error, ...asked)
    try {
      return await current(...asked)
    } catch (error) {
      if (!isFailedFetch(error)) throw error // what the keys say of the header
      rest.begin(error)
      return known(error, ...asked)
    }
  }
}

async function fetchKeys(...asked: Parameters<typeof boundedFetch>): Promise<Response> {
  const response = await boundedFetch(...asked)
  if (response.status !== 200) throw new Error('no keys', { cause: response })
  return response
}

function isFailedFetch(error: unknown): boolean {
  return error instanceof LockstepError && error.code === 'op_unreachable'
}
