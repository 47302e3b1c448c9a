import Sqlite from 'better-sqlite3'
import type { Adapter, AdapterPayload } from 'oidc-provider'

/**
 * What an operator would write for stock oidc-provider: one table, prepared statements, and what has expired goes once a minute; as durable as
 * Lockstep's store (WAL, `synchronous=FULL`). It hashes nothing, merges nothing and remembers nothing that ended.
 */
export function sqliteAdapter(file: string): (kind: string) => Adapter {
  const db = new Sqlite(file)
  db.pragma('journal_mode = WAL')
  db.pragma('synchronous = FULL')
  db.exec(`CREATE TABLE model (kind TEXT, id TEXT, payload TEXT NOT NULL, expires_at INTEGER, grant_id TEXT, uid TEXT,
    PRIMARY KEY (kind, id)) STRICT, WITHOUT ROWID;
    CREATE INDEX model_by_grant ON model (grant_id) WHERE grant_id IS NOT NULL;
    CREATE INDEX model_by_expiry ON model (expires_at) WHERE expires_at IS NOT NULL;
    CREATE INDEX model_by_uid ON model (uid) WHERE uid IS NOT NULL;`)
  const put = db.prepare('INSERT OR REPLACE INTO model VALUES (?, ?, ?, ?, ?, ?)')
  const get = db.prepare<[string, string], { payload: string; expires_at: number | null }>(
    'SELECT payload, expires_at FROM model WHERE kind = ? AND id = ?',
  )
  const getByUid = db.prepare<[string], { payload: string; expires_at: number | null }>(
    'SELECT payload, expires_at FROM model WHERE uid = ?',
  )
  const consume = db.prepare(
    `UPDATE model SET payload = json_set(payload, '$.consumed', unixepoch()) WHERE kind = ? AND id = ?`,
  )
  const remove = db.prepare('DELETE FROM model WHERE kind = ? AND id = ?')
  const removeByGrant = db.prepare('DELETE FROM model WHERE grant_id = ?')
  const alive = (row: { payload: string; expires_at: number | null } | undefined): AdapterPayload | undefined =>
    row && (row.expires_at === null || row.expires_at > Date.now() / 1000)
      ? (JSON.parse(row.payload) as AdapterPayload)
      : undefined

  const clean = db.prepare('DELETE FROM model WHERE expires_at <= unixepoch()')
  setInterval(() => clean.run(), 60_000).unref()

  return (kind) => ({
    async upsert(id, payload, expiresIn) {
      const expiresAt = expiresIn ? Math.floor(Date.now() / 1000) + expiresIn : null
      const uid = kind === 'Session' ? (payload.uid ?? null) : null
      put.run(kind, id, JSON.stringify(payload), expiresAt, payload.grantId ?? null, uid)
    },
    find: async (id) => alive(get.get(kind, id)),
    findByUid: async (uid) => alive(getByUid.get(uid)),
    findByUserCode: async () => undefined,
    async consume(id) {
      consume.run(kind, id)
    },
    async destroy(id) {
      remove.run(kind, id)
    },
    async revokeByGrantId(grantId) {
      removeByGrant.run(grantId)
    },
  })
}
