import { statement } from '../../runtime/postgres.ts'
import type { Delivery, EndedOpSession, FrameNotice, Logout, OpIssuerStore } from './contract.ts'
import type { PostgresContext } from './postgres-context.ts'
import { opSessionByUid, toRp } from './postgres-sessions.ts'
import { bury, lock, type Name } from './postgres-tombstones.ts'

const handlesOf = statement<{ handle: string }>(
  'end_handles',
  'SELECT handle FROM op_session_handle WHERE issuer = $1 AND uid = $2',
)
const revoke = statement('end_models', 'DELETE FROM model WHERE issuer = $1 AND grant_id = ANY($2::text[])')
const removeRps = statement('end_clients', 'DELETE FROM op_session_client WHERE issuer = $1 AND uid = $2')
const removeHandles = statement('end_handles_remove', 'DELETE FROM op_session_handle WHERE issuer = $1 AND uid = $2')
const removeSession = statement('end_op_session', 'DELETE FROM op_session WHERE issuer = $1 AND uid = $2')
const insertLogout = statement<{ cursor: number }>(
  'end_logout',
  `INSERT INTO logout (issuer, id, uid, account_id, cause, initiator, actor, ended_at)
   VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING cursor`,
)
const insertDeliveries = statement(
  'end_deliveries',
  `INSERT INTO delivery (issuer, logout, id, client_id, sid, state, created_at, due_at)
   SELECT $1::int, $2::bigint, id, client_id, sid, 'due', $6::bigint, $7::bigint
   FROM unnest($3::text[], $4::text[], $5::text[]) WITH ORDINALITY AS planned (id, client_id, sid, turn) ORDER BY turn`,
)
const insertFrames = statement(
  'end_frames',
  `INSERT INTO frame_notice (logout, position, client_id, sid)
   SELECT l.cursor, turn - 1, planned.client_id, planned.sid
   FROM logout l, unnest($3::text[], $4::text[]) WITH ORDINALITY AS planned (client_id, sid, turn)
   WHERE l.issuer = $1 AND l.cursor = $2`,
)

/** The one transaction that ends an OP session in PostgreSQL: everything below happens, or nothing. */
export function postgresEnd(context: PostgresContext, ring: () => Promise<void>): Pick<OpIssuerStore, 'endOpSession'> {
  return {
    async endOpSession(uid, { cause, initiator, actor }, plan): Promise<EndedOpSession | undefined> {
      const { fromNode } = await context.clock()
      const ended = await context.write(async (queries): Promise<EndedOpSession | undefined> => {
        await lock(queries, [['uid', uid]])
        const opSession = await queries.first(opSessionByUid, uid)
        if (!opSession) return undefined
        const rps = opSession.rps.map(toRp)
        const accountId = opSession.account_id
        const planned = accountId === null ? [] : plan(rps)

        const grants = rps.flatMap(({ grantId, persistsLogout }) =>
          grantId === undefined || persistsLogout ? [] : [grantId],
        )
        const handles = await queries.all(handlesOf, uid)
        const names: Name[] = [
          ...handles.map(({ handle }): Name => ['handle', handle]),
          ...grants.map((grantId): Name => ['grant', grantId]),
        ]
        await lock(queries, names)
        await bury(queries, context, [['uid', uid], ...names], opSession.expires_at)
        await queries.change(revoke, grants)
        await queries.change(removeRps, uid)
        await queries.change(removeHandles, uid)
        await queries.change(removeSession, uid)
        if (accountId === null) return undefined

        const endedAt = context.now()
        const logout: Logout = {
          id: context.newId(),
          uid,
          accountId,
          cause,
          ...(initiator !== undefined && { initiator }),
          ...(actor !== undefined && { actor }),
          endedAt,
        }
        const fact = await queries.first(
          insertLogout,
          logout.id,
          uid,
          accountId,
          cause,
          initiator ?? null,
          actor ?? null,
          endedAt,
        )
        const frames = planned
          .filter(({ mechanism }) => mechanism === 'frontchannel')
          .map(({ clientId, sid }): FrameNotice => ({ clientId, sid }))
        await queries.change(
          insertFrames,
          fact?.cursor as number,
          frames.map(({ clientId }) => clientId),
          frames.map(({ sid }) => sid),
        )
        const posts = planned.filter(({ mechanism }) => mechanism !== 'frontchannel')
        const deliveries = posts.map(({ clientId, sid }): Delivery => {
          const id = context.newId()
          return { id, logout, clientId, sid, state: 'due', attempts: 0, createdAt: endedAt, dueAt: endedAt }
        })
        await queries.change(
          insertDeliveries,
          fact?.cursor as number,
          deliveries.map(({ id }) => id),
          deliveries.map(({ clientId }) => clientId),
          deliveries.map(({ sid }) => sid),
          endedAt,
          fromNode(endedAt),
        )
        return { logout, rps, deliveries, frames }
      })
      if (ended && ended.deliveries.length > 0) await ring()
      return ended
    },
  }
}
