import { LockstepError } from '../../protocol/errors.ts'
import { type Queries, type Statement, statement } from '../../runtime/postgres.ts'
import { fromText } from '../../runtime/postgres-text.ts'
import type { LoggedInRp, OpIssuerStore, OpSession } from './contract.ts'
import { longestRequest } from './longest-request.ts'
import { mergeOpSession } from './merge-op-session.ts'
import { mergeRp } from './merge-rp.ts'
import { type PostgresContext, sharedNow } from './postgres-context.ts'
import { isLoginRefused, isRefusedByClient, refusedAt, spareGrants, spareLogin } from './postgres-refusals.ts'
import { bury, ends, lock, lockTogether, type Name, tombstonesAmong } from './postgres-tombstones.ts'

/** An OP session's row with its RPs, read at one moment. */
export interface OpSessionRow {
  uid: string
  handle: string
  account_id: string | null
  payload: string
  created_at: number
  expires_at: number
  /** Since when it is refused, by the clock that all nodes share. */
  refused_at: number | null
  rps: RpTuple[]
}

type RpTuple = [clientId: string, sid: string, grantId: string | null, persistsLogout: boolean]

type Sessions = Pick<OpIssuerStore, 'saveOpSession' | 'getOpSession' | 'retireHandle' | 'getRotated' | 'claimLogin'>

/** SQL: the RPs of an OP session. */
export const rpsOf = (issuer: string, uid: string): string =>
  `(SELECT coalesce(json_agg(json_build_array(c.client_id, c.sid, c.grant_id, c.persists_logout) ORDER BY c.client_id), '[]')
    FROM op_session_client c WHERE c.issuer = ${issuer} AND c.uid = ${uid}) AS rps`
/** SQL: the columns of an {@link OpSessionRow}, of the table `s`. */
export const opSessionColumns: string = `s.uid, s.handle, s.account_id, s.payload, s.created_at, s.expires_at,
  ${refusedAt} AS refused_at, ${rpsOf('s.issuer', 's.uid')}`

/** An OP session by its uid; statements of a transaction that has locked the uid. */
export const opSessionByUid: Statement<OpSessionRow> = statement(
  'op_session_by_uid',
  `SELECT ${opSessionColumns} FROM op_session s WHERE s.issuer = $1 AND s.uid = $2`,
)
const byHandle = statement<OpSessionRow>(
  'op_session_by_handle',
  `SELECT ${opSessionColumns} FROM op_session_handle h JOIN op_session s ON s.issuer = h.issuer AND s.uid = h.uid
   WHERE h.issuer = $1 AND h.handle = $2 AND h.retired_at IS NULL`,
)
const bySid = statement<OpSessionRow>(
  'op_session_by_sid',
  `SELECT ${opSessionColumns} FROM op_session_client r JOIN op_session s ON s.issuer = r.issuer AND s.uid = r.uid
   WHERE r.issuer = $1 AND r.client_id = $2 AND r.sid = $3 LIMIT 1`,
)
const rotated = statement<OpSessionRow>(
  'op_session_rotated',
  `SELECT ${opSessionColumns} FROM op_session_handle h JOIN op_session s ON s.issuer = h.issuer AND s.uid = h.uid
   WHERE h.issuer = $1 AND h.handle = $2 AND h.retired_at > ${sharedNow('$4')} / 1000 - $3::bigint`,
)
const recorded = statement<{ rps: RpTuple[]; refused: boolean }>(
  'op_session_clients',
  `SELECT ${isRefusedByClient('$1', '$2')} AS refused, ${rpsOf('$1', '$2')}`,
)
const insert = statement(
  'op_session_insert',
  `INSERT INTO op_session (issuer, uid, handle, account_id, payload, created_at, expires_at, since)
   VALUES ($1, $2, $3, $4, $5, $6, $7, coalesce($8::bigint, ${sharedNow('$9')}))`,
)
const update = statement(
  'op_session_update',
  `UPDATE op_session SET handle = $3, account_id = $4, payload = $5, expires_at = $6,
     since = CASE WHEN $7::boolean THEN coalesce($8::bigint, ${sharedNow('$9')}) ELSE since END
   WHERE issuer = $1 AND uid = $2`,
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
const retire = statement(
  'op_session_handle_retire',
  `UPDATE op_session_handle SET retired_at = ${sharedNow('$3')} / 1000
   WHERE issuer = $1 AND handle = $2 AND retired_at IS NULL`,
)
const writeRps = statement(
  'op_session_client_write',
  `INSERT INTO op_session_client (issuer, uid, client_id, sid, grant_id, persists_logout, since)
   SELECT $1::int, $2, seen.*, ${sharedNow('$7')} FROM unnest($3::text[], $4::text[], $5::text[], $6::boolean[]) AS seen
   ON CONFLICT (issuer, uid, client_id) DO UPDATE SET
     grant_id = excluded.grant_id, persists_logout = excluded.persists_logout`,
)
const revoke = statement('claim_revoke', 'DELETE FROM model WHERE issuer = $1 AND grant_id = $2')

/** Live OP sessions and their logged-in RPs in PostgreSQL. */
export function postgresSessions(context: PostgresContext): Sessions {
  const alive = ({ expires_at, refused_at }: OpSessionRow): boolean =>
    expires_at > context.seconds() && refused_at === null
  const write = async (queries: Queries, uid: string, rps: readonly LoggedInRp[]): Promise<void> => {
    if (rps.length === 0) return
    await queries.change(
      writeRps,
      uid,
      rps.map(({ clientId }) => clientId),
      rps.map(({ sid }) => sid),
      rps.map(({ grantId = null }) => grantId),
      rps.map(({ persistsLogout }) => persistsLogout),
      context.replacedNow(),
    )
    const grants = rps.flatMap(({ grantId }) => (grantId === undefined ? [] : [grantId]))
    await spareGrants(queries, context, uid, grants)
  }

  return {
    async saveOpSession(session) {
      const { uid, handle, rps: seen, login } = session
      return context.write(async (queries) => {
        const names: Name[] = [
          ['uid', uid],
          ['handle', handle],
        ]
        // `endAll` locks what it is to leave alone, an Interaction among it
        await lockTogether(queries, [ends])
        await lock(queries, login ? [...names, ['uid', login.interaction]] : names)
        const gone = await tombstonesAmong(queries, names)
        if (gone.has('uid')) return 'ended'
        const kept = await queries.first(opSessionByUid, uid)
        if (kept && !alive(kept)) return 'ended'
        const retired = gone.has('handle')
        const merged = mergeOpSession(kept, session, retired)
        if (merged === 'ended') return 'ended'
        const { account_id: account, payload, expires_at: expiresAt, signsIn } = merged
        const recordedBefore = kept ? undefined : await queries.first(recorded, uid)
        if (recordedBefore?.refused) return 'ended'
        if (signsIn && login && account !== null) {
          if (await isLoginRefused(queries, account, login)) return 'ended'
          await spareLogin(queries, login.interaction, uid)
        }
        const since = [login?.since ?? null, context.replacedNow()] as const

        if (!kept) {
          await queries.change(insert, uid, handle, account, payload, context.seconds(), expiresAt, ...since)
          await queries.change(saved, uid)
        } else if (merged.changes) {
          await queries.change(update, uid, merged.handle, account, payload, expiresAt, signsIn, ...since)
        }
        if (!retired) await queries.change(keepHandle, handle, uid)

        const earlier = kept?.rps ?? recordedBefore?.rps ?? []
        const known = new Map(earlier.map(toRp).map((rp) => [rp.clientId, rp]))
        const changed = new Map<string, LoggedInRp>()
        for (const rp of seen) {
          const first = changed.get(rp.clientId) ?? known.get(rp.clientId)
          const merged = first ? mergeRp(first, rp) : rp
          if (merged !== first) changed.set(rp.clientId, merged)
        }
        await write(queries, uid, [...changed.values()])
        return retired ? 'stale' : 'saved'
      })
    },

    async getOpSession(by) {
      const { each } = context
      const found =
        'uid' in by
          ? await each.first(opSessionByUid, by.uid)
          : 'handle' in by
            ? await each.first(byHandle, by.handle)
            : await each.first(bySid, by.clientId, by.sid)
      if (!found || !alive(found)) return undefined
      return toOpSession('handle' in by ? { ...found, handle: by.handle } : found)
    },

    async retireHandle(handle) {
      await context.write(async (queries) => {
        await lock(queries, [['handle', handle]])
        const found = await queries.first(byHandle, handle)
        await queries.change(retire, handle, context.replacedNow())
        await bury(queries, context, [['handle', handle]], found?.expires_at ?? 0)
      })
    },

    async getRotated(handle, seconds) {
      const found = await context.each.first(rotated, handle, seconds, context.replacedNow())
      return found && alive(found) ? toOpSession(found) : undefined
    },

    async claimLogin(uid, { clientId, sid, grantId }, replaces) {
      return context.write(async (queries) => {
        await lockTogether(queries, [ends])
        await lock(queries, [['uid', uid]])
        const gone = await tombstonesAmong(queries, [['uid', uid]])
        const kept = await queries.first(opSessionByUid, uid)
        const recordedBefore = kept ? undefined : await queries.first(recorded, uid)
        if (gone.has('uid') || recordedBefore?.refused || (kept && !alive(kept))) {
          throw new LockstepError('op_session_ended', 'the OP session ended while a login under it was under way')
        }
        if (!kept) await queries.change(pending, uid, context.seconds() + longestRequest)

        const rps = kept?.rps ?? recordedBefore?.rps ?? []
        const first = rps.map(toRp).find((rp) => rp.clientId === clientId)
        if (first?.grantId !== undefined && first.grantId !== replaces)
          return { sid: first.sid, grantId: first.grantId }
        if (first?.grantId !== undefined && first.grantId !== grantId) {
          const replaced: Name = ['grant', first.grantId]
          await lock(queries, [replaced])
          await bury(queries, context, [replaced], kept?.expires_at ?? 0)
          await queries.change(revoke, first.grantId)
        }
        await write(queries, uid, [{ clientId, sid: first?.sid ?? sid, grantId, persistsLogout: false }])
        return { sid: first?.sid ?? sid, grantId }
      })
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

/** An OP session as its row holds it. */
export function toOpSession(row: OpSessionRow): OpSession {
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
