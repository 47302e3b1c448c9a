import { type SetCookie, stringifySetCookie } from 'cookie'
import type { RpRequest } from './http.ts'
import type { ResolvedRpOptions } from './options.ts'
import { namesOf } from './session-id.ts'

type CookieOptions = Pick<ResolvedRpOptions<never>, 'cookieName' | 'secureCookies'>

/**
 * Reads all cookies of a request. A name that comes twice is left out: somebody else's host or port planted one of the
 * two, and nobody can say which (T21).
 */
export function readCookies(request: Pick<RpRequest, 'header'>): ReadonlyMap<string, string> {
  const cookies = new Map<string, string>()
  const planted = new Set<string>()
  for (const pair of (request.header('cookie') ?? '').split(';')) {
    const equals = pair.indexOf('=')
    if (equals < 0) continue
    const name = pair.slice(0, equals).trim()
    if (cookies.has(name)) planted.add(name)
    cookies.set(name, pair.slice(equals + 1).trim())
  }
  for (const name of planted) cookies.delete(name)
  return cookies
}

/** The value of the session cookie, if it looks like one of ours and has not been set aside. */
export function readSessionCookie(request: Pick<RpRequest, 'header'>, options: CookieOptions): string | undefined {
  const cookies = readCookies(request)
  const value = cookies.get(options.cookieName)
  if (value === undefined || !/^[\w-]{43}$/.test(value)) return undefined
  const aside = cookies.get(asideOf(options))
  return aside !== undefined && aside === namesOf(value).publicId ? undefined : value
}

/**
 * Sets the session cookie of a dead RP session aside: the browser then counts as one without any.
 *
 * It is not cleared. The answer that does so may come late, and would take the cookie of a login that was faster.
 *
 * @param publicId Names the dead RP session; what is forgotten with its cookie need not be set aside any longer.
 */
export function setAside(
  publicId: string,
  options: CookieOptions & Pick<ResolvedRpOptions<never>, 'lifetime'>,
): string {
  return setCookie(asideOf(options), publicId, options.lifetime.absolute, options)
}

function asideOf({ cookieName }: CookieOptions): string {
  return `${cookieName}-ended`
}

/**
 * A `Set-Cookie` of ours: HttpOnly, Lax (the OP's redirects must bring it along), for the whole host. What has to come
 * along in a frame is `none`: for Firefox a redirect by a foreign OP makes that request cross-site (only when `Secure`).
 */
export function setCookie(
  name: string,
  value: string,
  maxAge: number,
  { secureCookies }: CookieOptions,
  sameSite: 'lax' | 'none' = 'lax',
): string {
  const cookie: SetCookie = {
    name,
    value,
    path: '/',
    httpOnly: true,
    sameSite: secureCookies ? sameSite : 'lax',
    maxAge,
  }
  return stringifySetCookie(secureCookies ? { ...cookie, secure: true } : cookie)
}

export function clearCookie(name: string, options: CookieOptions): string {
  return setCookie(name, '', 0, options)
}
