import { createHash } from 'node:crypto'
import * as oidc from 'openid-client'
import { LockstepError } from '../protocol/errors.ts'
import { raw } from '../runtime/html.ts'
import { type RpContext, seconds } from './context.ts'
import { endRpSession } from './end-sessions.ts'
import { findRpSession } from './find-session.ts'
import { isForeign, page, type RpAnswer, type RpRequest, redirect, refusal } from './http.ts'
import { messageOf, sanitize } from './log.ts'
import { authorizationUrl, beginTransaction, type LoginTransaction } from './login-transaction.ts'
import { packOpWatch, readOpWatch } from './op-watch.ts'
import { redeemCode } from './redeem-code.ts'
import { renewSid } from './renew-sid.ts'
import { openTokens } from './tokens.ts'

/** What a silent check found; `unknown` never ends anything. */
type SilentResult =
  | { readonly result: 'same'; readonly session_state?: string }
  | { readonly result: 'ended' | 'switched' | 'unknown' }

/**
 * Asks the OP, in a hidden iframe of our own page, whether the End-User is still the same (Session §3.1): prompt=none
 * with the ID Token as hint. It never extends the idle lifetime (T11).
 *
 * Where the OP does not get its cookies in a frame, it says `login_required` of somebody who is signed in. So that answer
 * ends an RP session only if prompt=none has worked in it before; as the first answer it is noted as `refused`. A tab
 * tries that once, right after the OP iframe has said `unchanged`, when a logout cannot be the reason.
 */
export async function startSilentCheck<Data>(context: RpContext<Data>, request: RpRequest): Promise<RpAnswer> {
  const { options } = context
  const dest = request.header('sec-fetch-dest')
  if (isForeign(request) || (dest !== undefined && dest !== 'iframe')) {
    return refusal(403, 'invalid_request', 'a silent check runs in an iframe of this app')
  }
  const { handle, found } = (await findRpSession(context, request)) ?? {}
  if (handle === undefined || found === undefined) return tellParent(context, { result: 'unknown' })
  if (found.state === 'ended') return tellParent(context, { result: 'ended' })
  const tokens = await openTokens(context, found.session)
  if (tokens === undefined) return tellParent(context, { result: 'unknown' })
  try {
    const about = { kind: 'silent', returnTo: options.origin + options.home, again: false, handle } as const
    const begun = await beginTransaction(context, request, about)
    const params = { prompt: 'none', id_token_hint: tokens.idToken }
    return redirect(await authorizationUrl(context, begun.transaction, params), begun.cookies)
  } catch (error) {
    if (!(error instanceof LockstepError)) throw error
    return tellParent(context, { result: 'unknown' })
  }
}

/** Judges the response to a silent check and tells the page that framed it. */
export async function answerSilentCheck<Data>(
  context: RpContext<Data>,
  transaction: LoginTransaction | undefined,
  query: URLSearchParams,
  cookies: readonly string[],
): Promise<RpAnswer> {
  const result =
    transaction?.handle === undefined ? unknown : await judge(context, transaction, transaction.handle, query)
  return tellParent(context, result, cookies)
}

const unknown: SilentResult = { result: 'unknown' }

async function judge<Data>(
  context: RpContext<Data>,
  transaction: LoginTransaction,
  handle: string,
  query: URLSearchParams,
): Promise<SilentResult> {
  const found = await context.store.get(handle)
  if (found === undefined) return unknown
  if (found.state === 'ended') return { result: 'ended' }
  const at = seconds(context)
  const watch = readOpWatch(found.session.sessionState)
  try {
    // Its tokens are dropped: they are worth the scope openid, and to revoke one would end the grant of the login too.
    const { claims, sessionState } = await redeemCode(context, transaction, query)
    if (claims.sub !== found.session.sub) {
      await endRpSession(context, handle, { cause: 'user_switched', at })
      return { result: 'switched' }
    }
    const { requestedAt } = transaction
    const learnt = { sid: claims.sid, requestedAt, from: 'browser' } as const
    if (!(await renewSid(context, found.session, learnt))) return { result: 'ended' }
    const works = packOpWatch({ sessionState: sessionState ?? watch.sessionState, silentCheck: 'works' })
    if (!(await context.store.updateIfExists(handle, { sessionState: works }))) return { result: 'ended' }
    return { result: 'same', ...(sessionState === undefined ? {} : { session_state: sessionState }) }
  } catch (error) {
    if (error instanceof oidc.AuthorizationResponseError) {
      if (error.error !== 'login_required') {
        // Only this answer says that nobody is signed in; consent or interaction being needed does not.
        context.options.log({
          event: 'silent_check_failed',
          code: sanitize(error.error),
          message: 'the OP did not say who is signed in',
        })
        return unknown
      }
      if (watch.silentCheck !== 'works') {
        await context.store.updateIfExists(handle, { sessionState: packOpWatch({ ...watch, silentCheck: 'refused' }) })
        return unknown
      }
      await endRpSession(context, handle, { cause: 'silent_check', at })
      return { result: 'ended' }
    }
    if (!(error instanceof LockstepError)) throw error
    context.options.log({ event: 'silent_check_failed', code: error.code, message: messageOf(error) })
    return unknown
  }
}

/** A page that is nothing but one message to the page of ours that framed it. */
function tellParent<Data>(
  { options }: RpContext<Data>,
  result: SilentResult,
  cookies: readonly string[] = [],
): RpAnswer {
  const literal = (value: unknown) => JSON.stringify(value).replaceAll('<', '\\u003c')
  const script = `parent.postMessage(${literal({ lockstep: 'silent-check', ...result })}, ${literal(options.origin)})`
  const hash = createHash('sha256').update(script).digest('base64')
  const csp = `default-src 'none'; script-src 'sha256-${hash}'; frame-ancestors 'self'`
  return page(200, raw(`<title>Silent check</title><script>${script}</script>`), csp, cookies)
}
