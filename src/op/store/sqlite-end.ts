import type { Delivery, EndedOpSession, FrameNotice, Logout, OpIssuerStore, PlannedDelivery } from './contract.ts'
import type { SqliteContext } from './sqlite-context.ts'
import type { OpSessionReader } from './sqlite-sessions.ts'
import type { SqliteTombstones } from './sqlite-tombstones.ts'

/** The one transaction that ends an OP session in SQLite: everything below happens, or nothing. */
export function sqliteEnd(
  context: SqliteContext,
  tombstones: SqliteTombstones,
  opSessions: OpSessionReader,
): Pick<OpIssuerStore, 'endOpSession'> {
  const { db, issuer } = context
  const handlesOf = db.prepare<[number, string], { handle: string }>(
    'SELECT handle FROM op_session_handle WHERE issuer = ? AND uid = ?',
  )
  const revoke = db.prepare<[number, string]>('DELETE FROM model WHERE issuer = ? AND grant_id = ?')
  const removeRps = db.prepare<[number, string]>('DELETE FROM op_session_client WHERE issuer = ? AND uid = ?')
  const removeHandles = db.prepare<[number, string]>('DELETE FROM op_session_handle WHERE issuer = ? AND uid = ?')
  const removeSession = db.prepare<[number, string]>('DELETE FROM op_session WHERE issuer = ? AND uid = ?')
  const insertLogout = db.prepare<[number, string, string, string, string, string | null, string | null, number]>(
    `INSERT INTO logout (issuer, id, uid, account_id, cause, initiator, actor, ended_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
  )
  const insertDelivery = db.prepare<[number, string, number | bigint, string, string, number, number]>(
    `INSERT INTO delivery (issuer, id, logout, client_id, sid, state, created_at, due_at)
     VALUES (?, ?, ?, ?, ?, 'due', ?, ?)`,
  )
  const insertFrame = db.prepare<[number | bigint, number, string, string]>(
    'INSERT INTO frame_notice (logout, position, client_id, sid) VALUES (?, ?, ?, ?)',
  )

  return {
    async endOpSession(uid, { cause, initiator, actor }, plan): Promise<EndedOpSession | undefined> {
      return context.write(() => {
        const opSession = opSessions.row(uid)
        if (!opSession) return undefined
        const rps = opSessions.rps(uid)
        const accountId = opSession.account_id
        const planned = accountId === null ? [] : plan(rps)

        tombstones.put('uid', uid, opSession.expires_at)
        for (const { handle } of handlesOf.all(issuer, uid)) tombstones.put('handle', handle, opSession.expires_at)
        for (const { grantId, persistsLogout } of rps) {
          if (grantId === undefined || persistsLogout) continue
          revoke.run(issuer, grantId)
          tombstones.put('grant', grantId, opSession.expires_at)
        }
        removeRps.run(issuer, uid)
        removeHandles.run(issuer, uid)
        removeSession.run(issuer, uid)
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
        const fact = insertLogout.run(
          issuer,
          logout.id,
          uid,
          accountId,
          cause,
          initiator ?? null,
          actor ?? null,
          endedAt,
        )
        const frames = planned.filter(({ mechanism }) => mechanism === 'frontchannel').map(toFrame)
        for (const [position, { clientId, sid }] of frames.entries()) {
          insertFrame.run(fact.lastInsertRowid, position, clientId, sid)
        }
        const posts = planned.filter(({ mechanism }) => mechanism !== 'frontchannel')
        const deliveries = posts.map(({ clientId, sid }): Delivery => {
          const id = context.newId()
          insertDelivery.run(issuer, id, fact.lastInsertRowid, clientId, sid, endedAt, endedAt)
          return { id, logout, clientId, sid, state: 'due', attempts: 0, createdAt: endedAt, dueAt: endedAt }
        })
        return { logout, rps, deliveries, frames }
      })
    },
  }
}

function toFrame({ clientId, sid }: PlannedDelivery): FrameNotice {
  return { clientId, sid }
}
