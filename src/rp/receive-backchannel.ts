import { LockstepError } from '../protocol/errors.ts'
import { type LogoutTokenClaims, LogoutTokenError } from '../protocol/logout-token.ts'
import type { SessionEnd } from '../protocol/session-document.ts'
import type { OpConnection } from './connect-op.ts'
import { seconds } from './context.ts'
import { answer, BODY_LIMIT, FORM, type RpAnswer, type RpRequest, refusal, typeOf } from './http.ts'
import { messageOf, sanitize } from './log.ts'
import { OpKeyNotYetKnown } from './op-keys.ts'
import type { ResolvedAppOptions } from './options.ts'
import type { EndByResult, LogoutNotice, LogoutTarget } from './store/contract.ts'
import { type ValidLogoutToken, validateLogoutToken } from './validate-logout-token.ts'

/** Who receives Logout Tokens. */
export interface LogoutTokenReceiver {
  readonly options: ResolvedAppOptions
  readonly op: Pick<OpConnection, 'keys'>
  /** Seconds for which a logout is remembered. */
  readonly remembered: number
  /** Whether it is known here how many RP sessions there were; else the OP is told no number. */
  readonly countsSessions: boolean
  end(target: LogoutTarget, notice: LogoutNotice): Promise<EndByResult>
}

/**
 * Ends every RP session a Logout Token names and answers the OP.
 *
 * Success is exactly 200, sent after the commit, with `Logout-Sessions-Ended: N`. A token that is refused gets 400
 * `invalid_request`. When our store or the OP's keys fail, or its key may be newer than those, nothing was claimed, and 400
 * `temporarily_unavailable` with `Retry-After` asks the OP to come again: §2.8 has no other status for a logout that failed.
 *
 * @see {@link https://openid.net/specs/openid-connect-backchannel-1_0.html#BCRequest | Back-Channel Logout 1.0 §2.5 to §2.8}
 */
export async function receiveLogoutToken(receiver: LogoutTokenReceiver, request: RpRequest): Promise<RpAnswer> {
  const { options } = receiver
  if (typeOf(request) !== FORM) return refusal(415, 'invalid_request', `a Logout Token comes as ${FORM}`)
  const sent = new URLSearchParams(await request.text(BODY_LIMIT)).getAll('logout_token')
  const [token] = sent
  if (token === undefined || sent.length > 1) {
    return refusal(400, 'invalid_request', 'logout_token must be sent once')
  }
  try {
    const { issuer, clientId, alg, allow, decryptionKeys } = options
    const { logoutTokenWithoutExp: withoutExp, logoutTokenWithoutTyp: withoutTyp } = allow
    const expected = { issuer, clientId, alg, now: seconds(receiver), allow: { withoutExp, withoutTyp } }
    const valid = await validateLogoutToken(token, expected, receiver.op, decryptionKeys)
    return success(await endWhatItNames(receiver, valid), receiver)
  } catch (error) {
    if (error instanceof LogoutTokenError) {
      options.log({ event: 'logout_token_refused', check: error.check, message: error.message })
      return refusal(400, 'invalid_request', error.message)
    }
    options.log({ event: 'logout_not_recorded', message: messageOf(error) })
    const isOfOp = error instanceof LockstepError && opFailures.has(error.code)
    const what = isOfOp ? error.message : 'nothing was recorded'
    const wait = error instanceof OpKeyNotYetKnown ? error.retryAfter : 5
    return refusal(400, 'temporarily_unavailable', what, { 'retry-after': String(wait) })
  }
}

/** What the OP is told of: it alone can do something about it. */
const opFailures: ReadonlySet<string> = new Set(['op_unreachable', 'op_key_unknown', 'op_key_unusable'])

async function endWhatItNames(receiver: LogoutTokenReceiver, token: ValidLogoutToken): Promise<EndByResult> {
  const { options } = receiver
  const { claims, acceptableUntil, revokeOffline } = token
  const { sid, sub } = claims
  const target = sid === undefined ? { sub: sub as string } : { sid, ...(sub === undefined ? {} : { sub }) }
  const result = await receiver.end(target, {
    jti: claims.jti,
    jtiExpiresAt: acceptableUntil,
    watermark: claims.toe ?? claims.iat,
    watermarkExpiresAt: seconds(receiver) + receiver.remembered,
    end: endOf(claims, options.runtime.now()),
    revokeOffline,
    sidReused: options.allow.sidReused,
  })
  if (result.outcome === 'ended') {
    const by = sid === undefined ? 'sub' : 'sid'
    options.log({ event: 'logout_received', ended: result.sessions.length, by })
  }
  return result
}

function success(result: EndByResult, { countsSessions }: Pick<LogoutTokenReceiver, 'countsSessions'>): RpAnswer {
  if (result.outcome === 'replay') throw new LogoutTokenError('replay', 'this "jti" was seen before')
  if (result.outcome === 'sub_mismatch') throw new LogoutTokenError('sub', '"sub" is not the one that has this "sid"')
  return answer(200, '', countsSessions ? { 'logout-sessions-ended': String(result.sessions.length) } : {})
}

/** What the tabs will be told. The private claim is somebody else's text: checked, cut and cleaned (T24). */
function endOf(claims: LogoutTokenClaims, now: number): SessionEnd {
  const toldAt = claims.toe ?? claims.iat
  const end: SessionEnd = { cause: 'logout_token', at: Math.floor(Math.min(toldAt, now / 1000)) }
  const details: unknown = claims.lockstep_logout_details
  if (typeof details !== 'object' || details === null) return end
  const { ended_at_ms, ended_by } = details as Record<string, unknown>
  const isPrecise = typeof ended_at_ms === 'number' && Math.abs(ended_at_ms / 1000 - toldAt) < 2
  return {
    ...end,
    ...(isPrecise ? { at_ms: Math.min(Math.floor(ended_at_ms), now) } : {}),
    ...(typeof ended_by === 'string' && ended_by.trim() !== '' ? { by: sanitize(ended_by.trim()) } : {}),
  }
}
