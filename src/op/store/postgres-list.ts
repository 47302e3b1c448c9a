import { statement } from '../../runtime/postgres.ts'
import type { EndableOpSession, OpIssuerStore } from './contract.ts'
import type { PostgresContext } from './postgres-context.ts'
import { isRefused } from './postgres-refusals.ts'
import { type OpSessionRow, opSessionColumns, toOpSession } from './postgres-sessions.ts'
import { defaultLimit, newest, readCursor, type ScopeName, scopeName, writeCursor } from './scope.ts'

type Listed = OpSessionRow & { at: number }

const live = `s.account_id IS NOT NULL AND s.expires_at > $3 AND NOT ${isRefused}`
const from: Readonly<Record<ScopeName['scope'], string>> = {
  account: 'op_session s WHERE s.issuer = $1 AND s.account_id = $2',
  client: `op_session_client c JOIN op_session s ON s.issuer = c.issuer AND s.uid = c.uid
           WHERE c.issuer = $1 AND c.client_id = $2`,
  everyone: 'op_session s WHERE s.issuer = $1 AND $2::text IS NOT NULL',
}
const list = (scope: ScopeName['scope']) => {
  const at = scope === 'client' ? 'c' : 's'
  return statement<Listed>(
    `list_${scope}`,
    `SELECT ${opSessionColumns}, ${at}.since AS at FROM ${from[scope]}
       AND (${at}.since, ${at}.uid) < ($4::bigint, $5::text) AND ${live}
     ORDER BY ${at}.since DESC, ${at}.uid DESC LIMIT $6`,
  )
}
const count = (scope: ScopeName['scope']) =>
  statement<{ n: number }>(
    `count_${scope}`,
    `SELECT count(*) AS n FROM ${from[scope]} AND ${live} AND s.uid <> ALL ($4::text[])`,
  )
const lists = { account: list('account'), client: list('client'), everyone: list('everyone') }
const counts = { account: count('account'), client: count('client'), everyone: count('everyone') }
const expired = statement<OpSessionRow>(
  'expired_op_sessions',
  `SELECT ${opSessionColumns} FROM op_session s
   WHERE s.issuer = $1 AND s.expires_at <= $2 AND s.account_id IS NOT NULL ORDER BY s.expires_at LIMIT $3`,
)

/** Lists and counts live OP sessions in PostgreSQL. */
export function postgresList({
  each,
  seconds,
}: PostgresContext): Pick<OpIssuerStore, 'listOpSessions' | 'countOpSessions' | 'expiredOpSessions'> {
  return {
    async listOpSessions(of, { cursor, limit = defaultLimit } = {}) {
      const { scope, name } = scopeName(of)
      const { since, uid } = cursor === undefined ? newest : readCursor(cursor)
      // One more than asked for tells whether there is a next part.
      const found = await each.all(lists[scope], name, seconds(), since, uid, limit + 1)
      const part = found.slice(0, limit)
      const last = part.at(-1)
      return {
        sessions: part.map(toOpSession),
        ...(found.length > limit && last && { cursor: writeCursor({ since: last.at, uid: last.uid }) }),
      }
    },

    async countOpSessions(of, except = []) {
      const { scope, name } = scopeName(of)
      return (await each.first(counts[scope], name, seconds(), except))?.n ?? 0
    },

    async expiredOpSessions(limit) {
      return (await each.all(expired, seconds(), limit))
        .map(toOpSession)
        .map(({ uid, rps }): EndableOpSession => ({ uid, rps }))
    },
  }
}
