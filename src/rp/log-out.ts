import { base64url } from '../protocol/session-state.ts'
import type { RpContext } from './context.ts'
import { clearCookie, readCookies, readSessionCookie, setCookie } from './cookies.ts'
import { endRpSession } from './end-sessions.ts'
import { findRpSession } from './find-session.ts'
import { BODY_LIMIT, FORM, isSameOrigin, type RpAnswer, type RpRequest, redirect, refusal, typeOf } from './http.ts'
import { endOf, forgetLeaving, type Leaving, rememberLeaving } from './left-app.ts'
import { confirmLogoutPage, goodbyePage, loggedOutPage, signedInPage } from './pages.ts'
import { safeReturnTo } from './return-to.ts'
import { handleOf } from './session-id.ts'
import { openTokens } from './tokens.ts'

/** Seconds the OP may take to ask its questions and send the browser back. */
const LIFETIME = 600

/** What must survive the way over the OP. */
interface PostLogout {
  readonly state: string
  readonly returnTo: string | undefined
}

/** Shows what a logout would do. */
export async function askBeforeLogout<Data>({ options }: RpContext<Data>, request: RpRequest): Promise<RpAnswer> {
  const wanted = new URL(request.url, options.origin).searchParams.get('return_to')
  return confirmLogoutPage(options, wanted ?? '')
}

/**
 * Signs the End-User out: here first, since the notices that follow are not sure to arrive, then at the OP and with it
 * everywhere (RP-Initiated §2). `from=this-app` leaves the OP session alone. Either is remembered in this browser, so
 * that its other tabs do not sign in again by themselves.
 *
 * With no RP session left to end, `everywhere` still goes to the OP, where the End-User may be signed in: without a hint
 * the OP asks him.
 *
 * Only a page of this very app may ask.
 */
export async function logOut<Data>(context: RpContext<Data>, request: RpRequest): Promise<RpAnswer> {
  const { options } = context
  if (!isSameOrigin(request, options.origin)) {
    return refusal(403, 'invalid_request', 'signing out is asked for by a form of this app')
  }
  // Of another kind it would go unread, and end more than was asked for.
  if (![undefined, FORM].includes(typeOf(request))) {
    return refusal(415, 'invalid_request', `a form comes as ${FORM}: from a script, send URLSearchParams`)
  }
  const form = new URLSearchParams(await request.text(BODY_LIMIT))
  if (!form.has('from') && new URL(request.url, options.origin).searchParams.has('from')) {
    return refusal(400, 'invalid_request', 'from belongs in the form, not in the query')
  }
  const from = form.get('from') ?? 'everywhere'
  if (from !== 'everywhere' && from !== 'this-app') {
    return refusal(400, 'invalid_request', 'from must be everywhere or this-app')
  }
  const wanted = form.get('return_to')
  const returnTo = wanted === null || wanted === '' ? undefined : safeReturnTo(wanted, options)
  const cookies = [clearCookie(options.cookieName, options)]
  const at = await context.store.now() // logins are held against it, by the same clock (T3)
  const leaving: Leaving = { how: from === 'everywhere' ? 'everywhere' : 'here', at }
  const id = readSessionCookie(request, options)
  const ended = id === undefined ? undefined : await endRpSession(context, handleOf(id), endOf(leaving))
  if (from === 'this-app') {
    return redirect(returnTo ?? `${options.origin}${options.base}/logged-out`, [
      ...cookies,
      rememberLeaving(leaving, options),
    ])
  }
  const idToken = ended && (await openTokens(context, ended))?.idToken
  return leaveForOp(context, { idToken, returnTo, leaving, cookies })
}

async function leaveForOp<Data>(
  context: RpContext<Data>,
  departure: {
    readonly idToken: string | undefined
    readonly returnTo: string | undefined
    readonly leaving: Leaving
    readonly cookies: readonly string[]
  },
): Promise<RpAnswer> {
  const { options, op, sealer } = context
  const { idToken, returnTo, leaving, cookies } = departure
  const found = await op.reachable().catch(() => undefined) // logged, once, where it was found out
  const endpoint = found?.serverMetadata().end_session_endpoint
  if (endpoint === undefined) {
    const isAway = found === undefined // else it takes no sign-outs at all
    const why = isAway ? 'could not be told' : 'cannot be told'
    const note = `The sign-in service ${why}, so you may still be signed in there and in other apps.`
    const onlyHere = rememberLeaving({ ...leaving, how: 'here' }, options)
    const about = { note, canRetry: isAway, status: isAway ? 503 : 200, returnTo }
    return loggedOutPage(options, { ...about, cookies: [...cookies, onlyHere] })
  }
  const pending: PostLogout = { state: base64url(options.runtime.random(16)), returnTo }
  const cookie = setCookie(cookieOf(options.cookieName), await sealer.seal('logout', pending), LIFETIME, options)
  const fields = {
    ...(idToken === undefined ? {} : { id_token_hint: idToken }),
    client_id: options.clientId,
    post_logout_redirect_uri: `${options.origin}${options.base}/logged-out`,
    state: pending.state,
  }
  return goodbyePage(endpoint, fields, [...cookies, rememberLeaving(leaving, options), cookie])
}

/**
 * Receives the browser back from the OP, or from a page that only those who are signed in may see. A `state` that is
 * not the one we sent leads to the neutral page: what was stored for the way back is then not used (RFC 9700 §4.11).
 */
export async function arriveLoggedOut<Data>(context: RpContext<Data>, request: RpRequest): Promise<RpAnswer> {
  const { options, sealer } = context
  const query = new URL(request.url, options.origin).searchParams
  const state = query.get('state')
  const name = cookieOf(options.cookieName)
  const sealed = state === null ? undefined : readCookies(request).get(name)
  if (sealed === undefined) return showWhere(context, request, query.get('return_to') ?? undefined)
  const pending = (await sealer.open('logout', sealed)) as PostLogout | undefined
  const cookies = [clearCookie(name, options)]
  if (pending?.state !== state) return showWhere(context, request, undefined, cookies)
  cookies.push(...forgetLeaving(request, options)) // the OP has done its part: a login would ask
  return pending.returnTo === undefined
    ? showWhere(context, request, undefined, cookies)
    : redirect(pending.returnTo, cookies)
}

/** Says whether this browser is signed in to this app now: somebody may have signed in again since. */
async function showWhere<Data>(
  context: RpContext<Data>,
  request: RpRequest,
  wanted: string | undefined,
  cookies: readonly string[] = [],
): Promise<RpAnswer> {
  const { options } = context
  const returnTo = wanted === undefined ? undefined : safeReturnTo(wanted, options)
  const known = await findRpSession(context, request)
  if (known?.found?.state !== 'alive') return loggedOutPage(options, { cookies, returnTo })
  return returnTo === undefined ? signedInPage(options, cookies) : redirect(returnTo, cookies)
}

function cookieOf(cookieName: string): string {
  return `${cookieName}-logout`
}
