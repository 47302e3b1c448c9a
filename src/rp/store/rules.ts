import type { SessionEnd } from '../../protocol/session-document.ts'
import type {
  FoundRpSession,
  LearntSid,
  LogoutNotice,
  LogoutTarget,
  OutsideLogin,
  StoredRefreshToken,
  StoredRpSession,
} from './contract.ts'

/** What every store decides alike. Times are epoch seconds. */

/** Seconds after a logout in which a login that was under way may still get its ID Token; clocks that differ included. */
export const LATE_LOGIN = 3_600

export function isLive(session: Pick<StoredRpSession, 'idleExpiresAt' | 'expiresAt'>, now: number): boolean {
  return session.idleExpiresAt > now && session.expiresAt > now
}

/**
 * An RP session as stores keep it, alive or not. One that the front channel ended has an idle expiry of 0, and says how it ended:
 * so it is no longer alive, whatever the clock says, but a logout finds it by all its names and a late refresh finds its token.
 */
export interface KeptRpSession extends StoredRpSession {
  readonly framed?: SessionEnd
}

/** What becomes of an RP session that the front channel ends. */
export function framedBy(session: StoredRpSession, framed: SessionEnd): KeptRpSession {
  return { ...session, idleExpiresAt: 0, framed }
}

/** What is found of an RP session that is still kept: how it ended, until the cookie is dead too. */
export function afterExpiry(session: KeptRpSession, now: number): FoundRpSession | undefined {
  if (session.expiresAt <= now) return undefined
  return { state: 'ended', publicId: session.publicId, end: expiryEnd(session) }
}

/** By `sub` a logout ends what it knew of: a login whose first ID Token is younger than the logout goes on (T3). */
function endsBySub(session: Pick<StoredRpSession, 'firstIat'>, watermark: number): boolean {
  return session.firstIat <= watermark
}

/** The logouts that named the `sid` or the `sub` of a login, in epoch seconds. */
export interface Watermarks {
  readonly sid?: number | undefined
  readonly sub?: number | undefined
}

/** Of the logouts that named a login that is not in the store, the latest that ends it (T3). */
export function logoutOf(
  { firstIat }: Pick<OutsideLogin, 'firstIat'>,
  { sid, sub }: Watermarks,
  { sidReused }: { readonly sidReused: boolean },
): number | undefined {
  const bySid = sid !== undefined && (!sidReused || endsBySub({ firstIat }, sid)) ? sid : undefined
  const bySub = sub !== undefined && endsBySub({ firstIat }, sub) ? sub : undefined
  return bySid === undefined || bySub === undefined ? (bySid ?? bySub) : Math.max(bySid, bySub)
}

/** Says whether the End-User has signed out of this app in this browser since a login there was asked for (epoch milliseconds). */
export function wasLeftSince(end: SessionEnd | null, requestedAt: number): boolean {
  if (end === null) return false
  const { cause, at, at_ms } = end
  return (cause === 'this_app' || cause === 'rp_initiated') && (at_ms ?? at * 1000) > requestedAt
}

/** A `sid` that an RP session has besides that of its login. */
export interface FurtherSid {
  readonly sid: string
  /** When the browser was asked that has shown it, in epoch milliseconds; 0 where only tokens have. */
  readonly requestedAt: number
  /** Whether tokens have shown it: then their grant at the OP is of it. */
  readonly ofGrant: boolean
}

const MOST_SIDS = 8

/**
 * What an RP session has after a `sid` was learnt, that one first. That of its login is kept with them once the browser
 * has shown it again. Where they are too many, the one that was learnt longest ago goes, but never the one that the browser has
 * shown last: that is the OP session which the End-User is in.
 */
export function withSid(
  { sid }: Pick<StoredRpSession, 'sid'>,
  further: readonly FurtherSid[],
  learnt: LearntSid,
): readonly FurtherSid[] {
  if (learnt.sid === sid && learnt.from === 'grant') return further
  const known = further.find((one) => one.sid === learnt.sid)
  const requestedAt =
    learnt.from === 'browser' ? Math.max(learnt.requestedAt, known?.requestedAt ?? 0) : (known?.requestedAt ?? 0)
  const added = { sid: learnt.sid, requestedAt, ofGrant: learnt.from === 'grant' || known?.ofGrant === true }
  const all = [added, ...further.filter((one) => one.sid !== learnt.sid)]
  if (all.length <= MOST_SIDS) return all
  const shownLast = Math.max(...all.map((one) => one.requestedAt))
  const oldest = all.findLast((one) => one.requestedAt === 0 || one.requestedAt !== shownLast) ?? all.at(-1)
  return all.filter((one) => one !== oldest)
}

/**
 * Says whether a `sid` comes too late for an RP session, because a logout of it arrived after it was asked for. Not so if the
 * browser has left it behind since, or if by a `sid` that is reused the logout was of an older login.
 */
export function isOutdated(
  session: Pick<StoredRpSession, 'firstIat' | 'sid' | 'requestedAt'>,
  further: readonly FurtherSid[],
  learnt: LearntSid,
  logout: { readonly arrivedAt: number; readonly watermark: number } | undefined,
  { sidReused }: { readonly sidReused: boolean },
): boolean {
  if (logout === undefined || logout.arrivedAt <= learnt.requestedAt) return false
  if (sidReused && !endsBySub(session, logout.watermark)) return false
  return !isLeftBehind(learnt.sid, session, further, logout.watermark)
}

/**
 * Says whether the browser has shown another `sid` since this one was logged out (epoch seconds); with the login it has shown
 * that of the login. A watermark may be of whole seconds: the logout was until the next one. The `sid` that was shown last is
 * never left behind, whatever the clocks say.
 */
export function isLeftBehind(
  sid: string,
  login: Pick<StoredRpSession, 'sid' | 'requestedAt'>,
  further: readonly FurtherSid[],
  watermark: number,
): boolean {
  const shown = [...further, { sid: login.sid, requestedAt: login.requestedAt }]
  const own = Math.max(0, ...shown.filter((one) => one.sid === sid).map((one) => one.requestedAt))
  const latest = (Math.floor(watermark) + 1) * 1000
  return shown.some(
    (one) => one.sid !== undefined && one.sid !== sid && one.requestedAt > own && one.requestedAt >= latest,
  )
}

/**
 * Seconds for which an RP session is kept beyond its absolute expiry: a refresh that is under way then still finds it, and with
 * it what becomes of its new refresh token.
 */
export const KEPT_LONGER = 60

/** How an RP session ended that is not kept any more. */
export interface PastEnd {
  /** `null` where a login of the same End-User has replaced it: nobody is told, but a refresh token that comes late is owed. */
  readonly end: SessionEnd | null
  /** Whether refresh tokens with `offline_access` were to go too. */
  readonly revokeOffline: boolean
}

/** Says whether a logout means an RP session that carries the named `sid` or `sub`. */
export function isMeant(
  session: Pick<StoredRpSession, 'sub' | 'firstIat'>,
  target: LogoutTarget,
  { sidReused, watermark }: Pick<LogoutNotice, 'sidReused' | 'watermark'>,
): boolean {
  if (!('sid' in target)) return endsBySub(session, watermark)
  if (target.sub !== undefined && session.sub !== target.sub) return false
  return !sidReused || endsBySub(session, watermark)
}

/** Of the live RP sessions that carry the named `sid` or `sub`: those a logout ends, or `sub_mismatch`. */
export function membersOf(
  named: readonly StoredRpSession[],
  target: LogoutTarget,
  notice: Pick<LogoutNotice, 'sidReused' | 'watermark'>,
): readonly StoredRpSession[] | 'sub_mismatch' {
  if ('sid' in target && named.length > 0 && named.every(({ sub }) => sub !== (target.sub ?? sub)))
    return 'sub_mismatch'
  return named.filter((session) => isMeant(session, target, notice))
}

/** A debt to the app's own OP, with the RP sessions that ended with it. */
export function owedDownstream(downstream: string, ended: readonly Pick<StoredRpSession, 'publicId'>[]): string {
  return [downstream, ...ended.map(({ publicId }) => publicId)].join('\n')
}

type MayHaveRefreshToken = Pick<StoredRpSession, 'refreshToken'>
type WithRefreshToken = { readonly refreshToken: StoredRefreshToken }

/** Says whether an RP session that has ended leaves a refresh token to revoke (Back-Channel §2.7). */
export function isOwed<Session extends MayHaveRefreshToken>(
  session: Session,
  revokeOffline: boolean,
): session is Session & WithRefreshToken {
  return session.refreshToken !== undefined && (revokeOffline || !session.refreshToken.offline)
}

/** Says whether an RP session has its tokens from the OP session that this `sid` names. */
export function isOfGrant(session: Pick<StoredRpSession, 'sid'>, further: readonly FurtherSid[], sid: string): boolean {
  return session.sid === sid || further.some((one) => one.ofGrant && one.sid === sid)
}

/**
 * How an RP session ends that a login in the same browser replaces: to its tabs only if another End-User has signed in.
 */
export function replacementEnd(before: StoredRpSession, after: StoredRpSession): SessionEnd | null {
  return before.sub === after.sub ? null : { cause: 'user_switched', at: after.createdAt }
}

/** How an RP session ended that no logout has ended. */
export function expiryEnd({ idleExpiresAt, expiresAt, framed }: KeptRpSession): SessionEnd {
  return framed ?? { cause: 'expired', at: Math.min(idleExpiresAt, expiresAt) }
}
