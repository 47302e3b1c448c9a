import { LockstepError } from '../../protocol/errors.ts'
import { type Commands, type Postgres, statement } from '../../runtime/postgres.ts'
import type { ResolvedPostgresOptions } from '../../runtime/postgres-connection.ts'

/**
 * The steps from an empty schema to the present one, the same tables as in SQLite; `migration` lists the steps taken.
 *
 * Published steps never change, new ones are appended, and none breaks the nodes that still run the version before. Every
 * table starts with the issuer (T20); no foreign key leads to it, since all writers would queue for a share of one row's
 * lock. Names are compared byte by byte (`COLLATE "C"`). Payloads are JSON kept as text: what goes in comes out the same.
 */
const steps: readonly string[] = [
  `
  CREATE TABLE issuer (
    id  INTEGER GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    url TEXT COLLATE "C" NOT NULL UNIQUE
  );

  CREATE TABLE secret (
    issuer INTEGER NOT NULL,
    name   TEXT COLLATE "C" NOT NULL,
    value  TEXT NOT NULL,
    PRIMARY KEY (issuer, name)
  );

  CREATE TABLE model (
    issuer      INTEGER NOT NULL,
    kind        TEXT COLLATE "C" NOT NULL,
    handle      TEXT COLLATE "C" NOT NULL,
    payload     TEXT NOT NULL,
    expires_at  BIGINT,
    grant_id    TEXT COLLATE "C",
    alias       TEXT COLLATE "C",
    consumed_at BIGINT,
    seq         BIGINT GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (issuer, kind, handle)
  );
  CREATE INDEX model_by_grant  ON model (issuer, grant_id) WHERE grant_id IS NOT NULL;
  CREATE INDEX model_by_alias  ON model (issuer, kind, alias) WHERE alias IS NOT NULL;
  CREATE INDEX model_by_expiry ON model (issuer, expires_at) WHERE expires_at IS NOT NULL;

  CREATE TABLE op_session (
    issuer     INTEGER NOT NULL,
    uid        TEXT COLLATE "C" NOT NULL,
    handle     TEXT COLLATE "C" NOT NULL,
    account_id TEXT COLLATE "C",
    payload    TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    seq        BIGINT GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (issuer, uid)
  );
  CREATE INDEX op_session_by_account ON op_session (issuer, account_id) WHERE account_id IS NOT NULL;
  CREATE INDEX op_session_by_expiry  ON op_session (issuer, expires_at);

  -- Two requests may rotate the cookie of one OP session at once: both new handles work, each until it is retired.
  CREATE TABLE op_session_handle (
    issuer INTEGER NOT NULL,
    handle TEXT COLLATE "C" NOT NULL,
    uid    TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (issuer, handle)
  );
  CREATE INDEX op_session_handle_by_uid ON op_session_handle (issuer, uid);

  -- Not bound to op_session by a foreign key: a login is recorded before a new OP session is saved for the first time.
  CREATE TABLE op_session_client (
    issuer          INTEGER NOT NULL,
    uid             TEXT COLLATE "C" NOT NULL,
    client_id       TEXT COLLATE "C" NOT NULL,
    sid             TEXT COLLATE "C" NOT NULL,
    grant_id        TEXT COLLATE "C",
    persists_logout BOOLEAN NOT NULL,
    PRIMARY KEY (issuer, uid, client_id)
  );

  -- OP sessions under which a login was recorded and which were not saved yet.
  CREATE TABLE op_session_pending (
    issuer     INTEGER NOT NULL,
    uid        TEXT COLLATE "C" NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (issuer, uid)
  );
  CREATE INDEX op_session_pending_by_expiry ON op_session_pending (issuer, expires_at);

  -- What a write that is still on its way must not bring back: kind is uid, handle or grant.
  CREATE TABLE tombstone (
    issuer     INTEGER NOT NULL,
    kind       TEXT COLLATE "C" NOT NULL,
    name       TEXT COLLATE "C" NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (issuer, kind, name)
  );
  CREATE INDEX tombstone_by_expiry ON tombstone (issuer, expires_at);

  CREATE TABLE logout (
    cursor     BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    issuer     INTEGER NOT NULL,
    id         TEXT COLLATE "C" NOT NULL,
    uid        TEXT COLLATE "C" NOT NULL,
    account_id TEXT COLLATE "C" NOT NULL,
    cause      TEXT NOT NULL,
    initiator  TEXT,
    actor      TEXT,
    ended_at   BIGINT NOT NULL,
    UNIQUE (issuer, id)
  );

  CREATE TABLE delivery (
    seq           BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    issuer        INTEGER NOT NULL,
    id            TEXT COLLATE "C" NOT NULL,
    logout        BIGINT NOT NULL REFERENCES logout (cursor),
    client_id     TEXT COLLATE "C" NOT NULL,
    sid           TEXT COLLATE "C" NOT NULL,
    state         TEXT NOT NULL,
    attempts      INTEGER NOT NULL DEFAULT 0,
    created_at    BIGINT NOT NULL,
    due_at        BIGINT,               -- the end of the lease while in flight, NULL once final; by the database's clock
    final_at      BIGINT,
    fence         INTEGER NOT NULL DEFAULT 0,
    refusals      INTEGER NOT NULL DEFAULT 0,
    refused_since BIGINT,
    last_outcome  TEXT,
    UNIQUE (issuer, id),
    CHECK ((due_at IS NULL) = (state IN ('delivered', 'refused', 'dead'))),
    CHECK ((due_at IS NULL) = (final_at IS NOT NULL))
  );
  CREATE INDEX delivery_by_logout ON delivery (logout);
  CREATE INDEX delivery_owed      ON delivery (issuer, client_id, due_at, seq) WHERE due_at IS NOT NULL;

  CREATE TABLE attempt (
    delivery    BIGINT NOT NULL REFERENCES delivery (seq),
    number      INTEGER NOT NULL,
    started_at  BIGINT NOT NULL,
    finished_at BIGINT NOT NULL,
    outcome     TEXT NOT NULL,
    PRIMARY KEY (delivery, number)
  );
  `,
  `
  -- Notices that a page shows in frames. They go with their logout.
  CREATE TABLE frame_notice (
    logout    BIGINT NOT NULL REFERENCES logout (cursor) ON DELETE CASCADE,
    position  INTEGER NOT NULL,
    client_id TEXT COLLATE "C" NOT NULL,
    sid       TEXT COLLATE "C" NOT NULL,
    framed_at BIGINT,
    PRIMARY KEY (logout, position)
  );
  `,
  `
  -- since: epoch milliseconds of the login, of an RP's login, and of a model or its Grant, by the database's clock; what
  -- stood here before is old, and so is what nodes of the version before write meanwhile.
  ALTER TABLE op_session ADD COLUMN since BIGINT NOT NULL DEFAULT 0;
  UPDATE op_session SET since = created_at * 1000;
  CREATE INDEX op_session_by_account_login ON op_session (issuer, account_id, since, uid) WHERE account_id IS NOT NULL;
  DROP INDEX op_session_by_account;
  CREATE INDEX op_session_by_login ON op_session (issuer, since, uid) WHERE account_id IS NOT NULL;

  ALTER TABLE op_session_client ADD COLUMN since BIGINT NOT NULL DEFAULT 0;
  CREATE INDEX op_session_client_by_client ON op_session_client (issuer, client_id, since, uid);

  ALTER TABLE model ADD COLUMN account_id TEXT COLLATE "C";
  ALTER TABLE model ADD COLUMN client_id TEXT COLLATE "C";
  ALTER TABLE model ADD COLUMN since BIGINT NOT NULL DEFAULT 0;
  -- PostgreSQL cannot unpack JSON with an escaped NUL or half a surrogate pair, which anybody may send as a state.
  UPDATE model SET
    account_id = CASE kind WHEN 'Interaction' THEN payload::json #>> '{result,login,accountId}'
                 ELSE payload::json ->> 'accountId' END,
    client_id = CASE kind WHEN 'Interaction' THEN NULL ELSE payload::json ->> 'clientId' END
  WHERE payload !~* '\\\\u(0000|d[89a-f])';

  ALTER TABLE logout ADD COLUMN reason TEXT;
  CREATE INDEX logout_by_time ON logout (issuer, ended_at);

  -- The end of all OP sessions of a scope: what it refuses (at), and the job that tells of it. scope is account, client or
  -- everyone (whose name is empty). at and due_at are by the database's clock.
  CREATE TABLE end_job (
    seq            BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    issuer         INTEGER NOT NULL,
    id             TEXT COLLATE "C" NOT NULL,
    scope          TEXT COLLATE "C" NOT NULL,
    name           TEXT COLLATE "C" NOT NULL,
    at             BIGINT NOT NULL,
    needed_until   BIGINT NOT NULL,      -- epoch seconds; by then what it refuses has expired
    revoke_offline BOOLEAN NOT NULL,
    cause          TEXT NOT NULL,
    actor          TEXT,
    reason         TEXT,
    total          BIGINT NOT NULL,
    ended          BIGINT NOT NULL DEFAULT 0,
    due_at         BIGINT,               -- NULL once done
    finished_at    BIGINT,
    UNIQUE (issuer, id),
    CHECK ((due_at IS NULL) = (finished_at IS NOT NULL))
  );
  CREATE INDEX end_job_by_scope ON end_job (issuer, scope, name, at);
  CREATE INDEX end_job_due      ON end_job (issuer, due_at) WHERE due_at IS NOT NULL;

  -- What a job leaves alone: uids of OP sessions, handles of Interactions, grants.
  CREATE TABLE spared (
    job  BIGINT NOT NULL REFERENCES end_job (seq) ON DELETE CASCADE,
    name TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (job, name)
  );
  CREATE INDEX spared_by_name ON spared (name);

  -- Attempts are forgotten by their age, issuer by issuer; one without an issuer goes with its logout.
  ALTER TABLE attempt ADD COLUMN issuer INTEGER;
  UPDATE attempt SET issuer = d.issuer FROM delivery d WHERE d.seq = attempt.delivery;
  CREATE INDEX attempt_by_time ON attempt (issuer, finished_at);
  `,
  `
  -- What an operator asks about deliveries and does with them. scheduled_at is when the horizon was begun anew.
  ALTER TABLE attempt ADD COLUMN due_at BIGINT;
  ALTER TABLE attempt ADD COLUMN connected_at BIGINT;
  ALTER TABLE attempt ADD COLUMN answered_at BIGINT;
  ALTER TABLE delivery ADD COLUMN scheduled_at BIGINT;
  ALTER TABLE delivery ADD COLUMN dropped_by TEXT;
  ALTER TABLE logout ADD COLUMN trace TEXT;
  CREATE INDEX delivery_by_state ON delivery (issuer, state, seq) WHERE state <> 'delivered';
  CREATE INDEX delivery_failed   ON delivery (issuer, client_id, state, seq) WHERE state IN ('refused', 'dead');
  CREATE INDEX logout_by_account ON logout (issuer, account_id, cursor);

  -- RPs from which nothing but failures comes, since when (by the database's clock), and when that was told.
  CREATE TABLE client_trouble (
    issuer    INTEGER NOT NULL,
    client_id TEXT COLLATE "C" NOT NULL,
    since     BIGINT NOT NULL,
    told_at   BIGINT,
    PRIMARY KEY (issuer, client_id)
  );
  `,
  `
  -- Attempts at URIs that registered themselves and never answered (T8): name says of what, taken_until (epoch milliseconds by
  -- the database's clock) how far the budget is used up; it is full again by expires_at.
  CREATE TABLE attempt_budget (
    issuer      INTEGER NOT NULL,
    name        TEXT COLLATE "C" NOT NULL,
    taken_until BIGINT NOT NULL,
    expires_at  BIGINT NOT NULL,
    PRIMARY KEY (issuer, name)
  );
  CREATE INDEX attempt_budget_by_expiry ON attempt_budget (issuer, expires_at);

  -- Logout URIs (as hashes) that have answered 200 to this client's Logout Token; answered_at (epoch milliseconds) says when
  -- last, to within a day.
  CREATE TABLE answered_uri (
    issuer      INTEGER NOT NULL,
    client_id   TEXT COLLATE "C" NOT NULL,
    uri         TEXT COLLATE "C" NOT NULL,
    answered_at BIGINT NOT NULL,
    PRIMARY KEY (issuer, client_id, uri)
  );
  CREATE INDEX answered_uri_by_age ON answered_uri (issuer, answered_at);
  `,
  `
  -- A handle that was replaced, epoch seconds: a request that still carries it belongs to a browser that has the new one.
  ALTER TABLE op_session_handle ADD COLUMN retired_at BIGINT;
  `,
  `
  -- Attempts that were finished when a delivery was given a new horizon: its schedule begins anew.
  ALTER TABLE delivery ADD COLUMN attempts_before INTEGER;
  `,
  `
  -- What one RP is owed, by age: an operator asks for it, and the backlog of another may be a million rows.
  CREATE INDEX delivery_waiting ON delivery (issuer, client_id, seq) WHERE due_at IS NOT NULL;
  `,
  `
  -- An OP session is found by the sid of an ID Token hint.
  CREATE INDEX op_session_client_by_sid ON op_session_client (issuer, client_id, sid);
  `,
  `
  -- The erasure of an account (T30): after_kind and after_handle say how far its models were looked through, NULL once that is over.
  -- at and due_at are by the database's clock.
  CREATE TABLE erasure (
    seq          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    issuer       INTEGER NOT NULL,
    id           TEXT COLLATE "C" NOT NULL,
    job_id       TEXT COLLATE "C" NOT NULL,
    account_id   TEXT COLLATE "C",      -- NULL once done
    at           BIGINT NOT NULL,
    after_kind   TEXT COLLATE "C",
    after_handle TEXT COLLATE "C" NOT NULL,
    due_at       BIGINT,                -- NULL once done
    finished_at  BIGINT,
    UNIQUE (issuer, id),
    CHECK ((due_at IS NULL) = (finished_at IS NOT NULL)),
    CHECK ((account_id IS NULL) = (finished_at IS NOT NULL))
  );
  CREATE INDEX erasure_due ON erasure (issuer, due_at) WHERE due_at IS NOT NULL;
  `,
  `
  -- What somebody owns and what never expires: when a job is forgotten that refuses it, it goes first. There is little of it.
  CREATE INDEX model_for_ever ON model (issuer, account_id) WHERE expires_at IS NULL AND account_id IS NOT NULL;
  `,
  `
  -- When a logout was found to have reached all of its RPs: said once.
  ALTER TABLE logout ADD COLUMN propagated_at BIGINT;
  `,
  `
  -- When the last walk through the models began; NULL as long as it is the first, which began with the erasure.
  ALTER TABLE erasure ADD COLUMN walk_at BIGINT;
  `,
  `
  -- When the RP failed last (by the database's clock): failures far apart are no one trouble.
  ALTER TABLE client_trouble ADD COLUMN failed_at BIGINT;
  `,
]

const oneAtATime = statement('migrate_lock', 'SELECT pg_advisory_xact_lock(hashtextextended($1, 0))')
const findSchema = statement<{ found: 1 }>('migrate_schema', 'SELECT 1 AS found FROM pg_namespace WHERE nspname = $1')
const findTable = statement<{ found: boolean }>('migrate_table', 'SELECT to_regclass($1) IS NOT NULL AS found')
const latest = statement<{ step: number }>(
  'migrate_latest',
  'SELECT coalesce(max(step), 0)::int AS step FROM migration',
)

/**
 * Brings the schema up to date, whole or not at all; of several nodes that start at once one does it, the others wait.
 *
 * @param target The step to stop at: the newest, except in tests of what a newer one does to older tables.
 * @throws LockstepError `store_failed` when a newer Lockstep has been here.
 */
export async function migrate(
  db: Postgres,
  { schema, place }: Pick<ResolvedPostgresOptions, 'schema' | 'place'>,
  target: number = steps.length,
): Promise<void> {
  await db.transaction(async (queries) => {
    await queries.command('SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0') // others may be long at it
    await queries.all(oneAtATime, `lockstep migrate ${schema}`)
    await createFirstTable(queries, schema)
    const { step: taken = 0 } = (await queries.first(latest)) ?? {}
    if (taken > steps.length) {
      throw new LockstepError(
        'store_failed',
        `PostgreSQL at ${place} has schema ${taken}, this Lockstep knows ${steps.length}: a newer Lockstep wrote it`,
      )
    }
    for (const [i, step] of steps.slice(0, target).entries()) {
      if (i < taken) continue
      await queries.command(step)
      await queries.command(`INSERT INTO migration (step) VALUES (${i + 1})`)
    }
  })
}

async function createFirstTable(queries: Commands, schema: string): Promise<void> {
  // CREATE ... IF NOT EXISTS would want the right to create even where there is nothing to do
  if (!(await queries.first(findSchema, schema))) await queries.command(`CREATE SCHEMA "${schema}"`)
  if ((await queries.first(findTable, `"${schema}".migration`))?.found) return
  await queries.command(
    'CREATE TABLE migration (step INTEGER PRIMARY KEY, taken_at TIMESTAMPTZ NOT NULL DEFAULT now())',
  )
}
