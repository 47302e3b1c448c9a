import type { EndableOpSession, OpIssuerStore } from './contract.ts'
import { defaultLimit, newest, type Position, readCursor, type ScopeName, scopeName, writeCursor } from './scope.ts'
import type { SqliteContext } from './sqlite-context.ts'
import { isRefused } from './sqlite-refusals.ts'
import { type OpSessionReader, type OpSessionRow, opSessionColumns } from './sqlite-sessions.ts'

type Listed = OpSessionRow & { at: number }

/** Lists and counts live OP sessions in SQLite. */
export function sqliteList(
  { db, issuer, seconds, read }: SqliteContext,
  { rps, toOpSession }: OpSessionReader,
): Pick<OpIssuerStore, 'listOpSessions' | 'countOpSessions' | 'expiredOpSessions'> {
  const live = `s.account_id IS NOT NULL AND s.expires_at > @now AND NOT ${isRefused}`
  const after = (time: string): string => `(${time} < @since OR (${time} = @since AND s.uid < @uid))`
  const from: Readonly<Record<ScopeName['scope'], string>> = {
    account: 'op_session s WHERE s.issuer = @issuer AND s.account_id = @name',
    client: `op_session_client c CROSS JOIN op_session s ON s.issuer = c.issuer AND s.uid = c.uid
             WHERE c.issuer = @issuer AND c.client_id = @name`,
    everyone: 'op_session s WHERE s.issuer = @issuer AND @name = @name',
  }
  const prepareList = (scope: ScopeName['scope']) => {
    const time = scope === 'client' ? 'c.since' : 's.since'
    return db.prepare<[{ issuer: number; name: string; now: number; limit: number } & Position], Listed>(
      `SELECT ${opSessionColumns}, ${time} AS at FROM ${from[scope]} AND ${time} <= @since AND ${after(time)} AND ${live}
       ORDER BY ${time} DESC, ${scope === 'client' ? 'c.uid' : 's.uid'} DESC LIMIT @limit`,
    )
  }
  const prepareCount = (scope: ScopeName['scope']) =>
    db.prepare<[{ issuer: number; name: string; now: number; except: string }], { n: number }>(
      `SELECT count(*) AS n FROM ${from[scope]} AND ${live} AND s.uid NOT IN (SELECT value FROM json_each(@except))`,
    )
  const list = { account: prepareList('account'), client: prepareList('client'), everyone: prepareList('everyone') }
  const count = { account: prepareCount('account'), client: prepareCount('client'), everyone: prepareCount('everyone') }
  const expired = db.prepare<[number, number, number], { uid: string }>(
    `SELECT uid FROM op_session WHERE issuer = ? AND expires_at <= ? AND account_id IS NOT NULL
     ORDER BY expires_at LIMIT ?`,
  )

  return {
    async listOpSessions(of, { cursor, limit = defaultLimit } = {}) {
      return read(() => {
        const { scope, name } = scopeName(of)
        const from = cursor === undefined ? newest : readCursor(cursor)
        // One more than asked for tells whether there is a next part.
        const found = list[scope].all({ issuer, name, now: seconds(), limit: limit + 1, ...from })
        const part = found.slice(0, limit)
        const last = part.at(-1)
        return {
          sessions: part.map(toOpSession),
          ...(found.length > limit && last && { cursor: writeCursor({ since: last.at, uid: last.uid }) }),
        }
      })
    },

    async countOpSessions(of, except = []) {
      const { scope, name } = scopeName(of)
      return read(() => count[scope].get({ issuer, name, now: seconds(), except: JSON.stringify(except) })?.n ?? 0)
    },

    async expiredOpSessions(limit) {
      return read(() =>
        expired.all(issuer, seconds(), limit).map(({ uid }): EndableOpSession => ({ uid, rps: rps(uid) })),
      )
    },
  }
}
