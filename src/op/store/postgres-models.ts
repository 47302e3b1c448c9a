import { statement } from '../../runtime/postgres.ts'
import type { OpIssuerStore, StoredModel } from './contract.ts'
import type { PostgresContext } from './postgres-context.ts'
import { lockTogether, type Name, tombstonesAmong } from './postgres-tombstones.ts'

interface ModelRow {
  handle: string
  payload: string
  expires_at: number | null
  grant_id: string | null
  alias: string | null
  consumed_at: number | null
}

type Models = Pick<
  OpIssuerStore,
  'secret' | 'replaceSecret' | 'putModel' | 'getModel' | 'consumeModel' | 'deleteModel' | 'deleteModelsByGrant'
>

const columns = 'handle, payload, expires_at, grant_id, alias, consumed_at'
const byHandle = statement<ModelRow>(
  'model_by_handle',
  `SELECT ${columns} FROM model
   WHERE issuer = $1 AND kind = $2 AND handle = $3 AND (expires_at IS NULL OR expires_at > $4)`,
)
const byAlias = statement<ModelRow>(
  'model_by_alias',
  `SELECT ${columns} FROM model
   WHERE issuer = $1 AND kind = $2 AND alias = $3 AND (expires_at IS NULL OR expires_at > $4) ORDER BY seq DESC LIMIT 1`,
)
const put = statement(
  'model_put',
  `INSERT INTO model (issuer, kind, handle, payload, expires_at, grant_id, alias) VALUES ($1, $2, $3, $4, $5, $6, $7)
   ON CONFLICT (issuer, kind, handle) DO UPDATE SET payload = excluded.payload, expires_at = excluded.expires_at,
     grant_id = excluded.grant_id, alias = excluded.alias, consumed_at = NULL`,
)
const consume = statement(
  'model_consume',
  'UPDATE model SET consumed_at = $4 WHERE issuer = $1 AND kind = $2 AND handle = $3',
)
const remove = statement('model_remove', 'DELETE FROM model WHERE issuer = $1 AND kind = $2 AND handle = $3')
const removeByGrant = statement(
  'model_remove_by_grant',
  'DELETE FROM model WHERE issuer = $1 AND kind = $2 AND grant_id = $3',
)
const readSecret = statement<{ value: string }>('secret', 'SELECT value FROM secret WHERE issuer = $1 AND name = $2')
const keepFirstSecret = statement(
  'secret_keep_first',
  'INSERT INTO secret (issuer, name, value) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING',
)

const swapSecret = statement(
  'secret_swap',
  'UPDATE secret SET value = $4 WHERE issuer = $1 AND name = $2 AND value = $3',
)

/** oidc-provider's models and the issuer's secrets in PostgreSQL. */
export function postgresModels(context: PostgresContext): Models {
  const { each } = context
  return {
    async secret(name, make) {
      const kept = await each.first(readSecret, name)
      if (kept) return kept.value
      const made = await make()
      await each.change(keepFirstSecret, name, made) // waits for whoever is keeping one at this moment
      return (await each.first(readSecret, name))?.value ?? made
    },

    async replaceSecret(name, from, to) {
      return (await each.change(swapSecret, name, from, to)) === 1
    },

    async putModel({ kind, handle, payload, expiresAt, grantId, alias }) {
      await context.write(async (queries) => {
        if (grantId !== undefined) {
          const grant: Name = ['grant', grantId]
          await lockTogether(queries, [grant])
          if ((await tombstonesAmong(queries, [grant])).has('grant')) return
        }
        const text = JSON.stringify(payload)
        await queries.change(put, kind, handle, text, expiresAt ?? null, grantId ?? null, alias ?? null)
      })
    },

    async getModel(kind, by) {
      const now = context.seconds()
      const row =
        'handle' in by
          ? await each.first(byHandle, kind, by.handle, now)
          : await each.first(byAlias, kind, by.alias, now)
      return row && toModel(kind, row)
    },

    async consumeModel(kind, handle) {
      await each.change(consume, kind, handle, context.seconds())
    },

    async deleteModel(kind, handle) {
      await each.change(remove, kind, handle)
    },

    async deleteModelsByGrant(kind, grantId) {
      // a transaction, since it may meet the end of the OP session in the other order and is then run again
      await context.write((queries) => queries.change(removeByGrant, kind, grantId))
    },
  }
}

function toModel(kind: string, row: ModelRow): StoredModel {
  const payload = JSON.parse(row.payload) as Record<string, unknown>
  return {
    kind,
    handle: row.handle,
    payload: row.consumed_at === null ? payload : { ...payload, consumed: row.consumed_at },
    ...(row.expires_at !== null && { expiresAt: row.expires_at }),
    ...(row.grant_id !== null && { grantId: row.grant_id }),
    ...(row.alias !== null && { alias: row.alias }),
  }
}
