import type { LogoutNotice, LogoutTarget, StoredRefreshToken, StoredRpSession } from './contract.ts'
import { isMeant } from './rules.ts'

/** What the front channel leaves of an RP session, until a Logout Token names it. */
export interface PutBy extends Pick<StoredRpSession, 'handle' | 'sub' | 'firstIat' | 'expiresAt'> {
  readonly sid: string
  readonly refreshToken: StoredRefreshToken
}

/** Refresh tokens that are put by, in memory. */
export interface PutByTokens {
  add(one: PutBy): void
  /** The same RP session has another refresh token now. */
  replace(handle: string, refreshToken: StoredRefreshToken): void
  /** Takes those out that a logout means. */
  take(target: LogoutTarget, notice: Pick<LogoutNotice, 'sidReused' | 'watermark'>): readonly PutBy[]
  /** Takes those out that have expired, of the first `most`. */
  sweep(now: number, most: number): readonly PutBy[]
}

export function createPutByTokens(): PutByTokens {
  const all = new Map<string, PutBy>()
  const bySid = new Map<string, Set<string>>()
  const bySub = new Map<string, Set<string>>()

  function remove(one: PutBy): void {
    all.delete(one.handle)
    drop(bySid, one.sid, one.handle)
    drop(bySub, one.sub, one.handle)
  }

  return {
    add(one) {
      all.set(one.handle, one)
      add(bySid, one.sid, one.handle)
      add(bySub, one.sub, one.handle)
    },
    replace(handle, refreshToken) {
      const one = all.get(handle)
      if (one) all.set(handle, { ...one, refreshToken })
    },
    take(target, notice) {
      const handles = ('sid' in target ? bySid.get(target.sid) : bySub.get(target.sub)) ?? []
      const named = [...handles].map((handle) => all.get(handle) as PutBy)
      const taken = named.filter((one) => isMeant(one, target, notice))
      for (const one of taken) remove(one)
      return taken
    },
    sweep(now, most) {
      const expired: PutBy[] = []
      let left = most
      for (const one of all.values()) {
        if (left-- === 0) break
        if (one.expiresAt > now) continue
        remove(one)
        expired.push(one)
      }
      return expired
    },
  }
}

/** Adds a handle to the set of a name. */
export function add(index: Map<string, Set<string>>, key: string, handle: string): void {
  const members = index.get(key) ?? new Set()
  index.set(key, members.add(handle))
}

/** Takes it out again. */
export function drop(index: Map<string, Set<string>>, key: string, handle: string): void {
  const members = index.get(key)
  members?.delete(handle)
  if (members?.size === 0) index.delete(key)
}
