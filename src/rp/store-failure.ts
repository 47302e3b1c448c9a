import { LockstepError } from '../protocol/errors.ts'
import { messageOf } from './log.ts'
import type { ResolvedAppOptions } from './options.ts'

/** The error of a store that could not be read: nobody is let in, and nobody is signed out by it. */
export function whoIsUnknown(context: Logging, route: string, cause: unknown): LockstepError {
  return storeFailure(context, route, 'It could not be found out who is signed in', cause)
}

/**
 * The error that an app gets when the store failed it. Why is in the log and in `cause`. By its `status` Express, Fastify and
 * Koa answer 503.
 */
export function storeFailure({ options }: Logging, route: string, what: string, cause: unknown): LockstepError {
  options.log({ event: 'internal_error', route, message: messageOf(cause) })
  const error = new LockstepError('store_failed', what, { cause })
  error.stack = String(error) // a framework may show it to whoever asked
  return Object.assign(error, { status: 503 })
}

interface Logging {
  readonly options: Pick<ResolvedAppOptions, 'log'>
}
