import { longestRequest } from './longest-request.ts'
import type { SqliteContext } from './sqlite-context.ts'

/** What a logout or a rotation took away, so that a write which is still on its way cannot bring it back. */
export interface SqliteTombstones {
  has(kind: 'uid' | 'handle' | 'grant', name: string): boolean
  /** Keeps them until `expiresAt` (epoch seconds: the OP session's own expiry), and for a day at least. */
  put(kind: 'uid' | 'handle' | 'grant', names: readonly string[], expiresAt: number): void
}

/** Tombstones in SQLite; both methods belong inside a transaction of the store. */
export function sqliteTombstones({ db, issuer, seconds }: SqliteContext): SqliteTombstones {
  const find = db.prepare<[number, string, string], { found: 1 }>(
    'SELECT 1 AS found FROM tombstone WHERE issuer = ? AND kind = ? AND name = ?',
  )
  const keep = db.prepare<[number, string, number, string]>(
    `INSERT INTO tombstone (issuer, kind, name, expires_at) SELECT ?, ?, value, ? FROM json_each(?) WHERE true
     ON CONFLICT DO UPDATE SET expires_at = max(expires_at, excluded.expires_at)`,
  )
  return {
    has: (kind, name) => find.get(issuer, kind, name) !== undefined,
    put: (kind, names, expiresAt) => {
      if (names.length === 0) return
      keep.run(issuer, kind, Math.max(expiresAt, seconds() + longestRequest), JSON.stringify(names))
    },
  }
}
