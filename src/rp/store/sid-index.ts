import type { LearntSid, StoredRpSession } from './contract.ts'
import { add, drop, type HandleSets } from './handle-sets.ts'
import { type FurtherSid, withSid } from './rules.ts'

/** Which RP sessions carry a `sid`, in memory. */
export interface SidIndex {
  add(session: StoredRpSession): void
  learn(session: StoredRpSession, learnt: LearntSid): void
  remove(session: StoredRpSession): void
  /** Those of a handle besides that of the login. */
  further(handle: string): readonly FurtherSid[]
  /** Handles of those that carry it, of the login or learnt later. */
  of(sid: string): readonly string[]
}

export function createSidIndex(): SidIndex {
  const bySid: HandleSets = new Map()
  /** By handle; absent where there are none. */
  const learnt = new Map<string, readonly FurtherSid[]>()
  const further = (handle: string) => learnt.get(handle) ?? []
  const of = (sid: string) => [...(bySid.get(sid) ?? [])]

  function all({ sid, handle }: StoredRpSession): readonly string[] {
    const others = further(handle).map((one) => one.sid)
    return sid === undefined ? others : [sid, ...others]
  }

  function remove(session: StoredRpSession): void {
    for (const sid of all(session)) drop(bySid, sid, session.handle)
    learnt.delete(session.handle)
  }

  function put(session: StoredRpSession): void {
    for (const sid of all(session)) add(bySid, sid, session.handle)
  }

  return {
    add: put,
    learn(session, one) {
      const known = withSid(session, further(session.handle), one)
      remove(session)
      learnt.set(session.handle, known)
      put(session)
    },
    remove,
    further,
    of,
  }
}
