import { type Queries, statement } from '../../runtime/postgres.ts'
import type {
  Delivery,
  EndedOpSession,
  FrameNotice,
  LoggedInRp,
  Logout,
  OpIssuerStore,
  PlannedDelivery,
  StoreEnding,
} from './contract.ts'
import { deliveryIdOf } from './delivery-id.ts'
import type { PostgresContext, SharedClock } from './postgres-context.ts'
import { type OpSessionRow, opSessionColumns, toRp } from './postgres-sessions.ts'
import { bury, lock, type Name } from './postgres-tombstones.ts'

const opSessionsByUid = statement<OpSessionRow>(
  'end_op_sessions_by_uid',
  `SELECT ${opSessionColumns} FROM op_session s WHERE s.issuer = $1 AND s.uid = ANY ($2::text[])
   ORDER BY array_position($2::text[], s.uid)`,
)
const handlesOf = statement<{ handle: string }>(
  'end_handles',
  'SELECT handle FROM op_session_handle WHERE issuer = $1 AND uid = ANY ($2::text[])',
)
const revoke = statement('end_models', 'DELETE FROM model WHERE issuer = $1 AND grant_id = ANY ($2::text[])')
const removeRps = statement('end_clients', 'DELETE FROM op_session_client WHERE issuer = $1 AND uid = ANY ($2::text[])')
const removeHandles = statement(
  'end_handles_remove',
  'DELETE FROM op_session_handle WHERE issuer = $1 AND uid = ANY ($2::text[])',
)
const removeSessions = statement(
  'end_op_session',
  'DELETE FROM op_session WHERE issuer = $1 AND uid = ANY ($2::text[])',
)
const insertLogouts = statement(
  'end_logouts',
  `INSERT INTO logout (issuer, id, uid, account_id, cause, initiator, actor, reason, ended_at, trace)
   SELECT $1::int, id, uid, account_id, $6, $7, $8, $9, ended_at, $10
   FROM unnest($2::text[], $3::text[], $4::text[], $5::bigint[]) WITH ORDINALITY
     AS ended (id, uid, account_id, ended_at, turn) ORDER BY turn`,
)
const insertDeliveries = statement(
  'end_deliveries',
  `INSERT INTO delivery (issuer, logout, id, client_id, sid, state, created_at, due_at)
   SELECT $1::int, l.cursor, planned.id, planned.client_id, planned.sid, 'due', $6::bigint, $7::bigint
   FROM unnest($2::text[], $3::text[], $4::text[], $5::text[]) WITH ORDINALITY
     AS planned (logout, id, client_id, sid, turn)
   JOIN logout l ON l.issuer = $1 AND l.id = planned.logout ORDER BY planned.turn`,
)
const insertFrames = statement(
  'end_frames',
  `INSERT INTO frame_notice (logout, position, client_id, sid)
   SELECT l.cursor, planned.position, planned.client_id, planned.sid
   FROM unnest($2::text[], $3::int[], $4::text[], $5::text[]) AS planned (logout, position, client_id, sid)
   JOIN logout l ON l.issuer = $1 AND l.id = planned.logout`,
)
const countInJob = statement(
  'end_job_count',
  `UPDATE end_job SET ended = ended + $3, due_at = $4 WHERE issuer = $1 AND id = $2 AND due_at IS NOT NULL`,
)

type Plan = (rps: readonly LoggedInRp[]) => readonly PlannedDelivery[]
type SignedIn = OpSessionRow & { account_id: string }

/** The one transaction that ends OP sessions in PostgreSQL: everything below happens, or nothing. */
export function postgresEnd(
  context: PostgresContext,
  ring: () => void,
): Pick<OpIssuerStore, 'endOpSession' | 'endOpSessions'> {
  async function endAll(
    uids: readonly string[],
    ending: StoreEnding,
    plan: Plan,
    job?: { readonly id: string; readonly pause: number },
  ): Promise<readonly EndedOpSession[]> {
    const clock = await context.clock()
    const ended = await context.write(async (queries) => {
      const ended = await end(queries, uids, ending, plan, clock)
      if (job) await queries.change(countInJob, job.id, ended.length, clock.now + Math.ceil(job.pause))
      return ended
    })
    if (ended.some(({ deliveries }) => deliveries.length > 0)) ring()
    return ended
  }

  async function end(
    queries: Queries,
    uids: readonly string[],
    ending: StoreEnding,
    plan: Plan,
    { fromNode, toNode }: SharedClock,
  ): Promise<readonly EndedOpSession[]> {
    await lock(
      queries,
      uids.map((uid): Name => ['uid', uid]),
    )
    const found = await queries.all(opSessionsByUid, uids)
    if (found.length === 0) return []
    const now = context.now()
    const ended = found.filter(isSignedIn).map((row): EndedOpSession => {
      const rps = row.rps.map(toRp)
      const planned = plan(rps)
      const logout: Logout = {
        ...factOf(ending),
        id: context.newId(),
        uid: row.uid,
        accountId: row.account_id,
        endedAt: Math.min(now, row.expires_at * 1000, row.refused_at === null ? now : toNode(row.refused_at)),
      }
      return {
        logout,
        rps,
        deliveries: planned
          .filter(({ mechanism }) => mechanism !== 'frontchannel')
          .map(({ clientId, sid }, i): Delivery => {
            const id = deliveryIdOf(logout, i)
            return { id, logout, clientId, sid, state: 'due', attempts: 0, createdAt: now, dueAt: now }
          }),
        frames: planned
          .filter(({ mechanism }) => mechanism === 'frontchannel')
          .map(({ clientId, sid }): FrameNotice => ({ clientId, sid })),
      }
    })
    await remove(queries, found, ending.revokeOffline ?? false)
    await record(queries, ending, ended, { createdAt: now, dueAt: fromNode(now) })
    return ended
  }

  async function remove(queries: Queries, found: readonly OpSessionRow[], revokeOffline: boolean): Promise<void> {
    const uids = found.map(({ uid }) => uid)
    const grants = found
      .flatMap(({ rps }) => rps.map(toRp))
      .flatMap(({ grantId, persistsLogout }) =>
        grantId === undefined || (persistsLogout && !revokeOffline) ? [] : [grantId],
      )
    const names: Name[] = [
      ...(await queries.all(handlesOf, uids)).map(({ handle }): Name => ['handle', handle]),
      ...grants.map((grantId): Name => ['grant', grantId]),
    ]
    await lock(queries, names)
    const lastExpiry = Math.max(...found.map(({ expires_at }) => expires_at))
    await bury(queries, context, [...uids.map((uid): Name => ['uid', uid]), ...names], lastExpiry)
    await queries.change(revoke, grants)
    await queries.change(removeRps, uids)
    await queries.change(removeHandles, uids)
    await queries.change(removeSessions, uids)
  }

  async function record(
    queries: Queries,
    { cause, initiator, actor, reason, trace }: StoreEnding,
    ended: readonly EndedOpSession[],
    { createdAt, dueAt }: { createdAt: number; dueAt: number },
  ): Promise<void> {
    if (ended.length === 0) return
    const facts = ended.map(({ logout }) => logout)
    await queries.change(
      insertLogouts,
      facts.map(({ id }) => id),
      facts.map(({ uid }) => uid),
      facts.map(({ accountId }) => accountId),
      facts.map(({ endedAt }) => endedAt),
      cause,
      initiator ?? null,
      actor ?? null,
      reason ?? null,
      trace ?? null,
    )
    const deliveries = ended.flatMap((each) => each.deliveries)
    await queries.change(
      insertDeliveries,
      deliveries.map(({ logout }) => logout.id),
      deliveries.map(({ id }) => id),
      deliveries.map(({ clientId }) => clientId),
      deliveries.map(({ sid }) => sid),
      createdAt,
      dueAt,
    )
    const frames = ended.flatMap((each) =>
      each.frames.map((frame, position) => ({ ...frame, position, logoutId: each.logout.id })),
    )
    await queries.change(
      insertFrames,
      frames.map(({ logoutId }) => logoutId),
      frames.map(({ position }) => position),
      frames.map(({ clientId }) => clientId),
      frames.map(({ sid }) => sid),
    )
  }

  return {
    async endOpSession(uid, ending, plan) {
      const [ended] = await endAll([uid], ending, plan)
      return ended
    },
    endOpSessions: endAll,
  }
}

function isSignedIn(row: OpSessionRow): row is SignedIn {
  return row.account_id !== null
}

function factOf({
  cause,
  initiator,
  actor,
  reason,
  trace,
}: StoreEnding): Pick<Logout, 'cause' | 'initiator' | 'actor' | 'reason' | 'trace'> {
  return {
    cause,
    ...(initiator !== undefined && { initiator }),
    ...(actor !== undefined && { actor }),
    ...(reason !== undefined && { reason }),
    ...(trace !== undefined && { trace }),
  }
}
