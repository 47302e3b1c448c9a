import type { KeptModel, OpIssuerStore } from './contract.ts'
import type { SqliteContext } from './sqlite-context.ts'
import { isModelRefused } from './sqlite-refusals.ts'

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

type WrittenModel = [
  issuer: number,
  kind: string,
  handle: string,
  payload: string,
  expiresAt: number | null,
  grantId: string | null,
  account: string | null,
  client: string | null,
  alias: string | null,
  now: number,
]

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

/** oidc-provider's models and the issuer's secrets in SQLite. */
export function sqliteModels(context: SqliteContext): Models {
  const { db, issuer } = context
  const columns = 'handle, payload, expires_at, grant_id, account_id, client_id, alias, since'
  const alive = `(m.expires_at IS NULL OR m.expires_at > ?) AND NOT ${isModelRefused}`
  const byHandle = db.prepare<[number, string, string, number], ModelRow>(
    `SELECT ${columns} FROM model m WHERE m.issuer = ? AND m.kind = ? AND m.handle = ? AND ${alive}`,
  )
  const byAlias = db.prepare<[number, string, string, number], ModelRow>(
    `SELECT ${columns} FROM model m WHERE m.issuer = ? AND m.kind = ? AND m.alias = ? AND ${alive} ORDER BY since DESC LIMIT 1`,
  )
  const byKind = db.prepare<[number, string, string, number, number], ModelRow>(
    `SELECT ${columns} FROM model m WHERE m.issuer = ? AND m.kind = ? AND m.handle > ? AND ${alive} ORDER BY m.handle LIMIT ?`,
  )
  const merged = `payload = excluded.payload, expires_at = excluded.expires_at, grant_id = excluded.grant_id,
    account_id = excluded.account_id, client_id = excluded.client_id, alias = excluded.alias`
  const putUnowned = db.prepare<WrittenModel>(
    `INSERT INTO model (issuer, kind, handle, payload, expires_at, grant_id, account_id, client_id, alias, since)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
     ON CONFLICT (issuer, kind, handle) DO UPDATE SET ${merged}`,
  )
  // Questions and answer are one statement: each step between SQLite and here costs more than all of them.
  const putOwned = db.prepare<WrittenModel>(
    `INSERT INTO model (issuer, kind, handle, payload, expires_at, grant_id, account_id, client_id, alias, since)
     SELECT m.issuer, m.kind, m.handle, m.payload, m.expires_at, m.grant_id, m.account_id, m.client_id, m.alias, m.since
     FROM (SELECT w.*, coalesce(
         (SELECT g.since FROM model g
          WHERE g.issuer = w.issuer AND g.grant_id = w.grant_id AND g.kind = 'Grant' AND w.kind <> 'Grant'),
         (SELECT k.since FROM model k WHERE k.issuer = w.issuer AND k.kind = w.kind AND k.handle = w.handle),
         w.now) AS since
       FROM (SELECT ? AS issuer, ? AS kind, ? AS handle, ? AS payload, ? AS expires_at, ? AS grant_id, ? AS account_id,
         ? AS client_id, ? AS alias, ? AS now) w) m
     WHERE NOT EXISTS (SELECT 1 FROM tombstone t WHERE t.issuer = m.issuer AND t.kind = 'grant' AND t.name = m.grant_id)
       AND NOT ${isModelRefused}
     ON CONFLICT (issuer, kind, handle) DO UPDATE SET ${merged}, since = excluded.since`,
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

    async putModel({ kind, handle, payload, expiresAt = null, grantId, accountId, clientId, alias }) {
      const text = JSON.stringify(payload)
      const isOwned = grantId !== undefined || accountId !== undefined // nothing refuses what is nobody's
      const [grant, account, client] = [grantId ?? null, accountId ?? null, clientId ?? null]
      context.writeOne(() =>
        (isOwned ? putOwned : putUnowned).run(
          issuer,
          kind,
          handle,
          text,
          expiresAt,
          grant,
          account,
          client,
          alias ?? null,
          context.now(),
        ),
      )
    },

    async getModel(kind, by) {
      return context.read(() => {
        const row =
          'handle' in by
            ? byHandle.get(issuer, kind, by.handle, context.seconds())
            : byAlias.get(issuer, kind, by.alias, context.seconds())
        return row && toModel(kind, row)
      })
    },

    async listModels(kind, { after, limit }) {
      return context.read(() =>
        byKind.all(issuer, kind, after, context.seconds(), limit).map((row) => toModel(kind, row)),
      )
    },

    async consumeModel(kind, handle) {
      context.writeOne(() => consume.run(context.seconds(), issuer, kind, handle))
    },

    async deleteModel(kind, handle) {
      context.writeOne(() => remove.run(issuer, kind, handle))
    },

    async deleteModelsByGrant(kind, grantId) {
      context.writeOne(() => removeByGrant.run(issuer, grantId, kind))
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
