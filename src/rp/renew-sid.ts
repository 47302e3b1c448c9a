import type { RpContext } from './context.ts'
import { seconds } from './context.ts'
import { endRpSession } from './end-sessions.ts'
import type { StoredRpSession } from './store/contract.ts'

/** What a new ID Token of a known RP session said, and when it was asked for (epoch milliseconds by the store's clock). */
interface Renewal {
  readonly sid: unknown
  readonly requestedAt: number
}

/**
 * Keeps an RP session reachable for the OP's logouts: where the End-User has signed in there again, the OP knows this RP by
 * another `sid`, and its next Logout Token names that one. If such a logout has come already, the RP session ends here.
 * Says whether it is still alive, as far as that was asked.
 */
export async function renewSid<Data>(
  context: RpContext<Data>,
  session: Pick<StoredRpSession, 'handle' | 'sid'>,
  { sid, requestedAt }: Renewal,
): Promise<boolean> {
  if (typeof sid !== 'string' || sid === '' || sid === session.sid) return true
  const result = await context.store.changeSid(session.handle, { sid, requestedAt })
  if (result === 'outdated') {
    await endRpSession(context, session.handle, { cause: 'logout_token', at: seconds(context) })
  }
  return result === 'changed'
}
