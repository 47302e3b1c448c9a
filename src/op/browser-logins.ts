import type { Context } from 'koa'
import type { Session } from 'oidc-provider'
import { longestCookie } from './longest-cookie.ts'
import { seal, unseal } from './secrets/sealed-request.ts'

/*
 * A browser that restores five tabs sends five logins before the first is answered. Each makes an OP session, and of the five
 * OP cookies the last one to arrive is kept: no cookie with one name can hold what was begun together. So a login also
 * leaves a cookie under a name of its own. It opens nothing; it says which OP sessions were begun in this browser, so that a
 * later login joins the one there is, and a logout ends all of them.
 */

/** What the cookies of logins are made and read with. */
export interface BrowserLoginsParts {
  /** What their names begin with. */
  readonly prefix: string
  readonly sealingKey: () => Promise<Uint8Array>
  readonly now: () => number
}

/** `__Host-`, so that no host beside the OP's can plant one; sent with an app's POST, as the OP cookie is. */
const ATTRIBUTES = {
  httpOnly: true,
  overwrite: true,
  path: '/',
  sameSite: 'none',
  secure: true,
  signed: false,
} as const

/**
 * The logins that were made in this browser, by the names of their cookies: uids of OP sessions, which may have ended; `undefined`
 * where a cookie does not open. That of `except` is left out. As many as a request may have: a logout must miss none.
 */
export async function loginsIn(
  ctx: Context,
  { prefix, sealingKey, now }: BrowserLoginsParts,
  except?: { readonly uid: string },
): Promise<ReadonlyMap<string, string | undefined>> {
  const cookies = ctx
    .get('cookie')
    .split(/; */)
    .map((cookie) => cookie.split('=', 2) as [string, string | undefined])
    .filter(([name]) => name.startsWith(prefix) && /^[\w-]+$/.test(name.slice(prefix.length)))
    .filter(([name]) => except === undefined || name !== cookieNameOf(except.uid, prefix))
  if (cookies.length === 0) return new Map()
  const key = await sealingKey()
  const opened = cookies.map(async ([name, value = '']) => [name, await unseal('login', value, key, now())] as const)
  return new Map(await Promise.all(opened))
}

/** The name of the cookie that a login leaves. */
function cookieNameOf(uid: string, prefix: string): string {
  return prefix + uid.slice(0, 10)
}

/** The OP sessions of such logins. */
export function uidsOf(logins: ReadonlyMap<string, string | undefined>): readonly string[] {
  return [...new Set(logins.values())].filter((uid) => uid !== undefined)
}

/** After a login: its cookie. */
export async function leaveLogin(
  ctx: Context,
  { uid, transient }: Pick<Session, 'uid' | 'transient'>,
  { prefix, sealingKey, now }: BrowserLoginsParts,
): Promise<void> {
  const sealed = await seal('login', uid, await sealingKey(), now())
  const lifetime = transient ? {} : { maxAge: longestCookie * 1000 } // a transient one goes when the browser is closed
  ctx.cookies.set(cookieNameOf(uid, prefix), sealed, { ...ATTRIBUTES, ...lifetime })
}

/** Deletes the cookies of logins that mean nothing any more. */
export function forgetLogins(ctx: Context, names: Iterable<string>): void {
  for (const name of names) ctx.cookies.set(name, null, ATTRIBUTES)
}
