import { LockstepError } from '../../protocol/errors.ts'
import type { LoggedInRp, OpIssuerStore, OpSession } from './contract.ts'
import { longestRequest } from './longest-request.ts'
import { mergeOpSession } from './merge-op-session.ts'
import { mergeRp } from './merge-rp.ts'
import type { SqliteContext } from './sqlite-context.ts'
import { isRefused, type SqliteRefusals } from './sqlite-refusals.ts'
import type { SqliteTombstones } from './sqlite-tombstones.ts'

/** An OP session's row. */
export interface OpSessionRow {
  uid: string
  handle: string
  account_id: string | null
  payload: string
  created_at: number
  expires_at: number
  /** Epoch milliseconds of the login. */
  since: number
}

interface RpRow {
  client_id: string
  sid: string
  grant_id: string | null
  persists_logout: 0 | 1
}

type Sessions = Pick<OpIssuerStore, 'saveOpSession' | 'getOpSession' | 'retireHandle' | 'getRotated' | 'claimLogin'>

/** What listing and ending OP sessions need to know of them; all methods belong inside a transaction of the store. */
export interface OpSessionReader {
  row(uid: string): OpSessionRow | undefined
  rps(uid: string): readonly LoggedInRp[]
  toOpSession(row: OpSessionRow): OpSession
}

/** The columns of an {@link OpSessionRow}, of the table `s`. */
export const opSessionColumns = 's.uid, s.handle, s.account_id, s.payload, s.created_at, s.expires_at, s.since'

/** Live OP sessions and their logged-in RPs in SQLite. */
export function sqliteSessions(
  context: SqliteContext,
  tombstones: SqliteTombstones,
  refusals: SqliteRefusals,
): Sessions & OpSessionReader {
  const { db, issuer } = context
  const byUid = db.prepare<[number, string], OpSessionRow>(
    `SELECT ${opSessionColumns} FROM op_session s WHERE s.issuer = ? AND s.uid = ?`,
  )
  // Each is one statement without a join: a join is planned anew each time it is asked, which takes longer than to find the row.
  const live = (uid: string) =>
    db.prepare<unknown[], OpSessionRow>(
      `SELECT ${opSessionColumns} FROM op_session s WHERE s.issuer = ? AND s.uid = ${uid} AND s.expires_at > ?
         AND NOT EXISTS (SELECT 1 FROM tombstone t WHERE t.issuer = s.issuer AND t.kind = 'uid' AND t.name = s.uid)
         AND NOT ${isRefused}`,
    )
  const ofHandle = 'SELECT h.uid FROM op_session_handle h WHERE h.issuer = ? AND h.handle = ?'
  const liveByUid = live('?')
  const liveByHandle = live(`(${ofHandle} AND h.retired_at IS NULL)`)
  const liveBySid = live(
    '(SELECT c.uid FROM op_session_client c WHERE c.issuer = ? AND c.client_id = ? AND c.sid = ? LIMIT 1)',
  )
  const rotated = live(`(${ofHandle} AND h.retired_at > ?)`)
  const byHandle = db.prepare<[number, number, string], OpSessionRow>(
    `SELECT ${opSessionColumns} FROM op_session s WHERE s.issuer = ? AND s.uid = (${ofHandle} AND h.retired_at IS NULL)`,
  )
  const insert = db.prepare<[number, string, string, string | null, string, number, number, number]>(
    `INSERT INTO op_session (issuer, uid, handle, account_id, payload, created_at, expires_at, since)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
  )
  const update = db.prepare<[string, string | null, string, number, number, number, string]>(
    `UPDATE op_session SET handle = ?, account_id = ?, payload = ?, expires_at = ?, since = ? WHERE issuer = ? AND uid = ?`,
  )
  const saved = db.prepare<[number, string]>('DELETE FROM op_session_pending WHERE issuer = ? AND uid = ?')
  const pending = db.prepare<[number, string, number]>(
    'INSERT INTO op_session_pending (issuer, uid, expires_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING',
  )
  const keepHandle = db.prepare<[number, string, string]>(
    'INSERT INTO op_session_handle (issuer, handle, uid) VALUES (?, ?, ?) ON CONFLICT DO NOTHING',
  )
  const retire = db.prepare<[number, number, string]>(
    'UPDATE op_session_handle SET retired_at = ? WHERE issuer = ? AND handle = ? AND retired_at IS NULL',
  )
  const rpsOf = db.prepare<[number, string], RpRow>(
    'SELECT client_id, sid, grant_id, persists_logout FROM op_session_client WHERE issuer = ? AND uid = ?',
  )
  const writeRp = db.prepare<[number, string, string, string, string | null, 0 | 1, number]>(
    `INSERT INTO op_session_client (issuer, uid, client_id, sid, grant_id, persists_logout, since)
     VALUES (?, ?, ?, ?, ?, ?, ?)
     ON CONFLICT DO UPDATE SET grant_id = excluded.grant_id, persists_logout = excluded.persists_logout`,
  )
  const revoke = db.prepare<[number, string]>('DELETE FROM model WHERE issuer = ? AND grant_id = ?')

  const row = (uid: string): OpSessionRow | undefined => byUid.get(issuer, uid)
  const rps = (uid: string): readonly LoggedInRp[] => rpsOf.all(issuer, uid).map(toRp)
  const write = (uid: string, rp: LoggedInRp): void => {
    writeRp.run(issuer, uid, rp.clientId, rp.sid, rp.grantId ?? null, rp.persistsLogout ? 1 : 0, context.now())
    if (rp.grantId !== undefined) refusals.spareGrant(uid, rp.grantId)
  }
  const hasEnded = (uid: string, kept: OpSessionRow | undefined): boolean =>
    tombstones.has('uid', uid) ||
    (kept !== undefined && kept.expires_at <= context.seconds()) ||
    refusals.opSession(uid, kept)

  return {
    row,
    rps,
    toOpSession: (found) => toOpSession(found, rps(found.uid)),

    async saveOpSession(session) {
      const { uid, handle, rps: seen, login } = session
      return context.write(() => {
        const kept = row(uid)
        if (hasEnded(uid, kept)) return 'ended'
        const retired = tombstones.has('handle', handle)
        const merged = mergeOpSession(kept, session, retired)
        if (merged === 'ended') return 'ended'
        const { account_id: account, payload, expires_at: expiresAt, signsIn } = merged
        if (signsIn && login && account !== null) {
          if (refusals.login(account, login.since, login.interaction)) return 'ended'
          refusals.spareLogin(login.interaction, uid)
        }
        const since = kept && !signsIn ? kept.since : (login?.since ?? context.now())

        if (!kept) {
          insert.run(issuer, uid, handle, account, payload, context.seconds(), expiresAt, since)
          saved.run(issuer, uid)
        } else if (merged.changes) {
          update.run(merged.handle, account, payload, expiresAt, since, issuer, uid)
        }
        if (!retired) keepHandle.run(issuer, handle, uid)

        const known = new Map(rps(uid).map((rp) => [rp.clientId, rp]))
        for (const rp of seen) {
          const first = known.get(rp.clientId)
          const merged = first ? mergeRp(first, rp) : rp
          if (merged !== first) write(uid, merged)
        }
        return retired ? 'stale' : 'saved'
      })
    },

    async getOpSession(by) {
      return context.read(() => {
        const now = context.seconds()
        const found =
          'uid' in by
            ? liveByUid.get(issuer, by.uid, now)
            : 'handle' in by
              ? liveByHandle.get(issuer, issuer, by.handle, now)
              : liveBySid.get(issuer, issuer, by.clientId, by.sid, now)
        return found && toOpSession('handle' in by ? { ...found, handle: by.handle } : found, rps(found.uid))
      })
    },

    async retireHandle(handle) {
      context.write(() => {
        const expiresAt = byHandle.get(issuer, issuer, handle)?.expires_at ?? 0
        retire.run(context.seconds(), issuer, handle)
        tombstones.put('handle', [handle], expiresAt)
      })
    },

    async getRotated(handle, seconds) {
      return context.read(() => {
        const now = context.seconds()
        const found = rotated.get(issuer, issuer, handle, now - seconds, now)
        return found && toOpSession(found, rps(found.uid))
      })
    },

    async claimLogin(uid, { clientId, sid, grantId }, replaces) {
      return context.write(() => {
        const kept = row(uid)
        if (hasEnded(uid, kept)) {
          throw new LockstepError('op_session_ended', 'the OP session ended while a login under it was under way')
        }
        if (!kept) pending.run(issuer, uid, context.seconds() + longestRequest)

        const first = rps(uid).find((rp) => rp.clientId === clientId)
        if (first?.grantId !== undefined && first.grantId !== replaces)
          return { sid: first.sid, grantId: first.grantId }
        if (first?.grantId !== undefined && first.grantId !== grantId) {
          tombstones.put('grant', [first.grantId], kept?.expires_at ?? 0)
          revoke.run(issuer, first.grantId)
        }
        write(uid, { clientId, sid: first?.sid ?? sid, grantId, persistsLogout: false })
        return { sid: first?.sid ?? sid, grantId }
      })
    },
  }
}

function toRp(row: RpRow): LoggedInRp {
  return {
    clientId: row.client_id,
    sid: row.sid,
    ...(row.grant_id !== null && { grantId: row.grant_id }),
    persistsLogout: row.persists_logout === 1,
  }
}

function toOpSession(row: OpSessionRow, rps: readonly LoggedInRp[]): OpSession {
  return {
    uid: row.uid,
    handle: row.handle,
    ...(row.account_id !== null && { accountId: row.account_id }),
    payload: JSON.parse(row.payload) as Record<string, unknown>,
    rps,
    createdAt: row.created_at,
    expiresAt: row.expires_at,
  }
}
