import { LockstepError } from '../../protocol/errors.ts'
import { type Queries, type Statement, statement } from '../../runtime/postgres.ts'
import { fromText } from '../../runtime/postgres-text.ts'
import type { LoggedInRp, OpIssuerStore, OpSession } from './contract.ts'
import { mergeRp } from './merge-rp.ts'
import type { PostgresContext } from './postgres-context.ts'
import { bury, lock, type Name, tombstonesAmong } from './postgres-tombstones.ts'
import { longestRequest } from './sqlite-tombstones.ts'

/** An OP session's row with its RPs, read at one moment. */
export interface OpSessionRow {
  uid: string
  handle: string
  account_id: string | null
  payload: string
  created_at: number
  expires_at: number
  rps: RpTuple[]
}

type RpTuple = [clientId: string, sid: string, grantId: string | null, persistsLogout: boolean]

type Sessions = Pick<OpIssuerStore, 'saveOpSession' | 'getOpSession' | 'retireHandle' | 'claimLogin' | 'listOpSessions'>

const rpsOf = (issuer: string, uid: string): string =>
  `(SELECT coalesce(json_agg(json_build_array(c.client_id, c.sid, c.grant_id, c.persists_logout) ORDER BY c.client_id), '[]')
    FROM op_session_client c WHERE c.issuer = ${issuer} AND c.uid = ${uid}) AS rps`
const columns = `s.uid, s.handle, s.account_id, s.payload, s.created_at, s.expires_at, ${rpsOf('s.issuer', 's.uid')}`

/** An OP session by its uid; statements of a transaction that has locked the uid. */
export const opSessionByUid: Statement<OpSessionRow> = statement(
  'op_session_by_uid',
  `SELECT ${columns} FROM op_session s WHERE s.issuer = $1 AND s.uid = $2`,
)
const byHandle = statement<OpSessionRow>(
  'op_session_by_handle',
  `SELECT ${columns} FROM op_session_handle h JOIN op_session s ON s.issuer = h.issuer AND s.uid = h.uid
   WHERE h.issuer = $1 AND h.handle = $2`,
)
const byAccount = statement<OpSessionRow>(
  'op_session_by_account',
  `SELECT ${columns} FROM op_session s WHERE s.issuer = $1 AND s.account_id = $2 AND s.expires_at > $3
   ORDER BY s.created_at DESC, s.seq DESC`,
)
const recorded = statement<{ rps: RpTuple[] }>('op_session_clients', `SELECT ${rpsOf('$1', '$2')}`)
const insert = statement(
  'op_session_insert',
  `INSERT INTO op_session (issuer, uid, handle, account_id, payload, created_at, expires_at)
   VALUES ($1, $2, $3, $4, $5, $6, $7)`,
)
const update = statement(
  'op_session_update',
  'UPDATE op_session SET handle = $3, account_id = $4, payload = $5, expires_at = $6 WHERE issuer = $1 AND uid = $2',
)
const pending = statement(
  'op_session_pending_add',
  'INSERT INTO op_session_pending (issuer, uid, expires_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING',
)
const saved = statement('op_session_pending_remove', 'DELETE FROM op_session_pending WHERE issuer = $1 AND uid = $2')
const keepHandle = statement(
  'op_session_handle_keep',
  'INSERT INTO op_session_handle (issuer, handle, uid) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING',
)
const dropHandle = statement(
  'op_session_handle_drop',
  'DELETE FROM op_session_handle WHERE issuer = $1 AND handle = $2',
)
const writeRps = statement(
  'op_session_client_write',
  `INSERT INTO op_session_client (issuer, uid, client_id, sid, grant_id, persists_logout)
   SELECT $1::int, $2, * FROM unnest($3::text[], $4::text[], $5::text[], $6::boolean[])
   ON CONFLICT (issuer, uid, client_id) DO UPDATE SET
     grant_id = excluded.grant_id, persists_logout = excluded.persists_logout`,
)

/** Live OP sessions and their logged-in RPs in PostgreSQL. */
export function postgresSessions(context: PostgresContext): Sessions {
  const alive = ({ expires_at }: OpSessionRow): boolean => expires_at > context.seconds()
  const write = async (queries: Queries, uid: string, rps: readonly LoggedInRp[]): Promise<void> => {
    if (rps.length === 0) return
    await queries.change(
      writeRps,
      uid,
      rps.map(({ clientId }) => clientId),
      rps.map(({ sid }) => sid),
      rps.map(({ grantId = null }) => grantId),
      rps.map(({ persistsLogout }) => persistsLogout),
    )
  }

  return {
    async saveOpSession({ uid, handle, accountId, payload, rps: seen, expiresAt, extend }) {
      return context.write(async (queries) => {
        const names: Name[] = [
          ['uid', uid],
          ['handle', handle],
        ]
        await lock(queries, names)
        const gone = await tombstonesAmong(queries, names)
        if (gone.has('uid')) return 'ended'
        const kept = await queries.first(opSessionByUid, uid)
        if (kept && !alive(kept)) return 'ended'
        const account = kept?.account_id ?? accountId ?? null
        if (accountId !== undefined && accountId !== account) return 'ended'

        const text = JSON.stringify(payload)
        if (!kept) {
          await queries.change(insert, uid, handle, account, text, context.seconds(), expiresAt)
          await queries.change(saved, uid)
        } else {
          await queries.change(
            update,
            uid,
            gone.has('handle') ? kept.handle : handle,
            account,
            // Without an account this request began before the login that is kept here, and knows nothing of it.
            account !== null && accountId === undefined ? kept.payload : text,
            extend ? expiresAt : kept.expires_at,
          )
        }
        if (!gone.has('handle')) await queries.change(keepHandle, handle, uid)

        const earlier = kept?.rps ?? (await queries.first(recorded, uid))?.rps ?? []
        const known = new Map(earlier.map(toRp).map((rp) => [rp.clientId, rp]))
        const changed = new Map<string, LoggedInRp>()
        for (const rp of seen) {
          const first = changed.get(rp.clientId) ?? known.get(rp.clientId)
          const merged = first ? mergeRp(first, rp) : rp
          if (merged !== first) changed.set(rp.clientId, merged)
        }
        await write(queries, uid, [...changed.values()])
        return 'saved'
      })
    },

    async getOpSession(by) {
      const { each } = context
      const found = 'uid' in by ? await each.first(opSessionByUid, by.uid) : await each.first(byHandle, by.handle)
      if (!found || !alive(found)) return undefined
      return toOpSession('handle' in by ? { ...found, handle: by.handle } : found)
    },

    async retireHandle(handle) {
      await context.write(async (queries) => {
        await lock(queries, [['handle', handle]])
        const found = await queries.first(byHandle, handle)
        await queries.change(dropHandle, handle)
        await bury(queries, context, [['handle', handle]], found?.expires_at ?? 0)
      })
    },

    async claimLogin(uid, { clientId, sid, grantId }, replaceGrant) {
      return context.write(async (queries) => {
        await lock(queries, [['uid', uid]])
        const gone = await tombstonesAmong(queries, [['uid', uid]])
        const kept = await queries.first(opSessionByUid, uid)
        if (gone.has('uid') || (kept && !alive(kept))) {
          throw new LockstepError('op_session_ended', 'the OP session ended while a login under it was under way')
        }
        if (!kept) await queries.change(pending, uid, context.seconds() + longestRequest)

        const rps = kept?.rps ?? (await queries.first(recorded, uid))?.rps ?? []
        const first = rps.map(toRp).find((rp) => rp.clientId === clientId)
        if (first?.grantId !== undefined && !replaceGrant) return { sid: first.sid, grantId: first.grantId }
        await write(queries, uid, [{ clientId, sid: first?.sid ?? sid, grantId, persistsLogout: false }])
        return { sid: first?.sid ?? sid, grantId }
      })
    },

    async listOpSessions({ accountId }) {
      const found = await context.each.all(byAccount, accountId, context.seconds())
      return found.map(toOpSession)
    },
  }
}

/** An RP as a row's `rps` holds it. */
export function toRp([clientId, sid, grantId, persistsLogout]: RpTuple): LoggedInRp {
  return {
    clientId: fromText(clientId),
    sid: fromText(sid),
    ...(grantId !== null && { grantId: fromText(grantId) }),
    persistsLogout,
  }
}

function toOpSession(row: OpSessionRow): OpSession {
  return {
    uid: row.uid,
    handle: row.handle,
    ...(row.account_id !== null && { accountId: row.account_id }),
    payload: JSON.parse(row.payload) as Record<string, unknown>,
    rps: row.rps.map(toRp),
    createdAt: row.created_at,
    expiresAt: row.expires_at,
  }
}
