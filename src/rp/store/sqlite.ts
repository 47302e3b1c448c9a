import type { SessionEnd } from '../../protocol/session-document.ts'
import type { Runtime } from '../../runtime/runtime.ts'
import { openSqlite, type Sqlite } from '../../runtime/sqlite.ts'
import type {
  CreateResult,
  EndByResult,
  FoundRpSession,
  LogoutNotice,
  LogoutTarget,
  OwedKind,
  RpIdentity,
  RpSessionStore,
  RpStore,
  StoredRpSession,
} from './contract.ts'
import { type Hints, namedBy, topicOf } from './hints.ts'
import {
  afterExpiry,
  expiryEnd,
  type FurtherSid,
  isLeftBehind,
  isLive,
  isMeant,
  isOutdated,
  isOwed,
  KEPT_LONGER,
  type KeptRpSession,
  logoutOf,
  membersOf,
  owedDownstream,
  replacementEnd,
  wasLeftSince,
  withSid,
} from './rules.ts'
import { toKept, toSession } from './session-row.ts'
import { named, naming } from './sqlite-errors.ts'
import { sqliteHints } from './sqlite-hints.ts'
import { migrate } from './sqlite-schema.ts'
import { prepareStatements, type Statements } from './sqlite-statements.ts'

/**
 * RP sessions in a SQLite file, for one machine. What was answered survives a crash and power loss.
 *
 * Tabs of other processes on the same file hear of a logout within about half a second: while any listen, each process looks
 * twice a second whether another has written.
 *
 * @param file A path, or `:memory:` in tests.
 * @throws LockstepError `store_failed` when it cannot be opened, is no database or was written by a newer Lockstep
 */
export function sqliteStore(file: string): RpStore {
  const db = named(() => openSqlite(file))
  named(() => migrate(db))
  const hints = sqliteHints(db)
  return {
    forClient: (identity, runtime) => naming(named(() => createSqliteStore(db, identity, runtime, hints))),
    async close() {
      hints.close()
      db.close()
    },
  }
}

function clientNumber(db: Sqlite, { issuer, clientId }: RpIdentity): number {
  db.prepare('INSERT INTO rp_client (issuer, client_id) VALUES (?, ?) ON CONFLICT DO NOTHING').run(issuer, clientId)
  return db
    .prepare('SELECT id FROM rp_client WHERE issuer = ? AND client_id = ?')
    .pluck()
    .get(issuer, clientId) as number
}

function createSqliteStore(
  db: Sqlite,
  identity: RpIdentity,
  runtime: Pick<Runtime, 'now'>,
  hints: Hints,
): RpSessionStore {
  const client = clientNumber(db, identity)
  const sql = prepareStatements(db)
  const now = () => runtime.now() / 1000
  const hintKey = (topic: string) => `${client}:${topic}`

  /** Runs the work as one transaction and tells subscribers after it was committed. */
  function atomically<T>(work: (changed: (topic: string) => void) => T): T {
    const topics: string[] = []
    const result = db.transaction(() => work((topic) => topics.push(topic))).immediate()
    for (const topic of topics) hints.publish(hintKey(topic))
    return result
  }

  function owe(debt: string, kind: OwedKind = 'revocation'): void {
    sql.owe.run(client, kind, debt, runtime.now(), runtime.now())
  }

  function end(session: KeptRpSession, how: SessionEnd | null, revokeOffline: boolean): void {
    const { handle, publicId, expiresAt } = session
    sql.remove.run(client, handle)
    sql.keepEnd.run(client, handle, publicId, JSON.stringify(how), expiresAt, Number(revokeOffline))
    if (isOwed(session, revokeOffline)) owe(session.refreshToken.sealed)
  }

  function live(handle: string): StoredRpSession | undefined {
    const row = sql.get.get(client, handle)
    const session = row && toSession(row)
    return session && isLive(session, now()) ? session : undefined
  }

  function furtherSids(handle: string): readonly FurtherSid[] {
    const rows = sql.furtherSids.all(client, handle)
    return rows.map(({ sid, asked_at, of_grant }) => ({ sid, requestedAt: asked_at, ofGrant: of_grant === 1 }))
  }

  /** What carries the named `sid` or `sub`, alive or expired. */
  function rpSessionsOf(target: LogoutTarget, watermark: number): readonly KeptRpSession[] {
    if (!('sid' in target)) return sql.bySub.all(client, target.sub).map(toKept)
    const { sid } = target
    const carrying = sql.bySid.all(client, client, sid, client, sid).map(toKept)
    return carrying.filter((session) => !isLeftBehind(sid, session, furtherSids(session.handle), watermark))
  }

  function endOf(handle: string) {
    const row = sql.getEnd.get(client, handle, now())
    return row && { ...row, end: JSON.parse(row.ended) as SessionEnd | null }
  }

  return {
    now: async () => runtime.now(),

    create: async (session, { replaces } = {}): Promise<CreateResult> =>
      atomically((changed) => {
        const { sid = null, sub, requestedAt } = session
        if (sql.wasLoggedOut.get(client, sid, sub, requestedAt, now()) !== undefined) return { outcome: 'outdated' }
        const past = replaces === undefined ? undefined : endOf(replaces)
        if (past !== undefined && wasLeftSince(past.end, requestedAt)) return { outcome: 'outdated' }
        const before = replaces === undefined ? undefined : live(replaces)
        if (before?.sub === sub && before.sid === undefined) sql.remove.run(client, before.handle)
        else if (before) end(before, replacementEnd(before, session), false)
        if (before) changed(before.handle)
        sql.insert.run(client, ...fields(session))
        sweep(sql, runtime.now())
        return { outcome: 'created', ...(before && { replaced: before }) }
      }),

    async get(handle): Promise<FoundRpSession | undefined> {
      const row = sql.get.get(client, handle)
      if (row) {
        const session = toKept(row)
        return isLive(session, now()) ? { state: 'alive', session } : afterExpiry(session, now())
      }
      const past = endOf(handle)
      return past?.end ? { state: 'ended', publicId: past.public_id, end: past.end } : undefined
    },

    async updateIfExists(handle, { idleExpiresAt = 0, sessionState = null }) {
      const { changes } = sql.update.run(idleExpiresAt, sessionState, client, handle, now(), now())
      if (changes > 0 && sessionState !== null) hints.publish(hintKey(handle))
      return changes > 0
    },

    addSid: async (handle, learnt, options = { sidReused: false }) =>
      atomically(() => {
        const session = live(handle)
        if (session === undefined) return 'gone'
        const before = furtherSids(handle)
        const logout = sql.logoutOfSid.get(client, learnt.sid, now())
        if (isOutdated(session, before, learnt, logout, options)) return 'outdated'
        sql.forgetSids.run(client, handle)
        for (const [i, { sid, requestedAt, ofGrant }] of withSid(session, before, learnt).entries()) {
          sql.addSid.run(client, handle, sid, requestedAt, Number(ofGrant), i)
        }
        return 'added'
      }),

    async claimRefresh(handle, lease) {
      const at = runtime.now()
      return sql.claimRefresh.run(at + lease, client, handle, at, now(), now()).changes > 0
    },

    saveTokens: async (handle, { tokens, refreshToken }, used) =>
      atomically((changed) => {
        const session = live(handle)
        if (session) {
          if (session.refreshToken?.sealed !== used) return 'outdated'
          const offline = refreshToken === undefined ? null : Number(refreshToken.offline)
          sql.saveTokens.run(tokens, refreshToken?.sealed ?? null, offline, client, handle)
          changed(handle)
          return 'saved'
        }
        if (refreshToken === undefined) return 'gone'
        // In what has expired the new one takes the place of the old one.
        if (sql.get.get(client, handle)?.refresh_token === used) {
          sql.saveTokens.run(tokens, refreshToken.sealed, Number(refreshToken.offline), client, handle)
        }
        const past = endOf(handle)
        if (past && isOwed({ refreshToken }, past.revoke_offline === 1)) owe(refreshToken.sealed)
        return 'gone'
      }),

    delete: async (handle, how, downstream) =>
      atomically((changed) => {
        const session = live(handle)
        if (session) {
          end(session, how, false)
          if (downstream !== undefined) owe(owedDownstream(downstream, [session]), 'downstream')
          changed(handle)
        }
        return session
      }),

    endBy: async (target: LogoutTarget, notice: LogoutNotice): Promise<EndByResult> =>
      atomically((changed) => {
        if (sql.seenJti.get(client, notice.jti, now()) !== undefined) return { outcome: 'replay' }
        const [kind, name] = namedBy(target)
        const watermark = Math.min(notice.watermark, now())
        const all = rpSessionsOf(target, watermark)
        const alive = all.filter((session) => isLive(session, now()))
        const members = membersOf(alive, target, { ...notice, watermark })
        if (members === 'sub_mismatch') return { outcome: 'sub_mismatch' }
        sql.claimJti.run(client, notice.jti, notice.jtiExpiresAt)
        sql.mark.run(client, kind, name, runtime.now(), notice.watermarkExpiresAt, watermark)
        const meant = all.filter((session) => isMeant(session, target, { ...notice, watermark }))
        if (notice.downstream !== undefined) owe(owedDownstream(notice.downstream, meant), 'downstream')
        for (const session of members) {
          end(session, notice.end, notice.revokeOffline)
          changed(session.handle)
        }
        for (const session of meant)
          if (!members.includes(session)) end(session, expiryEnd(session), notice.revokeOffline)
        sweep(sql, runtime.now())
        changed(topicOf(target))
        return { outcome: 'ended', sessions: members }
      }),

    deleteBySid: async (sid, how) =>
      atomically((changed) => {
        const members = sql.bySid
          .all(client, client, sid, client, sid)
          .map(toSession)
          .filter((session) => isLive(session, now()))
        for (const session of members) {
          sql.frame.run(JSON.stringify(how), client, session.handle)
          changed(session.handle)
        }
        return members
      }),

    listBySub: async (sub) =>
      sql.bySub
        .all(client, sub)
        .map(toSession)
        .filter((session) => isLive(session, now())),

    async loggedOutAt(login, options) {
      const rows = sql.marks.all(client, login.sid ?? null, login.sub, now())
      return logoutOf(login, Object.fromEntries(rows.map(({ kind, watermark }) => [kind, watermark])), options)
    },

    subscribe: async (to, onHint) => hints.subscribe(hintKey(topicOf(to)), onHint),

    async isGrantInUse({ sub, sids }) {
      const at = now()
      if (sids.length === 0) return sql.holdsAnyGrant.get(client, sub, at, at) !== undefined
      return sids.some((sid) => sql.holdsGrant.get(client, sid, sub, at, at, client, sid, sub, at, at) !== undefined)
    },

    owe: async (refreshToken) => owe(refreshToken),

    claimOwed: async ({ limit, lease, kind = 'revocation' }) =>
      sql.claimOwed
        .all(runtime.now() + lease, client, kind, runtime.now(), limit)
        .map((row) => ({ id: String(row.id), debt: row.debt, attempts: row.attempts, owedSince: row.owed_since })),

    async settleOwed(id, outcome) {
      if (outcome === 'done') sql.forgetOwed.run(client, Number(id))
      else sql.putOffOwed.run(outcome.retryAt, client, Number(id))
    },

    nextOwedAt: async (kind = 'revocation') => sql.nextOwed.get(client, kind)?.due_at ?? undefined,
  }
}

function fields(session: StoredRpSession) {
  const { refreshToken } = session
  return [
    session.handle,
    session.publicId,
    session.sub,
    session.sid ?? null,
    session.firstIat,
    session.createdAt,
    session.requestedAt,
    session.idleExpiresAt,
    session.expiresAt,
    session.data,
    session.sessionState ?? null,
    session.tokens,
    refreshToken?.sealed ?? null,
    refreshToken === undefined ? null : Number(refreshToken.offline),
  ] as const
}

/** Each write clears away a few dead rows, and owes what they leave, so that nothing has to run at night. */
function sweep(sql: Statements, now: number): void {
  const seconds = now / 1000
  sql.oweExpired.run(now, now, seconds - KEPT_LONGER)
  sql.sweepSessions.run(seconds - KEPT_LONGER)
  for (const statement of sql.sweep) statement.run(seconds)
}
