import type { RpRequest } from './http.ts'
import type { AppOptions, ResolvedAppOptions } from './options.ts'
import {
  appOptionNames,
  checkSeconds,
  DEFAULT_ABSOLUTE_LIFETIME,
  refuseUnknown,
  refuseUnlessFunctions,
  resolveAppOptions,
} from './resolve-options.ts'

/** What an app must keep in its own session of the first ID Token of a login; a refreshed one does not change it. */
export interface KeptClaims {
  readonly iss?: string
  readonly sub: string
  /** Without it only logouts of all of the End-User's sessions are heard. */
  readonly sid?: string
  /** Epoch seconds. */
  readonly iat: number
}

type Readable = Pick<RpRequest, 'header'>

/** Options of {@link createLogoutReceiver}. Durations are seconds. */
export interface LogoutReceiverOptions extends AppOptions {
  /** How long the app lets a session live at most; logouts are remembered as long. Default 604,800: a week. */
  sessionLifetime?: number
  /**
   * Reads the app's own session out of a request; `undefined` when there is none. With it there are live events for tabs
   * and a session monitor. Default none.
   */
  readSession?: (request: Readable) => KeptClaims | undefined | Promise<KeptClaims | undefined>
  /** `Set-Cookie` values that clear it. With it and `readSession` there is a front-channel endpoint. Default none. */
  clearSession?: (request: Readable) => readonly string[]
}

/** Checked, and with every default in its place. */
export interface ResolvedReceiverOptions
  extends ResolvedAppOptions,
    Required<Pick<LogoutReceiverOptions, 'sessionLifetime'>>,
    Pick<LogoutReceiverOptions, 'readSession' | 'clearSession'> {}

const known: ReadonlySet<string> = new Set([...appOptionNames, 'sessionLifetime', 'readSession', 'clearSession'])

/** Checks the options and fills in the defaults. @throws TypeError naming the option. */
export function resolveReceiverOptions(options: LogoutReceiverOptions): ResolvedReceiverOptions {
  refuseUnknown(options, known, 'createLogoutReceiver')
  const { sessionLifetime = DEFAULT_ABSOLUTE_LIFETIME, readSession, clearSession } = options
  checkSeconds('sessionLifetime', sessionLifetime)
  refuseUnlessFunctions(options, ['readSession', 'clearSession'])
  if (clearSession !== undefined && readSession === undefined) {
    throw new TypeError('clearSession needs readSession: without it nobody knows whose cookie it is')
  }
  return {
    ...resolveAppOptions(options),
    sessionLifetime,
    ...(readSession && { readSession }),
    ...(clearSession && { clearSession }),
  }
}
