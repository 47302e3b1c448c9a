import type { SessionEnd } from '../protocol/session-document.ts'
import { noteOf } from './cascade.ts'
import type { RpContext } from './context.ts'
import { messageOf } from './log.ts'
import { type RpSession, showRpSession } from './rp-session.ts'
import type { EndByResult, LogoutNotice, LogoutTarget, StoredRpSession } from './store/contract.ts'
import { storeFailure, whoIsUnknown } from './store-failure.ts'

/**
 * Ends every RP session a Logout Token names.
 *
 * With a `sid`, only that RP session ends. With only a `sub`, all of that End-User's RP sessions end. An RP session
 * that is already gone counts as ended, so the OP may safely tell us again. What follows from it (revoking refresh
 * tokens, the app's own hook) never delays or changes the answer; what is owed to the OP was recorded in the same step.
 *
 * @see {@link https://openid.net/specs/openid-connect-backchannel-1_0.html#BCActions | Back-Channel Logout 1.0 §2.7}
 */
export async function endRpSessions<Data>(
  context: RpContext<Data>,
  target: LogoutTarget,
  notice: LogoutNotice,
): Promise<EndByResult> {
  const { at, cause } = notice.end
  const isAgeCompared = !('sid' in target) || notice.sidReused
  const notAfter = Math.min(notice.watermark, context.options.runtime.now() / 1000)
  const downstream = noteOf(context.options, { ...target, ...(isAgeCompared && { notAfter }), at, cause })
  const result = await context.store.endBy(target, { ...notice, ...(downstream !== undefined && { downstream }) })
  if (result.outcome !== 'ended') return result
  context.cascade?.wake()
  afterEnd(context, result.sessions, notice.end)
  return result
}

/** Ends one RP session; `undefined` when it was not alive. */
export async function endRpSession<Data>(
  context: RpContext<Data>,
  handle: string,
  end: SessionEnd,
): Promise<StoredRpSession | undefined> {
  const session = await context.store.delete(handle, end, await noteOfLeaving(context, handle, end))
  context.cascade?.wake()
  if (session) afterEnd(context, [session], end)
  return session
}

/** Lists an End-User's live RP sessions for the app. */
export async function sessionsOf<Data>(context: RpContext<Data>, sub: string): Promise<readonly RpSession<Data>[]> {
  const alive = await context.store.listBySub(sub).catch((cause: unknown) => {
    throw whoIsUnknown(context, 'sessionsOf', cause)
  })
  return alive.map((session) => showRpSession<Data>(session))
}

/** Ends those of an End-User's RP sessions that the app means, and says which these were. One that fails keeps no other alive. */
export async function endSessionsOf<Data>(
  context: RpContext<Data>,
  sub: string,
  isMeant: (session: RpSession<Data>) => boolean,
): Promise<readonly RpSession<Data>[]> {
  const { at, alive } = await aliveNow(context, sub)
  const end: SessionEnd = { cause: 'admin', at: Math.floor(at / 1000), at_ms: at }
  const meant = alive.filter((session) => isMeant(showRpSession<Data>(session)))
  const results = await Promise.allSettled(meant.map(({ handle }) => endRpSession(context, handle, end)))
  return results.flatMap((result) => {
    if (result.status === 'fulfilled') return result.value === undefined ? [] : [showRpSession<Data>(result.value)]
    throw storeFailure(context, 'endSessions', 'Not every RP session could be ended; call it again', result.reason)
  })
}

async function aliveNow<Data>(
  context: RpContext<Data>,
  sub: string,
): Promise<{ readonly at: number; readonly alive: readonly StoredRpSession[] }> {
  try {
    const at = await context.store.now() // logins are held against it, by the same clock (T3)
    return { at, alive: await context.store.listBySub(sub) }
  } catch (cause) {
    throw whoIsUnknown(context, 'endSessions', cause)
  }
}

/** What leaving this app owes downstream: nothing where only this app is left, or nothing stems from it. */
async function noteOfLeaving<Data>(
  { store, options }: RpContext<Data>,
  handle: string,
  { at, cause }: SessionEnd,
): Promise<string | undefined> {
  if (options.endDownstream === undefined || cause === 'this_app') return undefined
  const found = await store.get(handle)
  if (found?.state !== 'alive') return undefined
  const { sid, sub, firstIat } = found.session
  // Without a sid nobody can tell the End-User's sessions apart, and what he has elsewhere goes on: it stems from this RP
  // session alone. A sid that is used again names younger logins too.
  const named = sid === undefined ? {} : { sid, sub, ...(options.allow.sidReused && { notAfter: firstIat }) }
  return noteOf(options, { ...named, at, cause })
}

/**
 * Follows up a login that took the place of an RP session. To the app the one has ended only if it was another
 * End-User's; a login of the same one goes on.
 */
export function afterReplacement<Data>(
  context: RpContext<Data>,
  before: StoredRpSession,
  after: StoredRpSession,
): void {
  if (before.sub !== after.sub) afterEnd(context, [before], { cause: 'user_switched', at: after.createdAt })
  else if (before.refreshToken !== undefined) context.revoker.wake()
}

/** Follows up what an unauthenticated front-channel request ended: the app hears of it, and nothing is revoked (T4). */
export function afterFrontchannel<Data>(
  context: RpContext<Data>,
  sessions: readonly StoredRpSession[],
  end: SessionEnd,
): void {
  for (const session of sessions) void runHook(context, session, end)
}

/** Tells the app of a new RP session, before the browser goes on. */
export async function afterStart<Data>({ options }: RpContext<Data>, session: StoredRpSession): Promise<void> {
  try {
    await options.onSessionStarted(showRpSession<Data>(session))
  } catch (error) {
    options.log({ event: 'hook_failed', hook: 'onSessionStarted', message: messageOf(error) })
  }
}

function afterEnd<Data>(context: RpContext<Data>, sessions: readonly StoredRpSession[], end: SessionEnd): void {
  if (sessions.some((session) => session.refreshToken !== undefined)) context.revoker.wake()
  for (const session of sessions) void runHook(context, session, end)
}

async function runHook<Data>({ options }: RpContext<Data>, session: StoredRpSession, end: SessionEnd): Promise<void> {
  try {
    await options.onSessionEnded(showRpSession<Data>(session), end)
  } catch (error) {
    options.log({ event: 'hook_failed', hook: 'onSessionEnded', message: messageOf(error) })
  }
}
