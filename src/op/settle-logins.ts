import type { KoaContextWithOIDC, Session } from 'oidc-provider'
import { messageOf } from '../runtime/message-of.ts'
import { type BrowserLoginsParts, forgetLogins, leaveLogin, loginsIn } from './browser-logins.ts'
import type { OpLog } from './log.ts'
import { extend, type KeepTogetherParts, noteTogether, type OtherLogins, sortLogins } from './logins-together.ts'
import type { EndedOpSession, OpIssuerStore, OpSession } from './store/contract.ts'
import { isUnattended } from './unseen.ts'

/** What it takes to settle the logins of a browser. */
export interface SettleLoginsParts extends BrowserLoginsParts, Omit<KeepTogetherParts, 'store'> {
  readonly store: KeepTogetherParts['store'] & Pick<OpIssuerStore, 'getOpSession'>
  /** Ends OP sessions that somebody else was signed in in, all or none. */
  readonly endOthers: (uids: readonly string[]) => Promise<readonly EndedOpSession[]>
  readonly log: OpLog
}

/**
 * After a request of a signed-in browser: ends what somebody else began in it, as in any user switch, takes away the cookies of
 * what is over, and keeps together what the same user began: his apps are signed in there. A login leaves its cookie.
 *
 * A background check ends nobody and extends nothing.
 *
 * @returns what ended.
 * @throws what the store throws where it is not known that nobody else is signed in here any more. What else fails is only
 *   logged (`keep_together`): the next request does it.
 */
export async function settleLogins(
  ctx: KoaContextWithOIDC,
  parts: SettleLoginsParts,
): Promise<readonly EndedOpSession[]> {
  const { session, result } = ctx.oidc
  if (!session?.accountId || session.destroyed) return []
  if (isUnattended(ctx)) {
    await orLog(parts, async () => {
      const others = await otherLogins(ctx, session, parts)
      if (others) await noteTogether(others.current, others.own, parts)
    })
    return []
  }
  const others = await otherLogins(ctx, session, parts)
  const ended = others ? await settle(ctx, others, parts) : []
  if (result?.login) await leaveLogin(ctx, session, parts)
  return ended
}

async function settle(
  ctx: KoaContextWithOIDC,
  { current, own, foreign, over }: BrowserOpSessions,
  parts: SettleLoginsParts,
): Promise<readonly EndedOpSession[]> {
  const ended = foreign.length > 0 ? await parts.endOthers(foreign.map(({ uid }) => uid)) : []
  forgetLogins(ctx, over)
  await orLog(parts, async () => {
    await noteTogether(current, own, parts)
    for (const other of own) await extend(other, current.expiresAt, parts)
  })
  return ended
}

/** The OP session at hand as it stands in the store, and what its browser has beside it. */
interface BrowserOpSessions extends OtherLogins {
  readonly current: OpSession
}

/** `undefined` where a browser brings no other login, as a rule, or where its OP session is over: that speaks for nobody. */
async function otherLogins(
  ctx: KoaContextWithOIDC,
  session: Session,
  { store, ...parts }: SettleLoginsParts,
): Promise<BrowserOpSessions | undefined> {
  const uids = await loginsIn(ctx, parts, session)
  if (uids.size === 0) return undefined
  const [current, ...found] = await Promise.all(
    [session.uid, ...uids.values()].map(async (uid) => (uid === undefined ? undefined : store.getOpSession({ uid }))),
  )
  return current && { current, ...sortLogins(current, new Map([...uids.keys()].map((name, i) => [name, found[i]]))) }
}

async function orLog({ log }: Pick<SettleLoginsParts, 'log'>, keep: () => Promise<void>): Promise<void> {
  try {
    await keep()
  } catch (error) {
    log({ event: 'op_failed', task: 'keep_together', message: messageOf(error) })
  }
}
