import type { KeptModel, OpIssuerStore } from './contract.ts'
import type { SqliteContext } from './sqlite-context.ts'
import type { SqliteRefusals } from './sqlite-refusals.ts'
import type { SqliteTombstones } from './sqlite-tombstones.ts'

interface ModelRow {
  handle: string
  payload: string
  expires_at: number | null
  grant_id: string | null
  account_id: string | null
  client_id: string | null
  alias: string | null
  since: number
}

interface WrittenModel {
  issuer: number
  kind: string
  handle: string
  payload: string
  expiresAt: number | null
  grantId: string | null
  account: string | null
  client: string | null
  alias: string | null
  since: number
}

type Models = Pick<
  OpIssuerStore,
  'secret' | 'replaceSecret' | 'putModel' | 'getModel' | 'consumeModel' | 'deleteModel' | 'deleteModelsByGrant'
>

/** oidc-provider's models and the issuer's secrets in SQLite. */
export function sqliteModels(
  context: SqliteContext,
  tombstones: SqliteTombstones,
  refusals: Pick<SqliteRefusals, 'model' | 'grantSince'>,
): Models {
  const { db, issuer } = context
  const columns = 'handle, payload, expires_at, grant_id, account_id, client_id, alias, since'
  const alive = '(expires_at IS NULL OR expires_at > ?)'
  const byHandle = db.prepare<[number, string, string, number], ModelRow>(
    `SELECT ${columns} FROM model WHERE issuer = ? AND kind = ? AND handle = ? AND ${alive}`,
  )
  const byAlias = db.prepare<[number, string, string, number], ModelRow>(
    `SELECT ${columns} FROM model WHERE issuer = ? AND kind = ? AND alias = ? AND ${alive} ORDER BY rowid DESC LIMIT 1`,
  )
  const firstPut = db.prepare<[number, string, string], Pick<ModelRow, 'since'>>(
    'SELECT since FROM model WHERE issuer = ? AND kind = ? AND handle = ?',
  )
  const put = db.prepare<[WrittenModel]>(
    `INSERT INTO model (issuer, kind, handle, payload, expires_at, grant_id, account_id, client_id, alias, since)
     VALUES (@issuer, @kind, @handle, @payload, @expiresAt, @grantId, @account, @client, @alias, @since)
     ON CONFLICT (issuer, kind, handle) DO UPDATE SET
       payload = excluded.payload, expires_at = excluded.expires_at, grant_id = excluded.grant_id,
       account_id = excluded.account_id, client_id = excluded.client_id, alias = excluded.alias, since = excluded.since`,
  )
  const consume = db.prepare<[number, number, string, string]>(
    `UPDATE model SET payload = json_set(payload, '$.consumed', ?) WHERE issuer = ? AND kind = ? AND handle = ?`,
  )
  const remove = db.prepare<[number, string, string]>('DELETE FROM model WHERE issuer = ? AND kind = ? AND handle = ?')
  const removeByGrant = db.prepare<[number, string, string]>(
    'DELETE FROM model WHERE issuer = ? AND grant_id = ? AND kind = ?',
  )
  const readSecret = db.prepare<[number, string], { value: string }>(
    'SELECT value FROM secret WHERE issuer = ? AND name = ?',
  )
  const keepFirstSecret = db.prepare<[number, string, string]>(
    'INSERT INTO secret (issuer, name, value) VALUES (?, ?, ?) ON CONFLICT DO NOTHING',
  )

  const swapSecret = db.prepare<[string, number, string, string]>(
    'UPDATE secret SET value = ? WHERE issuer = ? AND name = ? AND value = ?',
  )

  return {
    async secret(name, make) {
      const kept = context.read(() => readSecret.get(issuer, name))
      if (kept) return kept.value
      const made = await make()
      return context.write(() => {
        keepFirstSecret.run(issuer, name, made)
        return readSecret.get(issuer, name)?.value ?? made
      })
    },

    async replaceSecret(name, from, to) {
      return context.write(() => swapSecret.run(to, issuer, name, from).changes === 1)
    },

    async putModel(model) {
      const { kind, handle, payload, expiresAt, grantId, accountId, clientId, alias } = model
      context.write(() => {
        if (grantId !== undefined && tombstones.has('grant', grantId)) return
        const since =
          (grantId === undefined || kind === 'Grant' ? undefined : refusals.grantSince(grantId)) ??
          firstPut.get(issuer, kind, handle)?.since ??
          context.now()
        if (refusals.model({ ...model, since })) return
        put.run({
          issuer,
          kind,
          handle,
          payload: JSON.stringify(payload),
          expiresAt: expiresAt ?? null,
          grantId: grantId ?? null,
          account: accountId ?? null,
          client: clientId ?? null,
          alias: alias ?? null,
          since,
        })
      })
    },

    async getModel(kind, by) {
      return context.read(() => {
        const row =
          'handle' in by
            ? byHandle.get(issuer, kind, by.handle, context.seconds())
            : byAlias.get(issuer, kind, by.alias, context.seconds())
        const model = row && toModel(kind, row)
        return model && refusals.model(model) ? undefined : model
      })
    },

    async consumeModel(kind, handle) {
      context.write(() => consume.run(context.seconds(), issuer, kind, handle))
    },

    async deleteModel(kind, handle) {
      context.write(() => remove.run(issuer, kind, handle))
    },

    async deleteModelsByGrant(kind, grantId) {
      context.write(() => removeByGrant.run(issuer, grantId, kind))
    },
  }
}

function toModel(kind: string, row: ModelRow): KeptModel {
  return {
    kind,
    handle: row.handle,
    payload: JSON.parse(row.payload) as Record<string, unknown>,
    ...(row.expires_at !== null && { expiresAt: row.expires_at }),
    ...(row.grant_id !== null && { grantId: row.grant_id }),
    ...(row.account_id !== null && { accountId: row.account_id }),
    ...(row.client_id !== null && { clientId: row.client_id }),
    ...(row.alias !== null && { alias: row.alias }),
    since: row.since,
  }
}
