import Database from 'better-sqlite3'
import { LockstepError } from '../../protocol/errors.ts'
import type { SessionEnd } from '../../protocol/session-document.ts'
import type { Runtime } from '../../runtime/runtime.ts'
import { openSqlite, type Sqlite } from '../../runtime/sqlite.ts'
import type {
  CreateResult,
  EndByResult,
  FoundRpSession,
  LogoutNotice,
  LogoutTarget,
  RpIdentity,
  RpSessionStore,
  RpStore,
  StoredRpSession,
} from './contract.ts'
import { createHints, type Hints } from './hints.ts'
import { afterExpiry, endsBySub, isLive, isOwed, isOwedAfterReplacement } from './rules.ts'
import { toSession } from './session-row.ts'
import { migrate } from './sqlite-schema.ts'
import { prepareStatements, type Statements } from './sqlite-statements.ts'

/**
 * RP sessions in a SQLite file, for one machine. What was answered survives a crash and power loss.
 *
 * Tabs of other processes on the same file hear of a logout when their stream reads the store again, every 30 s.
 *
 * @param file A path, or `:memory:` in tests.
 * @throws LockstepError `store_failed` when it cannot be opened, is no database or was written by a newer Lockstep
 */
export function sqliteStore(file: string): RpStore {
  const db = named(() => openSqlite(file))
  named(() => migrate(db))
  const hints = createHints()
  return {
    forClient: (identity, runtime) => naming(named(() => createSqliteStore(db, identity, runtime, hints))),
    async close() {
      db.close()
    },
  }
}

/** SQLite's own errors get the code that callers know. */
function named<Result>(work: () => Result): Result {
  try {
    return work()
  } catch (error) {
    throw rename(error)
  }
}

/** The same for each method of a store. */
function naming(store: RpSessionStore): RpSessionStore {
  return new Proxy(store, {
    get(target, name: keyof RpSessionStore) {
      const method: (...args: never[]) => Promise<unknown> = target[name]
      return async (...args: never[]) => {
        try {
          return await method(...args)
        } catch (error) {
          throw rename(error)
        }
      }
    },
  })
}

function rename(cause: unknown): unknown {
  if (!(cause instanceof Database.SqliteError)) return cause
  const what = `the RP's SQLite store failed with ${cause.code}: ${cause.message}`
  return new LockstepError('store_failed', what, { cause })
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
  const hintKey = (handle: string) => `${client}:${handle}`

  /** Runs the work as one transaction and tells subscribers after it was committed. */
  function atomically<T>(work: (changed: (handle: string) => void) => T): T {
    const handles: string[] = []
    const result = db.transaction(() => work((handle) => handles.push(handle))).immediate()
    for (const handle of handles) hints.publish(hintKey(handle))
    return result
  }

  function end(session: StoredRpSession, how: SessionEnd, revokeOffline: boolean): void {
    sql.remove.run(client, session.handle)
    sql.keepEnd.run(client, session.handle, session.publicId, JSON.stringify(how), session.expiresAt)
    if (isOwed(session, revokeOffline)) sql.owe.run(client, session.refreshToken.sealed, runtime.now(), runtime.now())
  }

  function live(handle: string): StoredRpSession | undefined {
    const row = sql.get.get(client, handle)
    const session = row && toSession(row)
    return session && isLive(session, now()) ? session : undefined
  }

  function replace(before: StoredRpSession, after: StoredRpSession): void {
    if (before.sub !== after.sub) {
      end(before, { cause: 'user_switched', at: after.createdAt }, false)
      return
    }
    sql.remove.run(client, before.handle)
    if (isOwedAfterReplacement(before, after)) {
      sql.owe.run(client, before.refreshToken.sealed, runtime.now(), runtime.now())
    }
  }

  return {
    now: async () => runtime.now(),

    create: async (session, { requestedAt, replaces }): Promise<CreateResult> =>
      atomically((changed) => {
        const { sid = null, sub } = session
        if (sql.wasLoggedOut.get(client, sid, sub, requestedAt, now()) !== undefined) return { outcome: 'outdated' }
        sweep(sql, now())
        const before = replaces === undefined ? undefined : live(replaces)
        if (before) {
          replace(before, session)
          changed(before.handle)
        }
        sql.insert.run(client, ...fields(session))
        return { outcome: 'created', ...(before && { replaced: before }) }
      }),

    async get(handle): Promise<FoundRpSession | undefined> {
      const row = sql.get.get(client, handle)
      if (row) {
        const session = toSession(row)
        return isLive(session, now()) ? { state: 'alive', session } : afterExpiry(session, now())
      }
      const past = sql.getEnd.get(client, handle, now())
      return past && { state: 'ended', publicId: past.public_id, end: JSON.parse(past.ended) as SessionEnd }
    },

    async updateIfExists(handle, { idleExpiresAt = 0, sessionState = null }) {
      const { changes } = sql.update.run(idleExpiresAt, sessionState, client, handle, now(), now())
      if (changes > 0 && sessionState !== null) hints.publish(hintKey(handle))
      return changes > 0
    },

    delete: async (handle, how) =>
      atomically((changed) => {
        const session = live(handle)
        if (session) {
          end(session, how, false)
          changed(handle)
        }
        return session
      }),

    endBy: async (target: LogoutTarget, notice: LogoutNotice): Promise<EndByResult> =>
      atomically((changed) => {
        if (sql.seenJti.get(client, notice.jti, now()) !== undefined) return { outcome: 'replay' }
        const isBySid = 'sid' in target
        const rows = isBySid ? sql.bySid.all(client, target.sid) : sql.bySub.all(client, target.sub)
        const named = rows.map(toSession).filter((session) => isLive(session, now()))
        const watermark = Math.min(notice.watermark, now())
        const members = named.filter((session) =>
          isBySid ? target.sub === undefined || session.sub === target.sub : endsBySub(session, watermark),
        )
        if (isBySid && named.length > 0 && members.length === 0) return { outcome: 'sub_mismatch' }
        sweep(sql, now())
        sql.claimJti.run(client, notice.jti, notice.jtiExpiresAt)
        const [kind, value] = isBySid ? (['sid', target.sid] as const) : (['sub', target.sub] as const)
        sql.mark.run(client, kind, value, runtime.now(), notice.watermarkExpiresAt)
        for (const session of members) {
          end(session, notice.end, notice.revokeOffline)
          changed(session.handle)
        }
        return { outcome: 'ended', sessions: members }
      }),

    listBySub: async (sub) =>
      sql.bySub
        .all(client, sub)
        .map(toSession)
        .filter((session) => isLive(session, now())),

    subscribe: async (handle, onHint) => hints.subscribe(hintKey(handle), onHint),

    claimOwed: async ({ limit, lease }) =>
      sql.claimOwed
        .all(runtime.now() + lease, client, runtime.now(), limit)
        .map((row) => ({ id: String(row.id), token: row.token, attempts: row.attempts, owedSince: row.owed_since })),

    async settleOwed(id, outcome) {
      if (outcome === 'done') sql.forgetOwed.run(client, Number(id))
      else sql.putOffOwed.run(outcome.retryAt, client, Number(id))
    },

    nextOwedAt: async () => sql.nextOwed.get(client)?.due_at ?? undefined,
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
    session.idleExpiresAt,
    session.expiresAt,
    session.data,
    session.sessionState ?? null,
    session.tokens,
    refreshToken?.sealed ?? null,
    refreshToken === undefined ? null : Number(refreshToken.offline),
  ] as const
}

/** Each write clears away a few dead rows, so that nothing has to run at night. */
function sweep(sql: Statements, now: number): void {
  for (const statement of sql.sweep) statement.run(now)
}
