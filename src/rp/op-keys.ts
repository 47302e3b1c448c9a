import { createLocalJWKSet, createRemoteJWKSet, errors, type JWTVerifyGetKey } from 'jose'
import { pause } from '../runtime/alarm.ts'
import type { Runtime } from '../runtime/runtime.ts'

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
      const chance = new DataView(runtime.random(4).buffer).getUint32(0) / 2 ** 32
      last = { error, until: runtime.now() + REST.least + chance * (REST.most - REST.least) }
    },
  }
}

/**
 * Finds keys in the JWK Set at a URL. It is fetched when it is first needed, when it is older than ten minutes, and for an
 * unknown `kid`, that at most once per half a minute. While it cannot be fetched, the keys that are known go on verifying.
 *
 * @param timeout Milliseconds the OP has for one answer.
 */
export function opKeys(
  uri: string,
  runtime: Pick<Runtime, 'now' | 'sleep' | 'random'>,
  timeout: number,
): JWTVerifyGetKey {
  const remote = createRemoteJWKSet(new URL(uri), {
    cacheMaxAge: Number.POSITIVE_INFINITY, // how old it is, and what then, is judged here
    cooldownDuration: COOL_DOWN,
    timeoutDuration: timeout,
  })
  const rest = createRest(runtime)
  let fetchedAt = Number.NEGATIVE_INFINITY

  async function refresh(): Promise<void> {
    const over = new AbortController()
    const isKnown = remote.jwks() !== undefined
    const limit = pause(runtime, isKnown ? PATIENCE : timeout, over.signal).then(() => {
      if (!over.signal.aborted) throw new errors.JWKSTimeout()
    })
    try {
      await Promise.race([remote.reload(), limit])
      fetchedAt = runtime.now()
    } finally {
      over.abort()
    }
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
      if (runtime.now() - fetchedAt >= FRESH) await refresh()
      return await remote(...asked)
    } catch (error) {
      const isAnswer = error instanceof errors.JWKSNoMatchingKey || error instanceof errors.JWKSMultipleMatchingKeys
      if (isAnswer) throw error
      rest.begin(error)
      return known(error, ...asked)
    }
  }
}
