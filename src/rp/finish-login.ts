import * as oidc from 'openid-client'
import { LockstepError } from '../protocol/errors.ts'
import type { SilentCheckTrust } from '../protocol/session-document.ts'
import { type RpContext, seconds } from './context.ts'
import { readSessionCookie, setCookie } from './cookies.ts'
import { discardTokens } from './discard-tokens.ts'
import { afterReplacement, afterStart } from './end-sessions.ts'
import { findRpSession } from './find-session.ts'
import { type RpAnswer, type RpRequest, redirect } from './http.ts'
import { forgetLeaving, leftSince } from './left-app.ts'
import { messageOf, sanitize } from './log.ts'
import { isSilentState, type LoginTransaction, takeTransaction } from './login-transaction.ts'
import { packOpWatch, trustAfterLogin } from './op-watch.ts'
import { loginFailedPage } from './pages.ts'
import { oauthErrorOf, type Redeemed, redeemCode, withUserInfo } from './redeem-code.ts'
import { grantOf, sealRefreshToken } from './refresh-token.ts'
import { handleOf, newSessionId } from './session-id.ts'
import { answerSilentCheck } from './silent-check.ts'
import { goToOp } from './start-login.ts'
import type { CreateResult, StoredRpSession } from './store/contract.ts'
import { lifeOf, type RpTokens } from './tokens.ts'

/**
 * Receives an Authentication Response and opens the RP session under a new id.
 *
 * A login that a logout has overtaken is discarded and asked for once more (T3): the OP then says whether the End-User
 * is still signed in.
 */
export async function finishLogin<Data>(context: RpContext<Data>, request: RpRequest): Promise<RpAnswer> {
  const query = new URL(request.url, context.options.origin).searchParams
  const state = query.get('state') ?? ''
  const { transaction, cookies } = await takeTransaction(context, request, state)
  if (isSilentState(state)) {
    return answerSilentCheck(context, transaction, query, cookies)
  }
  if (transaction === undefined) return withoutTransaction(context, request, cookies)
  const names = newSessionId(context.options.runtime)
  let redeemed: Redeemed | undefined
  let session: StoredRpSession
  let result: CreateResult
  try {
    redeemed = await redeemCode(context, transaction, query)
    session = await openedBy(context, transaction, redeemed, names, trustAfterLogin(request))
    result = await createUnlessLeft(context, request, session)
  } catch (error) {
    if (redeemed) await discardTokens(context, redeemed)
    if (isDeadCode(error)) return askAgain(context, request, transaction, cookies)
    return loginFailed(context, error, transaction, cookies)
  }
  if (result.outcome === 'outdated') {
    await discardTokens(context, redeemed)
    return askAgain(context, request, transaction, cookies)
  }
  if (result.replaced) afterReplacement(context, result.replaced, session)
  await afterStart(context, session)
  const cookie = setCookie(context.options.cookieName, names.id, context.options.lifetime.absolute, context.options)
  return redirect(transaction.returnTo, [...cookies, ...forgetLeaving(request, context.options), cookie])
}

/** `outdated` also where the End-User has signed out in this browser since the login was asked for. */
async function createUnlessLeft<Data>(
  { options, store }: RpContext<Data>,
  request: RpRequest,
  session: StoredRpSession,
): Promise<CreateResult> {
  if (leftSince(request, session, options) !== undefined) return { outcome: 'outdated' }
  const before = readSessionCookie(request, options)
  return store.create(session, before === undefined ? {} : { replaces: handleOf(before) })
}

/**
 * Asks the OP once more, and the same, in place of a login that a logout has overtaken; a second time says so instead. An
 * account that was to be made exists by now.
 */
async function askAgain<Data>(
  context: RpContext<Data>,
  request: RpRequest,
  { again, returnTo, maxAge, asked = {} }: LoginTransaction,
  cookies: readonly string[],
): Promise<RpAnswer> {
  if (again) {
    const what = 'You were signed out while you were signing in.'
    return loginFailedPage(context.options, { status: 409, what, code: 'outdated', cookies, returnTo })
  }
  const about = { returnTo, again: true, ...(maxAge === undefined ? {} : { maxAge }) }
  const { prompt, ...others } = asked
  return goToOp(context, request, { ...about, asked: prompt === 'create' ? others : asked, cookies })
}

async function openedBy<Data>(
  context: RpContext<Data>,
  { requestedAt }: LoginTransaction,
  redeemed: Redeemed,
  names: { readonly handle: string; readonly publicId: string },
  silentCheck: SilentCheckTrust,
): Promise<StoredRpSession> {
  const { options, sealer } = context
  const { claims, idToken, accessToken, expiresIn, refreshToken, offline, sessionState } = redeemed
  const value = options.wantsClaims ? await options.mapSession(await withUserInfo(context, redeemed)) : undefined
  const now = seconds(context)
  const tokens: RpTokens = { idToken, accessToken, ...lifeOf(expiresIn, now) }
  const { sub, sid } = claims
  const login = { sub, ...(typeof sid === 'string' && sid !== '' ? { sid } : {}) }
  return {
    handle: names.handle,
    publicId: names.publicId,
    ...login,
    firstIat: claims.iat,
    createdAt: now,
    requestedAt,
    idleExpiresAt: now + options.lifetime.idle,
    expiresAt: now + options.lifetime.absolute,
    data: JSON.stringify({ value }),
    ...(sessionState === undefined ? {} : { sessionState: packOpWatch({ sessionState, silentCheck }) }),
    tokens: await sealer.seal('tokens', tokens),
    ...(refreshToken === undefined
      ? {}
      : { refreshToken: { sealed: await sealRefreshToken(sealer, refreshToken, grantOf(sub, sid)), offline } }),
  }
}

/** A code, or the access token it gave, that the OP knows no more: it died in a logout, or the browser took too long. */
function isDeadCode(error: unknown): boolean {
  if (!(error instanceof LockstepError)) return false
  return ['invalid_grant', 'invalid_token'].includes(oauthErrorOf(error.cause) ?? '')
}

/** A used, expired or foreign response. Whoever is signed in already (the back button) goes on; nothing is retried. */
async function withoutTransaction<Data>(
  context: RpContext<Data>,
  request: RpRequest,
  cookies: readonly string[],
): Promise<RpAnswer> {
  const { options } = context
  const known = await findRpSession(context, request)
  if (known?.found?.state === 'alive') return redirect(options.origin + options.home, cookies)
  const what = 'This sign-in was not finished in time or was begun elsewhere.'
  return loginFailedPage(options, { status: 400, what, code: 'expired', cookies })
}

function loginFailed<Data>(
  { options }: RpContext<Data>,
  error: unknown,
  { returnTo }: LoginTransaction,
  cookies: readonly string[],
): RpAnswer {
  if (error instanceof oidc.AuthorizationResponseError) {
    const code = sanitize(error.error)
    options.log({ event: 'login_failed', code, message: sanitize(error.error_description ?? '') })
    const what = 'The sign-in was not completed.'
    return loginFailedPage(options, { status: 403, what, code, cookies, returnTo })
  }
  if (!(error instanceof LockstepError) || error.code === 'store_failed') throw error // that is not the OP's doing
  const refusal = oauthErrorOf(error.cause)
  const message = refusal === undefined ? messageOf(error) : `${error.message}: ${refusal}`
  options.log({ event: 'login_failed', code: error.code, message })
  const what = `${error.message}.`
  return loginFailedPage(options, { status: statusOf(error), what, code: error.code, cookies, returnTo })
}

function statusOf({ code }: LockstepError): number {
  if (code === 'login_refused') return 403 // by the app, in its mapSession
  if (code === 'login_response_invalid') return 400
  return code === 'op_unreachable' ? 503 : 502
}
