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
import type { SqliteContext } from './sqlite-context.ts'
import { refusedAt } from './sqlite-refusals.ts'
import type { OpSessionReader } from './sqlite-sessions.ts'
import type { SqliteTombstones } from './sqlite-tombstones.ts'

/** Ending one OP session as a part of a transaction: everything below happens, or nothing. */
export function sqliteEnd(
  context: SqliteContext,
  tombstones: SqliteTombstones,
  opSessions: OpSessionReader,
): Pick<OpIssuerStore, 'endOpSession' | 'endOpSessions'> {
  const { db, issuer } = context
  const handlesOf = db.prepare<[number, string], { handle: string }>(
    'SELECT handle FROM op_session_handle WHERE issuer = ? AND uid = ?',
  )
  const revoke = db.prepare<[number, string]>(
    'DELETE FROM model WHERE issuer = ? AND grant_id IN (SELECT value FROM json_each(?))',
  )
  const removeRps = db.prepare<[number, string]>('DELETE FROM op_session_client WHERE issuer = ? AND uid = ?')
  const removeHandles = db.prepare<[number, string]>('DELETE FROM op_session_handle WHERE issuer = ? AND uid = ?')
  const removeSession = db.prepare<[number, string]>('DELETE FROM op_session WHERE issuer = ? AND uid = ?')
  const refusedSince = db.prepare<[number, string], { at: number | null }>(
    `SELECT ${refusedAt} AS at FROM op_session s WHERE s.issuer = ? AND s.uid = ?`,
  )
  const insertLogout = db.prepare<
    [number, string, string, string, string, string | null, string | null, string | null, number, string | null]
  >(
    `INSERT INTO logout (issuer, id, uid, account_id, cause, initiator, actor, reason, ended_at, trace)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
  )
  // one statement for all of them: a thousand would keep the End-User waiting twice as long
  const insertDeliveries = db.prepare<[number, number | bigint, number, number, string]>(
    `INSERT INTO delivery (issuer, id, logout, client_id, sid, state, created_at, due_at)
     SELECT ?, value ->> 'id', ?, value ->> 'clientId', value ->> 'sid', 'due', ?, ? FROM json_each(?) ORDER BY key`,
  )
  const insertFrame = db.prepare<[number | bigint, number, string, string]>(
    'INSERT INTO frame_notice (logout, position, client_id, sid) VALUES (?, ?, ?, ?)',
  )
  const countInJob = db.prepare<[number, number, number, string]>(
    'UPDATE end_job SET ended = ended + ?, due_at = ? WHERE issuer = ? AND id = ? AND due_at IS NOT NULL',
  )

  function end(
    uid: string,
    { cause, initiator, actor, reason, trace, revokeOffline = false }: StoreEnding,
    plan: (rps: readonly LoggedInRp[]) => readonly PlannedDelivery[],
  ): EndedOpSession | undefined {
    const opSession = opSessions.row(uid)
    if (!opSession) return undefined
    const rps = opSessions.rps(uid)
    const accountId = opSession.account_id
    const planned = accountId === null ? [] : plan(rps)
    const now = context.now()
    const refusedFrom = refusedSince.get(issuer, uid)?.at ?? now

    const handles = handlesOf.all(issuer, uid).map(({ handle }) => handle)
    const grants = rps.flatMap(({ grantId, persistsLogout }) =>
      grantId === undefined || (persistsLogout && !revokeOffline) ? [] : [grantId],
    )
    tombstones.put('uid', [uid], opSession.expires_at)
    tombstones.put('handle', handles, opSession.expires_at)
    tombstones.put('grant', grants, opSession.expires_at)
    revoke.run(issuer, JSON.stringify(grants))
    removeRps.run(issuer, uid)
    removeHandles.run(issuer, uid)
    removeSession.run(issuer, uid)
    if (accountId === null) return undefined

    const logout: Logout = {
      id: context.newId(),
      uid,
      accountId,
      cause,
      ...(initiator !== undefined && { initiator }),
      ...(actor !== undefined && { actor }),
      ...(reason !== undefined && { reason }),
      endedAt: Math.min(now, opSession.expires_at * 1000, refusedFrom),
      ...(trace !== undefined && { trace }),
    }
    const fact = insertLogout.run(
      issuer,
      logout.id,
      uid,
      accountId,
      cause,
      initiator ?? null,
      actor ?? null,
      reason ?? null,
      logout.endedAt,
      trace ?? null,
    )
    const frames = planned.filter(({ mechanism }) => mechanism === 'frontchannel').map(toFrame)
    for (const [position, { clientId, sid }] of frames.entries()) {
      insertFrame.run(fact.lastInsertRowid, position, clientId, sid)
    }
    const posts = planned.filter(({ mechanism }) => mechanism !== 'frontchannel')
    const deliveries = posts.map(({ clientId, sid }, i): Delivery => {
      const id = deliveryIdOf(logout, i)
      return { id, logout, clientId, sid, state: 'due', attempts: 0, createdAt: now, dueAt: now }
    })
    const rows = JSON.stringify(deliveries.map(({ id, clientId, sid }) => ({ id, clientId, sid })))
    if (deliveries.length > 0) insertDeliveries.run(issuer, fact.lastInsertRowid, now, now, rows)
    return { logout, rps, deliveries, frames }
  }

  return {
    endOpSession: async (uid, ending, plan) => context.write(() => end(uid, ending, plan)),

    async endOpSessions(uids, ending, plan, job) {
      return context.write(() => {
        const ended = uids.map((uid) => end(uid, ending, plan)).filter((each) => each !== undefined)
        if (job) countInJob.run(ended.length, context.now() + job.pause, issuer, job.id)
        return ended
      })
    },
  }
}

function toFrame({ clientId, sid }: PlannedDelivery): FrameNotice {
  return { clientId, sid }
}
