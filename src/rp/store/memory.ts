import type { SessionEnd } from '../../protocol/session-document.ts'
import type { Runtime } from '../../runtime/runtime.ts'
import type {
  EndByResult,
  FoundRpSession,
  LogoutNotice,
  LogoutTarget,
  RpIdentity,
  RpSessionStore,
  RpStore,
  StoredRpSession,
} from './contract.ts'
import { add, drop, type HandleSets } from './handle-sets.ts'
import { createHints, topicOf } from './hints.ts'
import { createMemoryOwed } from './memory-owed.ts'
import {
  afterExpiry,
  expiryEnd,
  framedBy,
  isLeftBehind,
  isLive,
  isMeant,
  isOfGrant,
  isOutdated,
  isOwed,
  KEPT_LONGER,
  type KeptRpSession,
  logoutOf,
  membersOf,
  owedDownstream,
  type PastEnd,
  replacementEnd,
  wasLeftSince,
} from './rules.ts'
import { createSidIndex } from './sid-index.ts'

/** RP sessions in this process's memory: for development and tests. A restart signs everybody out. */
export function memoryStore(): RpStore {
  const clients = new Map<string, RpSessionStore>()
  return {
    forClient(identity, runtime) {
      const key = keyOf(identity)
      const store = clients.get(key) ?? createMemoryStore(runtime)
      clients.set(key, store)
      return store
    },
    async close() {
      clients.clear()
    },
  }
}

/** Length-prefixed, so that no two identities share a key (T20). */
function keyOf({ issuer, clientId }: RpIdentity): string {
  return `${issuer.length}:${issuer}${clientId}`
}

interface Watermark {
  readonly arrivedAt: number
  readonly watermark: number
  readonly expiresAt: number
}

/** How many entries of each kind a write looks at: a constant, so that it bounds what one request pays for others. */
const SWEEP = 4

// Every method does its work without an await in between, which is what makes it atomic here.
function createMemoryStore(runtime: Pick<Runtime, 'now'>): RpSessionStore {
  const sessions = new Map<string, KeptRpSession>()
  const ended = new Map<string, PastEnd & { publicId: string; expiresAt: number }>()
  // Typed by being two maps: a sid that equals somebody's sub meets nobody.
  const sids = createSidIndex()
  const bySub: HandleSets = new Map()
  const loggedOutSids = new Map<string, Watermark>()
  const loggedOutSubs = new Map<string, Watermark>()
  const jtis = new Map<string, { expiresAt: number }>()
  const owed = createMemoryOwed(runtime)
  const hints = createHints()
  const refreshing = new Map<string, { expiresAt: number }>()
  const now = () => runtime.now() / 1000

  /** When a logout named it, while that is remembered. */
  function markOf(marks: ReadonlyMap<string, Watermark>, name: string | undefined): Watermark | undefined {
    const mark = name === undefined ? undefined : marks.get(name)
    return mark && mark.expiresAt > now() ? mark : undefined
  }

  function remove(session: StoredRpSession): void {
    sessions.delete(session.handle)
    sids.remove(session)
    drop(bySub, session.sub, session.handle)
  }

  function end(session: KeptRpSession, how: SessionEnd | null, revokeOffline: boolean): void {
    remove(session)
    ended.set(session.handle, { publicId: session.publicId, end: how, revokeOffline, expiresAt: session.expiresAt })
    if (isOwed(session, revokeOffline)) owed.add(session.refreshToken.sealed)
  }

  function kept(handles: Iterable<string> = []): KeptRpSession[] {
    return [...handles].flatMap((handle) => sessions.get(handle) ?? [])
  }

  function live(handles: Iterable<string> | undefined): StoredRpSession[] {
    return kept(handles).filter((session) => isLive(session, now()))
  }

  /** What carries the named `sid` or `sub`, alive or expired. */
  function allNamedBy(target: LogoutTarget, watermark: number): KeptRpSession[] {
    if (!('sid' in target)) return kept(bySub.get(target.sub))
    const { sid } = target
    return kept(sids.of(sid)).filter((session) => !isLeftBehind(sid, session, sids.further(session.handle), watermark))
  }

  const sweepPast = [ended, jtis, refreshing, loggedOutSids, loggedOutSubs].map((map) =>
    sweeperOf<{ expiresAt: number }>(map, 0),
  )
  const sweepSessions = sweeperOf(sessions, KEPT_LONGER, (session) => {
    remove(session)
    if (isOwed(session, false)) owed.add(session.refreshToken.sealed)
  })

  function sweep(): void {
    for (const few of [...sweepPast, sweepSessions]) few(now())
  }

  return {
    now: async () => runtime.now(),

    async create(session, { replaces } = {}) {
      const { requestedAt } = session
      const marks = [markOf(loggedOutSids, session.sid), markOf(loggedOutSubs, session.sub)]
      if (marks.some((mark) => mark !== undefined && mark.arrivedAt > requestedAt)) return { outcome: 'outdated' }
      const past = replaces === undefined ? undefined : ended.get(replaces)
      if (past && past.expiresAt > now() && wasLeftSince(past.end, requestedAt)) return { outcome: 'outdated' }
      const [before] = replaces === undefined ? [] : live([replaces])
      if (before?.sub === session.sub && before.sid === undefined) remove(before)
      else if (before) end(before, replacementEnd(before, session), false)
      sessions.set(session.handle, structuredClone(session))
      sids.add(session)
      add(bySub, session.sub, session.handle)
      sweep()
      if (before) hints.publish(before.handle)
      return { outcome: 'created', ...(before && { replaced: before }) }
    },

    async get(handle): Promise<FoundRpSession | undefined> {
      const session = sessions.get(handle)
      if (session) return isLive(session, now()) ? { state: 'alive', session } : afterExpiry(session, now())
      const past = ended.get(handle)
      if (!past?.end || past.expiresAt <= now()) return undefined
      return { state: 'ended', publicId: past.publicId, end: past.end }
    },

    async updateIfExists(handle, { idleExpiresAt = 0, sessionState }) {
      const session = sessions.get(handle)
      if (!session || !isLive(session, now())) return false
      sessions.set(handle, {
        ...session,
        idleExpiresAt: Math.max(session.idleExpiresAt, idleExpiresAt),
        ...(sessionState === undefined ? {} : { sessionState }),
      })
      if (sessionState !== undefined) hints.publish(handle)
      return true
    },

    async addSid(handle, learnt, options = { sidReused: false }) {
      const [session] = live([handle])
      if (session === undefined) return 'gone'
      const logout = markOf(loggedOutSids, learnt.sid)
      if (isOutdated(session, sids.further(handle), learnt, logout, options)) return 'outdated'
      sids.learn(session, learnt)
      return 'added'
    },

    async claimRefresh(handle, lease) {
      const session = sessions.get(handle)
      const taken = refreshing.get(handle)
      if (!session || !isLive(session, now()) || (taken && taken.expiresAt > now())) return false
      refreshing.set(handle, { expiresAt: now() + lease / 1000 })
      return true
    },

    async saveTokens(handle, { tokens, refreshToken }, used) {
      const [session] = live([handle])
      if (session) {
        if (session.refreshToken?.sealed !== used) return 'outdated'
        refreshing.delete(handle)
        const { refreshToken: _old, ...others } = session
        sessions.set(handle, { ...others, tokens, ...(refreshToken && { refreshToken }) })
        hints.publish(handle)
        return 'saved'
      }
      if (refreshToken === undefined) return 'gone'
      const kept = sessions.get(handle)
      if (kept?.refreshToken?.sealed === used) sessions.set(handle, { ...kept, tokens, refreshToken })
      const past = ended.get(handle)
      if (past && past.expiresAt > now() && isOwed({ refreshToken }, past.revokeOffline)) owed.add(refreshToken.sealed)
      return 'gone'
    },

    async delete(handle, how, downstream) {
      const [session] = live([handle])
      if (session) {
        end(session, how, false)
        if (downstream !== undefined) owed.add(owedDownstream(downstream, [session]), 'downstream')
        hints.publish(handle)
      }
      return session
    },

    async endBy(target: LogoutTarget, notice: LogoutNotice): Promise<EndByResult> {
      const seen = jtis.get(notice.jti)
      if (seen && seen.expiresAt > now()) return { outcome: 'replay' }
      const watermark = Math.min(notice.watermark, now())
      const named = allNamedBy(target, watermark)
      const alive = named.filter((session) => isLive(session, now()))
      const members = membersOf(alive, target, { ...notice, watermark })
      if (members === 'sub_mismatch') return { outcome: 'sub_mismatch' }
      jtis.set(notice.jti, { expiresAt: notice.jtiExpiresAt })
      const [marks, name] = 'sid' in target ? [loggedOutSids, target.sid] : [loggedOutSubs, target.sub]
      const before = markOf(marks, name)
      marks.set(name, {
        arrivedAt: runtime.now(),
        watermark: Math.max(watermark, before?.watermark ?? 0),
        expiresAt: Math.max(notice.watermarkExpiresAt, before?.expiresAt ?? 0),
      })
      const meant = named.filter((session) => isMeant(session, target, { ...notice, watermark }))
      if (notice.downstream !== undefined) owed.add(owedDownstream(notice.downstream, meant), 'downstream')
      for (const session of members) end(session, notice.end, notice.revokeOffline)
      for (const session of meant)
        if (!members.includes(session)) end(session, expiryEnd(session), notice.revokeOffline)
      sweep()
      for (const session of members) hints.publish(session.handle)
      hints.publish(topicOf(target))
      return { outcome: 'ended', sessions: members }
    },

    async deleteBySid(sid, how) {
      const members = live(sids.of(sid))
      for (const session of members) {
        sessions.set(session.handle, framedBy(session, how))
        hints.publish(session.handle)
      }
      return members
    },

    listBySub: async (sub) => live(bySub.get(sub)).sort((a, b) => b.createdAt - a.createdAt),

    async loggedOutAt(login, options) {
      const sid = markOf(loggedOutSids, login.sid)?.watermark
      return logoutOf(login, { sid, sub: markOf(loggedOutSubs, login.sub)?.watermark }, options)
    },

    subscribe: async (to, onHint) => hints.subscribe(topicOf(to), onHint),

    async isGrantInUse({ sub, sids: ofGrant }) {
      if (ofGrant.length === 0) return live(bySub.get(sub)).some(holdsRefreshToken)
      return ofGrant.some((sid) =>
        live(sids.of(sid)).some(
          (one) => one.sub === sub && holdsRefreshToken(one) && isOfGrant(one, sids.further(one.handle), sid),
        ),
      )
    },

    owe: async (refreshToken) => owed.add(refreshToken),
    claimOwed: owed.claimOwed,
    settleOwed: owed.settleOwed,
    nextOwedAt: owed.nextOwedAt,
  }
}

function holdsRefreshToken({ refreshToken }: StoredRpSession): boolean {
  return refreshToken !== undefined
}

/**
 * Makes what takes a few expired entries out of a map, going on where it stopped. From the front it would be slower the more
 * was taken out there: a map keeps the holes for a while.
 */
function sweeperOf<T extends { readonly expiresAt: number }>(
  map: Map<string, T>,
  keptLonger: number,
  takeOut: (value: T, key: string) => void = (_value, key) => map.delete(key),
): (now: number) => void {
  let walk = map.entries()
  return (now) => {
    for (let i = 0; i < SWEEP; i++) {
      const { done, value: entry } = walk.next()
      if (done) walk = map.entries()
      else if (entry[1].expiresAt <= now - keptLonger) takeOut(entry[1], entry[0])
    }
  }
}
