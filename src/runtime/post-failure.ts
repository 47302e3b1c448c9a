import { LockstepError } from '../protocol/errors.ts'

/**
 * Why a POST got no answer: its address is not allowed (`egress`), no answer came in time (`timeout`), a connection kept
 * open from an earlier request turned out to be closed (`stale`), or anything else between here and there (`network`).
 */
export type PostFailure = 'egress' | 'timeout' | 'stale' | 'network'

/**
 * A kept-open connection was closed by the other side while it was being used again. That says nothing about the other
 * side's health: it closed an idle connection, and our request crossed the news of it.
 */
export class StaleConnectionError extends Error {
  constructor(options: ErrorOptions) {
    super('a connection kept open from an earlier request was closed by the other side', options)
    this.name = 'StaleConnectionError'
  }
}

const timeouts: ReadonlySet<unknown> = new Set([
  'ETIMEDOUT',
  'UND_ERR_CONNECT_TIMEOUT',
  'UND_ERR_HEADERS_TIMEOUT',
  'UND_ERR_BODY_TIMEOUT',
])

/** Tells from what `Runtime.post` threw why there was no answer. */
export function whyPostFailed(error: unknown): PostFailure {
  if (error instanceof LockstepError && error.code === 'egress_refused') return 'egress'
  if (error instanceof StaleConnectionError) return 'stale'
  if (!(error instanceof Error)) return 'network'
  if (error.name === 'TimeoutError' || ('code' in error && timeouts.has(error.code))) return 'timeout'
  return 'network'
}
