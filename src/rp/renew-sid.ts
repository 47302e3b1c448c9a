import type { RpContext } from './context.ts'
import { seconds } from './context.ts'
import { endRpSession } from './end-sessions.ts'
import type { LearntSid, StoredRpSession } from './store/contract.ts'

/** What a new ID Token of a known RP session said, and how and when it was asked for. */
interface Renewal extends Omit<LearntSid, 'sid'> {
  readonly sid: unknown
}

/**
 * Keeps an RP session reachable for the OP's logouts: where the End-User has signed in there again, the OP knows this RP by
 * another `sid`, and its next Logout Token names that one. If such a logout has come already, the RP session ends here.
 * Says whether it is still alive, as far as that was asked.
 */
export async function renewSid<Data>(
  context: RpContext<Data>,
  session: Pick<StoredRpSession, 'handle' | 'sid'>,
  { sid, ...learnt }: Renewal,
): Promise<boolean> {
  if (typeof sid !== 'string' || sid === '') return true
  const { sidReused } = context.options.allow
  const isNews = learnt.from === 'browser' || sid !== session.sid
  const result = isNews ? await context.store.addSid(session.handle, { sid, ...learnt }, { sidReused }) : 'added'
  if (result === 'outdated') {
    await endRpSession(context, session.handle, { cause: 'logout_token', at: seconds(context) })
  }
  return result === 'added'
}
