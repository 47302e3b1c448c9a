import { LockstepError } from '../../protocol/errors.ts'
import type { LoggedInRp, OpIssuerStore, OpSession } from './contract.ts'
import { mergeRp } from './merge-rp.ts'
import type { SqliteContext } from './sqlite-context.ts'
import { longestRequest, type SqliteTombstones } from './sqlite-tombstones.ts'

/** An OP session's row. */
export interface OpSessionRow {
  uid: string
  handle: string
  account_id: string | null
  payload: string
  created_at: number
  expires_at: number
}

interface RpRow {
  client_id: string
  sid: string
  grant_id: string | null
  persists_logout: 0 | 1
}

type Sessions = Pick<OpIssuerStore, 'saveOpSession' | 'getOpSession' | 'retireHandle' | 'claimLogin' | 'listOpSessions'>

/** What ending an OP session needs to know of it; both methods belong inside a transaction of the store. */
export interface OpSessionReader {
  row(uid: string): OpSessionRow | undefined
  rps(uid: string): readonly LoggedInRp[]
}

/** Live OP sessions and their logged-in RPs in SQLite. */
export function sqliteSessions(context: SqliteContext, tombstones: SqliteTombstones): Sessions & OpSessionReader {
  const { db, issuer } = context
  const columns = 's.uid, s.handle, s.account_id, s.payload, s.created_at, s.expires_at'
  const byUid = db.prepare<[number, string], OpSessionRow>(
    `SELECT ${columns} FROM op_session s WHERE s.issuer = ? AND s.uid = ?`,
  )
  const byHandle = db.prepare<[number, string], OpSessionRow>(
    `SELECT ${columns} FROM op_session_handle h JOIN op_session s ON s.issuer = h.issuer AND s.uid = h.uid
     WHERE h.issuer = ? AND h.handle = ?`,
  )
  const byAccount = db.prepare<[number, string, number], OpSessionRow>(
    `SELECT ${columns} FROM op_session s WHERE s.issuer = ? AND s.account_id = ? AND s.expires_at > ?
     ORDER BY s.created_at DESC, s.rowid DESC`,
  )
  const insert = db.prepare<[number, string, string, string | null, string, number, number]>(
    `INSERT INTO op_session (issuer, uid, handle, account_id, payload, created_at, expires_at)
     VALUES (?, ?, ?, ?, ?, ?, ?)`,
  )
  const update = db.prepare<[string, string | null, string, number, number, string]>(
    `UPDATE op_session SET handle = ?, account_id = ?, payload = ?, expires_at = ? WHERE issuer = ? AND uid = ?`,
  )
  const saved = db.prepare<[number, string]>('DELETE FROM op_session_pending WHERE issuer = ? AND uid = ?')
  const pending = db.prepare<[number, string, number]>(
    'INSERT INTO op_session_pending (issuer, uid, expires_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING',
  )
  const keepHandle = db.prepare<[number, string, string]>(
    'INSERT INTO op_session_handle (issuer, handle, uid) VALUES (?, ?, ?) ON CONFLICT DO NOTHING',
  )
  const dropHandle = db.prepare<[number, string]>('DELETE FROM op_session_handle WHERE issuer = ? AND handle = ?')
  const rpsOf = db.prepare<[number, string], RpRow>(
    'SELECT client_id, sid, grant_id, persists_logout FROM op_session_client WHERE issuer = ? AND uid = ?',
  )
  const writeRp = db.prepare<[number, string, string, string, string | null, 0 | 1]>(
    `INSERT INTO op_session_client (issuer, uid, client_id, sid, grant_id, persists_logout) VALUES (?, ?, ?, ?, ?, ?)
     ON CONFLICT DO UPDATE SET grant_id = excluded.grant_id, persists_logout = excluded.persists_logout`,
  )

  const row = (uid: string): OpSessionRow | undefined => byUid.get(issuer, uid)
  const rps = (uid: string): readonly LoggedInRp[] => rpsOf.all(issuer, uid).map(toRp)
  const write = (uid: string, rp: LoggedInRp): void => {
    writeRp.run(issuer, uid, rp.clientId, rp.sid, rp.grantId ?? null, rp.persistsLogout ? 1 : 0)
  }
  const alive = (found: OpSessionRow): boolean => found.expires_at > context.seconds()

  return {
    row,
    rps,

    async saveOpSession({ uid, handle, accountId, payload, rps: seen, expiresAt, extend }) {
      return context.write(() => {
        if (tombstones.has('uid', uid)) return 'ended'
        const kept = row(uid)
        if (kept && !alive(kept)) return 'ended'
        const account = kept?.account_id ?? accountId ?? null
        if (accountId !== undefined && accountId !== account) return 'ended'

        const retired = tombstones.has('handle', handle)
        if (!kept) {
          insert.run(issuer, uid, handle, account, JSON.stringify(payload), context.seconds(), expiresAt)
          saved.run(issuer, uid)
        } else {
          update.run(
            retired ? kept.handle : handle,
            account,
            // Without an account this request began before the login that is kept here, and knows nothing of it.
            account !== null && accountId === undefined ? kept.payload : JSON.stringify(payload),
            extend ? expiresAt : kept.expires_at,
            issuer,
            uid,
          )
        }
        if (!retired) keepHandle.run(issuer, handle, uid)

        const known = new Map(rps(uid).map((rp) => [rp.clientId, rp]))
        for (const rp of seen) {
          const first = known.get(rp.clientId)
          const merged = first ? mergeRp(first, rp) : rp
          if (merged !== first) write(uid, merged)
        }
        return 'saved'
      })
    },

    async getOpSession(by) {
      return context.read(() => {
        const found = 'uid' in by ? row(by.uid) : byHandle.get(issuer, by.handle)
        if (!found || !alive(found)) return undefined
        return toOpSession('handle' in by ? { ...found, handle: by.handle } : found, rps(found.uid))
      })
    },

    async retireHandle(handle) {
      context.write(() => {
        const expiresAt = byHandle.get(issuer, handle)?.expires_at ?? 0
        dropHandle.run(issuer, handle)
        tombstones.put('handle', handle, expiresAt)
      })
    },

    async claimLogin(uid, { clientId, sid, grantId }, replaceGrant) {
      return context.write(() => {
        const kept = row(uid)
        if (tombstones.has('uid', uid) || (kept && !alive(kept))) {
          throw new LockstepError('op_session_ended', 'the OP session ended while a login under it was under way')
        }
        if (!kept) pending.run(issuer, uid, context.seconds() + longestRequest)

        const first = rps(uid).find((rp) => rp.clientId === clientId)
        if (first?.grantId !== undefined && !replaceGrant) return { sid: first.sid, grantId: first.grantId }
        write(uid, { clientId, sid: first?.sid ?? sid, grantId, persistsLogout: false })
        return { sid: first?.sid ?? sid, grantId }
      })
    },

    async listOpSessions({ accountId }) {
      return context.read(() =>
        byAccount.all(issuer, accountId, context.seconds()).map((found) => toOpSession(found, rps(found.uid))),
      )
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
