import { statement } from '../../runtime/postgres.ts'
import type { KeptModel, OpIssuerStore } from './contract.ts'
import { type PostgresContext, sharedNow } from './postgres-context.ts'
import { isModelRefused } from './postgres-refusals.ts'
import { lockTogether, type Name, tombstonesAmong } from './postgres-tombstones.ts'

interface ModelRow {
  handle: string
  payload: string
  expires_at: number | null
  grant_id: string | null
  account_id: string | null
  client_id: string | null
  alias: string | null
  since: number
  consumed_at: number | null
}

type Models = Pick<
  OpIssuerStore,
  | 'secret'
  | 'replaceSecret'
  | 'putModel'
  | 'getModel'
  | 'listModels'
  | 'consumeModel'
  | 'deleteModel'
  | 'deleteModelsByGrant'
>

const columns = `m.handle, m.payload, m.expires_at, m.grant_id, m.account_id, m.client_id, m.alias, m.since, m.consumed_at`
const isAlive = `(m.expires_at IS NULL OR m.expires_at > $4) AND NOT ${isModelRefused}`
const byHandle = statement<ModelRow>(
  'model_by_handle',
  `SELECT ${columns} FROM model m WHERE m.issuer = $1 AND m.kind = $2 AND m.handle = $3 AND ${isAlive}`,
)
const byAlias = statement<ModelRow>(
  'model_by_alias',
  `SELECT ${columns} FROM model m WHERE m.issuer = $1 AND m.kind = $2 AND m.alias = $3 AND ${isAlive}
   ORDER BY m.seq DESC LIMIT 1`,
)
const byKind = statement<ModelRow>(
  'model_by_kind',
  `SELECT ${columns} FROM model m WHERE m.issuer = $1 AND m.kind = $2 AND m.handle > $3 AND ${isAlive}
   ORDER BY m.handle LIMIT $5`,
)
const put = statement(
  'model_put',
  `INSERT INTO model (issuer, kind, handle, payload, expires_at, grant_id, account_id, client_id, alias, since)
   SELECT m.issuer, m.kind, m.handle, $4, $5::bigint, m.grant_id, m.account_id, m.client_id, $9, m.since
   FROM (SELECT $1::int AS issuer, $2::text AS kind, $3::text AS handle, $6::text AS grant_id, $7::text AS account_id,
           $8::text AS client_id, coalesce(
             (SELECT g.since FROM model g
              WHERE g.issuer = $1 AND g.grant_id = $6 AND g.kind = 'Grant' AND $2 <> 'Grant' LIMIT 1),
             (SELECT k.since FROM model k WHERE k.issuer = $1 AND k.kind = $2 AND k.handle = $3),
             ${sharedNow('$10')}) AS since) AS m
   WHERE NOT ${isModelRefused}
   ON CONFLICT (issuer, kind, handle) DO UPDATE SET payload = excluded.payload, expires_at = excluded.expires_at,
     grant_id = excluded.grant_id, account_id = excluded.account_id, client_id = excluded.client_id,
     alias = excluded.alias, since = excluded.since, consumed_at = NULL`,
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

    async putModel({ kind, handle, payload, expiresAt, grantId, accountId, clientId, alias }) {
      await context.write(async (queries) => {
        if (grantId !== undefined) {
          const grant: Name = ['grant', grantId]
          await lockTogether(queries, [grant])
          if ((await tombstonesAmong(queries, [grant])).has('grant')) return
        }
        const text = JSON.stringify(payload)
        await queries.change(
          put,
          kind,
          handle,
          text,
          expiresAt ?? null,
          grantId ?? null,
          accountId ?? null,
          clientId ?? null,
          alias ?? null,
          context.replacedNow(),
        )
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

    async listModels(kind, { after, limit }) {
      const rows = await each.all(byKind, kind, after, context.seconds(), limit)
      return rows.map((row) => toModel(kind, row))
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

function toModel(kind: string, row: ModelRow): KeptModel {
  const payload = JSON.parse(row.payload) as Record<string, unknown>
  return {
    kind,
    handle: row.handle,
    payload: row.consumed_at === null ? payload : { ...payload, consumed: row.consumed_at },
    ...(row.expires_at !== null && { expiresAt: row.expires_at }),
    ...(row.grant_id !== null && { grantId: row.grant_id }),
    ...(row.account_id !== null && { accountId: row.account_id }),
    ...(row.client_id !== null && { clientId: row.client_id }),
    ...(row.alias !== null && { alias: row.alias }),
    since: row.since,
  }
}
