import type { Context } from 'koa'
import type { KoaContextWithOIDC } from 'oidc-provider'
import { seal, unseal } from './logout/sealed-request.ts'
import type { EndedOpSession, OpIssuerStore } from './store/contract.ts'

/*
 * A browser that restores five tabs sends five logins before the first is answered. Each makes an OP session, and of the five
 * OP cookies the last one to arrive is kept: no cookie with one name can hold what was begun side by side. So a login also
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

/** Cookies that are looked at in one request: more are left by nobody who signs in by hand, and the rest has its turn later. */
const MOST = 20

/** The most that browsers keep a cookie, since it must outlive every OP session; milliseconds. */
const LIFETIME = 400 * 86_400_000

/** `__Host-`, so that no host beside the OP's can plant one; sent with an app's POST, as the OP cookie is. */
const ATTRIBUTES = {
  httpOnly: true,
  overwrite: true,
  path: '/',
  sameSite: 'none',
  secure: true,
  signed: false,
} as const

/** The logins that were made in this browser, by the names of their cookies: uids of OP sessions, which may have ended; `undefined` where a cookie does not open. That of `except` is left out. */
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
    .slice(0, MOST)
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
  return [...logins.values()].filter((uid) => uid !== undefined)
}

/** What it takes to settle the logins of a browser. */
export interface SettleLoginsParts extends BrowserLoginsParts {
  readonly store: Pick<OpIssuerStore, 'getOpSession'>
  /** Ends an OP session that somebody else was signed in in. */
  readonly endOther: (uid: string) => Promise<EndedOpSession | undefined>
}

/**
 * After a login: leaves its cookie, ends what somebody else began in this browser, as in any user switch, and takes away the
 * cookies of what is over. What the same user began stays: its apps are signed in there.
 *
 * @returns what ended.
 */
export async function settleLogins(
  ctx: KoaContextWithOIDC,
  { store, endOther, ...parts }: SettleLoginsParts,
): Promise<readonly EndedOpSession[]> {
  const { session, result } = ctx.oidc
  if (!result?.login || !session?.accountId || session.destroyed) return []
  const logins = await loginsIn(ctx, parts)
  const over: string[] = []
  const ended: EndedOpSession[] = []
  for (const [name, uid] of logins) {
    const found = uid === undefined ? undefined : await store.getOpSession({ uid })
    if (uid === session.uid || found?.accountId === session.accountId) continue
    const other = found && (await endOther(found.uid))
    if (other) ended.push(other)
    over.push(name)
  }
  forgetLogins(ctx, over)
  if (uidsOf(logins).includes(session.uid)) return ended
  const sealed = await seal('login', session.uid, await parts.sealingKey(), parts.now())
  const lifetime = session.transient ? {} : { maxAge: LIFETIME } // a transient one goes when the browser is closed
  ctx.cookies.set(cookieNameOf(session.uid, parts.prefix), sealed, { ...ATTRIBUTES, ...lifetime })
  return ended
}

/** Deletes the cookies of logins that mean nothing any more. */
export function forgetLogins(ctx: Context, names: Iterable<string>): void {
  for (const name of names) ctx.cookies.set(name, null, ATTRIBUTES)
}
