import { LockstepError } from '../../protocol/errors.ts'
import { type Commands, type Postgres, statement } from '../../runtime/postgres.ts'
import type { ResolvedPostgresOptions } from '../../runtime/postgres-connection.ts'
import { expiryFunctions } from './postgres-expiry-functions.ts'
import { functions } from './postgres-functions.ts'
import { furtherSidFunctions } from './postgres-further-sid-functions.ts'
import { logoutFunctions } from './postgres-logout-functions.ts'
import { putByFunctions } from './postgres-put-by-functions.ts'
import { refreshFunctions } from './postgres-refresh-functions.ts'
import { sidFunctions } from './postgres-sid-functions.ts'

/**
 * The steps from an empty schema to the present one; `rp_migration` lists the steps taken.
 *
 * Published steps never change, new ones are appended, and none breaks the nodes that still run the version before. Each
 * row starts with the client it belongs to: (issuer, client_id), as one small number (T20). Columns that end in `_key` are
 * SHA-256 of what the OP sent: an index takes no text of any length.
 */
const steps: readonly string[] = [
  `
CREATE TABLE rp_client (
  id        INTEGER GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  issuer    TEXT COLLATE "C" NOT NULL,
  client_id TEXT COLLATE "C" NOT NULL,
  UNIQUE (issuer, client_id)
);

CREATE TABLE rp_session (
  client          INTEGER NOT NULL,
  handle          TEXT COLLATE "C" NOT NULL,
  public_id       TEXT NOT NULL,
  sub             TEXT NOT NULL,
  sub_key         TEXT COLLATE "C" NOT NULL,
  sid             TEXT,
  sid_key         TEXT COLLATE "C",
  first_iat       DOUBLE PRECISION NOT NULL,
  created_at      DOUBLE PRECISION NOT NULL,
  idle_expires_at DOUBLE PRECISION NOT NULL,
  expires_at      DOUBLE PRECISION NOT NULL,
  data            TEXT NOT NULL,
  session_state   TEXT,
  tokens          TEXT NOT NULL,
  refresh_token   TEXT,
  refresh_offline BOOLEAN,
  PRIMARY KEY (client, handle)
);
CREATE INDEX rp_session_sid    ON rp_session (client, sid_key) WHERE sid_key IS NOT NULL;
CREATE INDEX rp_session_sub    ON rp_session (client, sub_key);
CREATE INDEX rp_session_expiry ON rp_session (expires_at);

CREATE TABLE rp_ended (
  client     INTEGER NOT NULL,
  handle     TEXT COLLATE "C" NOT NULL,
  public_id  TEXT NOT NULL,
  ended      TEXT NOT NULL,
  expires_at DOUBLE PRECISION NOT NULL,
  PRIMARY KEY (client, handle)
);
CREATE INDEX rp_ended_expiry ON rp_ended (expires_at);

CREATE TABLE rp_logged_out (
  client     INTEGER NOT NULL,
  kind       TEXT COLLATE "C" NOT NULL CHECK (kind IN ('sid', 'sub')),
  name_key   TEXT COLLATE "C" NOT NULL,
  arrived_at BIGINT NOT NULL,
  expires_at DOUBLE PRECISION NOT NULL,
  PRIMARY KEY (client, kind, name_key)
);
CREATE INDEX rp_logged_out_expiry ON rp_logged_out (expires_at);

CREATE TABLE rp_jti (
  client     INTEGER NOT NULL,
  jti_key    TEXT COLLATE "C" NOT NULL,
  expires_at DOUBLE PRECISION NOT NULL,
  PRIMARY KEY (client, jti_key)
);
CREATE INDEX rp_jti_expiry ON rp_jti (expires_at);

CREATE TABLE rp_owed (
  id         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  client     INTEGER NOT NULL,
  token      TEXT NOT NULL,
  owed_since BIGINT NOT NULL,
  attempts   INTEGER NOT NULL,
  due_at     BIGINT NOT NULL
);
CREATE INDEX rp_owed_due ON rp_owed (client, due_at);
${functions}`,
  refreshFunctions,
  logoutFunctions,
  sidFunctions,
  putByFunctions,
  furtherSidFunctions,
  expiryFunctions,
]

const oneAtATime = statement('rp_migrate_lock', 'SELECT pg_advisory_xact_lock(hashtextextended($1, 0))')
const findSchema = statement<{ found: 1 }>(
  'rp_migrate_schema',
  'SELECT 1 AS found FROM pg_namespace WHERE nspname = $1',
)
const findTable = statement<{ found: boolean }>('rp_migrate_table', 'SELECT to_regclass($1) IS NOT NULL AS found')
const latest = statement<{ step: number }>(
  'rp_migrate_latest',
  'SELECT coalesce(max(step), 0)::int AS step FROM rp_migration',
)

/**
 * Brings the schema up to date, whole or not at all; of several nodes that start at once one does it, the others wait.
 *
 * @throws LockstepError `store_failed` when a newer Lockstep has been here.
 */
export async function migrate(
  db: Postgres,
  { schema, place }: Pick<ResolvedPostgresOptions, 'schema' | 'place'>,
): Promise<void> {
  await db.transaction(async (queries) => {
    await queries.all(oneAtATime, `lockstep migrate rp ${schema}`)
    await createFirstTable(queries, schema)
    const { step: taken = 0 } = (await queries.first(latest)) ?? {}
    if (taken > steps.length) {
      throw new LockstepError(
        'store_failed',
        `PostgreSQL at ${place} has RP schema ${taken}, this Lockstep knows ${steps.length}: a newer Lockstep wrote it`,
      )
    }
    for (const [i, step] of steps.entries()) {
      if (i < taken) continue
      await queries.command(step)
      await queries.command(`INSERT INTO rp_migration (step) VALUES (${i + 1})`)
    }
  })
}

async function createFirstTable(queries: Commands, schema: string): Promise<void> {
  // CREATE ... IF NOT EXISTS would want the right to create even where there is nothing to do
  if (!(await queries.first(findSchema, schema))) await queries.command(`CREATE SCHEMA "${schema}"`)
  if ((await queries.first(findTable, `"${schema}".rp_migration`))?.found) return
  await queries.command(
    'CREATE TABLE rp_migration (step INTEGER PRIMARY KEY, taken_at TIMESTAMPTZ NOT NULL DEFAULT now())',
  )
}
