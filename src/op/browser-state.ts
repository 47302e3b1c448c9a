import { createHmac } from 'node:crypto'
import type { Context } from 'koa'
import type { Session } from 'oidc-provider'
import { base64url } from '../protocol/session-state.ts'
import type { Runtime } from '../runtime/runtime.ts'
import { longestCookie } from './longest-cookie.ts'

/** Who is signed in at the OP in this browser; `undefined` for nobody. */
export type SignedIn = { readonly uid: string; readonly accountId: string } | undefined

/** Who is signed in in an OP session of oidc-provider's. */
export function signedInOf(session: Session | undefined): SignedIn {
  if (!session?.accountId || session.destroyed) return undefined
  return { uid: session.uid, accountId: session.accountId }
}

const ANONYMOUS = /^n\.[\w-]{22}$/

/**
 * Computes the OP's readable browser state (Session §3.2 "OP User Agent state").
 *
 * Signed in it is an HMAC of the OP session and the account, the same on every node and without a store write; signed out
 * it is random and kept until the next login. So it changes on login, logout and user switch and on nothing else
 * (Session §3.2), and it tells nothing about the user or the session.
 */
export function browserState(
  secret: string,
  signedIn: SignedIn,
  cookie: string | undefined,
  random: Runtime['random'],
): string {
  if (signedIn) {
    return `a.${createHmac('sha256', secret).update(`${signedIn.uid}\0${signedIn.accountId}`).digest('base64url')}`
  }
  return cookie && ANONYMOUS.test(cookie) ? cookie : `n.${base64url(random(16))}`
}

/**
 * Whether a response may set the browser-state cookie: only on full pages and same-origin calls. A cookie that is set
 * inside a cross-site frame lands in a partitioned jar and makes the OP iframe say `changed` for ever.
 */
export function maySetBrowserState(secFetchDest: string | undefined, secFetchSite: string | undefined): boolean {
  if (secFetchDest === undefined || secFetchDest === 'document') return true
  return secFetchDest === 'empty' && secFetchSite === 'same-origin'
}

/** What rotating the browser state needs. */
export interface BrowserStateParts {
  readonly cookieName: string
  readonly secret: string
  readonly random: Runtime['random']
}

/**
 * Brings the browser-state cookie in line with who is signed in now and returns its value. The cookie is never deleted:
 * where it is missing inside the OP iframe, storage is blocked, and the answer is `error` instead of a false `changed`.
 */
export function rotateBrowserState(ctx: Context, signedIn: SignedIn, parts: BrowserStateParts): string {
  const pending = ctx.state.lockstepBrowserState as string | undefined
  const cookie = pending ?? ctx.cookies.get(parts.cookieName, { signed: false })
  const value = browserState(parts.secret, signedIn, cookie, parts.random)
  if (
    value !== cookie &&
    maySetBrowserState(ctx.get('sec-fetch-dest') || undefined, ctx.get('sec-fetch-site') || undefined)
  ) {
    ctx.cookies.set(parts.cookieName, value, {
      httpOnly: false,
      maxAge: longestCookie * 1000,
      overwrite: true,
      path: '/',
      sameSite: 'none',
      secure: true,
      signed: false,
    })
    setLogin(ctx, cookie, value)
  }
  ctx.state.lockstepBrowserState = value // one request has one answer, also where the cookie may not be set
  return value
}

/**
 * Tells the browser's own login status (FedCM) of a login and a logout, where it may hear it: on what may set the cookie.
 *
 * @see {@link https://w3c-fedid.github.io/login-status/ | Login Status API}
 */
function setLogin(ctx: Context, before: string | undefined, after: string): void {
  if (after.startsWith('a.')) ctx.set('set-login', 'logged-in')
  else if (before?.startsWith('a.')) ctx.set('set-login', 'logged-out')
}
