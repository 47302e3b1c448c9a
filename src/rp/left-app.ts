import type { SessionEnd } from '../protocol/session-document.ts'
import { clearCookie, readCookies, setCookie } from './cookies.ts'
import type { RpRequest } from './http.ts'
import type { ResolvedRpOptions } from './options.ts'
import type { StoredRpSession } from './store/contract.ts'

type CookieOptions = Pick<ResolvedRpOptions<never>, 'cookieName' | 'secureCookies'>

/**
 * That the End-User has signed out of this app in this browser. After `here` the OP session may live on, and a login
 * that nobody asked for would sign him in again without a word; after `everywhere` the OP may not have ended it yet.
 */
export interface Leaving {
  readonly how: 'here' | 'everywhere'
  /** Epoch milliseconds by the store's clock, as a login's `requestedAt` is. */
  readonly at: number
}

/** Seconds: a day for who left this app alone, else as long as the OP may take with its questions. */
const LIFETIME = { here: 86_400, everywhere: 600 } as const

/** Remembers it in the browser, until a login is completed there. `age` is for how many seconds it has been so. */
export function rememberLeaving({ how, at }: Leaving, options: CookieOptions, age = 0): string {
  return setCookie(nameOf(options), `${how}.${at}`, Math.max(0, LIFETIME[how] - age), options)
}

export function readLeaving(request: Pick<RpRequest, 'header'>, options: CookieOptions): Leaving | undefined {
  const [, how, at] = /^(here|everywhere)\.(\d{1,15})$/.exec(readCookies(request).get(nameOf(options)) ?? '') ?? []
  return how === undefined ? undefined : { how: how as Leaving['how'], at: Number(at) }
}

/**
 * That the End-User has left this app in this browser since the login of an RP session was asked for; `undefined` when he
 * has not.
 */
export function leftSince(
  request: Pick<RpRequest, 'header'>,
  { requestedAt }: Pick<StoredRpSession, 'requestedAt'>,
  options: CookieOptions,
): Leaving | undefined {
  const left = readLeaving(request, options)
  return left !== undefined && left.at > requestedAt ? left : undefined
}

/** Forgets it, where there is something to forget. */
export function forgetLeaving(request: Pick<RpRequest, 'header'>, options: CookieOptions): readonly string[] {
  const name = nameOf(options)
  return readCookies(request).has(name) ? [clearCookie(name, options)] : []
}

/**
 * What a dead RP session tells of it: another tab is often faster with its reload than the answer that brings the
 * cookie to the tab in which somebody signs out. Whom the app has signed out has left it, too.
 */
export function leavingOf({ cause, at, at_ms }: SessionEnd): Leaving | undefined {
  const ms = at_ms ?? at * 1000
  if (cause === 'this_app' || cause === 'admin') return { how: 'here', at: ms }
  return cause === 'rp_initiated' ? { how: 'everywhere', at: ms } : undefined
}

/** How an RP session ends with it. */
export function endOf({ how, at }: Leaving): SessionEnd {
  return { cause: how === 'here' ? 'this_app' : 'rp_initiated', at: Math.floor(at / 1000), at_ms: at }
}

function nameOf({ cookieName }: CookieOptions): string {
  return `${cookieName}-left`
}
