import { LockstepError } from '../../protocol/errors.ts'
import type { Sqlite } from '../../runtime/sqlite.ts'

/**
 * The steps from an empty file to the present schema; a file's `user_version` counts the steps it has taken.
 *
 * Published steps never change, new ones are appended. Every table starts with the issuer, or hangs on one that does (T20); epoch seconds are for
 * what expires, epoch milliseconds for the outbox.
 */
const steps: readonly string[] = [
  `
  CREATE TABLE issuer (
    id  INTEGER PRIMARY KEY,
    url TEXT NOT NULL UNIQUE
  ) STRICT;

  CREATE TABLE secret (
    issuer INTEGER NOT NULL REFERENCES issuer,
    name   TEXT NOT NULL,
    value  TEXT NOT NULL,
    PRIMARY KEY (issuer, name)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE model (
    issuer     INTEGER NOT NULL REFERENCES issuer,
    kind       TEXT NOT NULL,
    handle     TEXT NOT NULL,
    payload    TEXT NOT NULL,
    expires_at INTEGER,
    grant_id   TEXT,
    alias      TEXT,
    PRIMARY KEY (issuer, kind, handle)
  ) STRICT;
  CREATE INDEX model_by_grant  ON model (issuer, grant_id) WHERE grant_id IS NOT NULL;
  CREATE INDEX model_by_alias  ON model (issuer, kind, alias) WHERE alias IS NOT NULL;
  CREATE INDEX model_by_expiry ON model (issuer, expires_at) WHERE expires_at IS NOT NULL;

  CREATE TABLE op_session (
    issuer     INTEGER NOT NULL REFERENCES issuer,
    uid        TEXT NOT NULL,
    handle     TEXT NOT NULL,
    account_id TEXT,
    payload    TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (issuer, uid)
  ) STRICT;
  CREATE INDEX op_session_by_account ON op_session (issuer, account_id) WHERE account_id IS NOT NULL;
  CREATE INDEX op_session_by_expiry  ON op_session (issuer, expires_at);

  -- Two requests may rotate the cookie of one OP session at once: both new handles work, each until it is retired.
  CREATE TABLE op_session_handle (
    issuer INTEGER NOT NULL REFERENCES issuer,
    handle TEXT NOT NULL,
    uid    TEXT NOT NULL,
    PRIMARY KEY (issuer, handle)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX op_session_handle_by_uid ON op_session_handle (issuer, uid);

  -- Not bound to op_session by a foreign key: a login is recorded before a new OP session is saved for the first time.
  CREATE TABLE op_session_client (
    issuer          INTEGER NOT NULL REFERENCES issuer,
    uid             TEXT NOT NULL,
    client_id       TEXT NOT NULL,
    sid             TEXT NOT NULL,
    grant_id        TEXT,
    persists_logout INTEGER NOT NULL,
    PRIMARY KEY (issuer, uid, client_id)
  ) STRICT, WITHOUT ROWID;

  -- OP sessions under which a login was recorded and which were not saved yet.
  CREATE TABLE op_session_pending (
    issuer     INTEGER NOT NULL REFERENCES issuer,
    uid        TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (issuer, uid)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX op_session_pending_by_expiry ON op_session_pending (issuer, expires_at);

  -- What a write that is still on its way must not bring back: kind is uid, handle or grant.
  CREATE TABLE tombstone (
    issuer     INTEGER NOT NULL REFERENCES issuer,
    kind       TEXT NOT NULL,
    name       TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (issuer, kind, name)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX tombstone_by_expiry ON tombstone (issuer, expires_at);

  CREATE TABLE logout (
    cursor     INTEGER PRIMARY KEY AUTOINCREMENT,
    issuer     INTEGER NOT NULL REFERENCES issuer,
    id         TEXT NOT NULL,
    uid        TEXT NOT NULL,
    account_id TEXT NOT NULL,
    cause      TEXT NOT NULL,
    initiator  TEXT,
    actor      TEXT,
    ended_at   INTEGER NOT NULL,
    UNIQUE (issuer, id)
  ) STRICT;

  CREATE TABLE delivery (
    seq           INTEGER PRIMARY KEY AUTOINCREMENT,
    issuer        INTEGER NOT NULL REFERENCES issuer,
    id            TEXT NOT NULL,
    logout        INTEGER NOT NULL REFERENCES logout (cursor),
    client_id     TEXT NOT NULL,
    sid           TEXT NOT NULL,
    state         TEXT NOT NULL,
    attempts      INTEGER NOT NULL DEFAULT 0,
    created_at    INTEGER NOT NULL,
    due_at        INTEGER,               -- the end of the lease while in flight, NULL once final
    final_at      INTEGER,
    fence         INTEGER NOT NULL DEFAULT 0,
    refusals      INTEGER NOT NULL DEFAULT 0,
    refused_since INTEGER,
    last_outcome  TEXT,
    UNIQUE (issuer, id),
    CHECK ((due_at IS NULL) = (state IN ('delivered', 'refused', 'dead'))),
    CHECK ((due_at IS NULL) = (final_at IS NOT NULL))
  ) STRICT;
  CREATE INDEX delivery_by_logout ON delivery (logout);
  CREATE INDEX delivery_owed      ON delivery (issuer, client_id, due_at, seq) WHERE due_at IS NOT NULL;

  CREATE TABLE attempt (
    delivery    INTEGER NOT NULL REFERENCES delivery (seq),
    number      INTEGER NOT NULL,
    started_at  INTEGER NOT NULL,
    finished_at INTEGER NOT NULL,
    outcome     TEXT NOT NULL,
    PRIMARY KEY (delivery, number)
  ) STRICT, WITHOUT ROWID;
  `,
  `
  -- Notices that a page shows in frames. They go with their logout.
  CREATE TABLE frame_notice (
    logout    INTEGER NOT NULL REFERENCES logout (cursor) ON DELETE CASCADE,
    position  INTEGER NOT NULL,
    client_id TEXT NOT NULL,
    sid       TEXT NOT NULL,
    framed_at INTEGER,
    PRIMARY KEY (logout, position)
  ) STRICT, WITHOUT ROWID;
  `,
  `
  -- since: epoch milliseconds of the login, of an RP's login, and of a model or its Grant; what stood here before is old.
  ALTER TABLE op_session ADD COLUMN since INTEGER NOT NULL DEFAULT 0;
  UPDATE op_session SET since = created_at * 1000;
  DROP INDEX op_session_by_account;
  CREATE INDEX op_session_by_account ON op_session (issuer, account_id, since, uid) WHERE account_id IS NOT NULL;
  CREATE INDEX op_session_by_login   ON op_session (issuer, since, uid) WHERE account_id IS NOT NULL;

  ALTER TABLE op_session_client ADD COLUMN since INTEGER NOT NULL DEFAULT 0;
  CREATE INDEX op_session_client_by_client ON op_session_client (issuer, client_id, since, uid);

  ALTER TABLE model ADD COLUMN account_id TEXT;
  ALTER TABLE model ADD COLUMN client_id TEXT;
  ALTER TABLE model ADD COLUMN since INTEGER NOT NULL DEFAULT 0;
  UPDATE model SET
    account_id = CASE kind WHEN 'Interaction' THEN json_extract(payload, '$.result.login.accountId')
                 ELSE json_extract(payload, '$.accountId') END,
    client_id = CASE kind WHEN 'Interaction' THEN NULL ELSE json_extract(payload, '$.clientId') END;
  DROP INDEX model_by_grant;
  CREATE INDEX model_by_grant ON model (issuer, grant_id, kind) WHERE grant_id IS NOT NULL;

  ALTER TABLE logout ADD COLUMN reason TEXT;
  CREATE INDEX logout_by_time ON logout (issuer, ended_at);

  -- The end of all OP sessions of a scope: what it refuses (at), and the job that tells of it. scope is account, client or
  -- everyone (whose name is empty).
  CREATE TABLE end_job (
    seq            INTEGER PRIMARY KEY AUTOINCREMENT,
    issuer         INTEGER NOT NULL REFERENCES issuer,
    id             TEXT NOT NULL,
    scope          TEXT NOT NULL,
    name           TEXT NOT NULL,
    at             INTEGER NOT NULL,
    needed_until   INTEGER NOT NULL,      -- epoch seconds; by then what it refuses has expired
    revoke_offline INTEGER NOT NULL,
    cause          TEXT NOT NULL,
    actor          TEXT,
    reason         TEXT,
    total          INTEGER NOT NULL,
    ended          INTEGER NOT NULL DEFAULT 0,
    due_at         INTEGER,               -- NULL once done
    finished_at    INTEGER,
    UNIQUE (issuer, id),
    CHECK ((due_at IS NULL) = (finished_at IS NOT NULL))
  ) STRICT;
  CREATE INDEX end_job_by_scope ON end_job (issuer, scope, name, at);
  CREATE INDEX end_job_due      ON end_job (issuer, due_at) WHERE due_at IS NOT NULL;

  -- What a job leaves alone: uids of OP sessions, handles of Interactions, grants.
  CREATE TABLE spared (
    job  INTEGER NOT NULL REFERENCES end_job (seq),
    name TEXT NOT NULL,
    PRIMARY KEY (job, name)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX spared_by_name ON spared (name);

  -- Attempts are forgotten by their age, issuer by issuer.
  ALTER TABLE attempt RENAME TO attempt_before;
  CREATE TABLE attempt (
    issuer      INTEGER NOT NULL REFERENCES issuer,
    delivery    INTEGER NOT NULL REFERENCES delivery (seq),
    number      INTEGER NOT NULL,
    started_at  INTEGER NOT NULL,
    finished_at INTEGER NOT NULL,
    outcome     TEXT NOT NULL,
    PRIMARY KEY (delivery, number)
  ) STRICT, WITHOUT ROWID;
  INSERT INTO attempt
    SELECT d.issuer, a.delivery, a.number, a.started_at, a.finished_at, a.outcome
    FROM attempt_before a JOIN delivery d ON d.seq = a.delivery;
  DROP TABLE attempt_before;
  CREATE INDEX attempt_by_time ON attempt (issuer, finished_at);
  `,
  `
  -- What an operator asks about deliveries and does with them. scheduled_at is when the horizon was begun anew.
  ALTER TABLE attempt ADD COLUMN due_at INTEGER;
  ALTER TABLE attempt ADD COLUMN connected_at INTEGER;
  ALTER TABLE attempt ADD COLUMN answered_at INTEGER;
  ALTER TABLE delivery ADD COLUMN scheduled_at INTEGER;
  ALTER TABLE delivery ADD COLUMN dropped_by TEXT;
  ALTER TABLE logout ADD COLUMN trace TEXT;
  CREATE INDEX delivery_by_state ON delivery (issuer, state, seq) WHERE state <> 'delivered';
  CREATE INDEX delivery_failed   ON delivery (issuer, client_id, state, seq) WHERE state IN ('refused', 'dead');
  CREATE INDEX logout_by_account ON logout (issuer, account_id, cursor);

  -- RPs from which nothing but failures comes, since when, and when that was told.
  CREATE TABLE client_trouble (
    issuer    INTEGER NOT NULL REFERENCES issuer,
    client_id TEXT NOT NULL,
    since     INTEGER NOT NULL,
    told_at   INTEGER,
    PRIMARY KEY (issuer, client_id)
  ) STRICT, WITHOUT ROWID;
  `,
  `
  -- Attempts at URIs that registered themselves and never answered (T8): name says of what, taken_until (epoch milliseconds)
  -- how far the budget is used up; it is full again by expires_at.
  CREATE TABLE attempt_budget (
    issuer      INTEGER NOT NULL REFERENCES issuer,
    name        TEXT NOT NULL,
    taken_until INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL,
    PRIMARY KEY (issuer, name)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX attempt_budget_by_expiry ON attempt_budget (issuer, expires_at);

  -- Logout URIs (as hashes) that have answered 200 to this client's Logout Token; answered_at (epoch milliseconds) says when
  -- last, to within a day.
  CREATE TABLE answered_uri (
    issuer      INTEGER NOT NULL REFERENCES issuer,
    client_id   TEXT NOT NULL,
    uri         TEXT NOT NULL,
    answered_at INTEGER NOT NULL,
    PRIMARY KEY (issuer, client_id, uri)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX answered_uri_by_age ON answered_uri (issuer, answered_at);
  `,
  `
  -- A handle that was replaced, epoch seconds: a request that still carries it belongs to a browser that has the new one.
  ALTER TABLE op_session_handle ADD COLUMN retired_at INTEGER;
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
  -- A token is written with nearly each request: rows that lie in their key's own tree are one tree less to write.
  ALTER TABLE model RENAME TO model_before;
  CREATE TABLE model (
    issuer     INTEGER NOT NULL REFERENCES issuer,
    kind       TEXT NOT NULL,
    handle     TEXT NOT NULL,
    payload    TEXT NOT NULL,
    expires_at INTEGER,
    grant_id   TEXT,
    alias      TEXT,
    account_id TEXT,
    client_id  TEXT,
    since      INTEGER NOT NULL,
    PRIMARY KEY (issuer, kind, handle)
  ) STRICT, WITHOUT ROWID;
  INSERT INTO model
    SELECT issuer, kind, handle, payload, expires_at, grant_id, alias, account_id, client_id, since FROM model_before;
  DROP TABLE model_before;
  CREATE INDEX model_by_grant  ON model (issuer, grant_id, kind) WHERE grant_id IS NOT NULL;
  CREATE INDEX model_by_alias  ON model (issuer, kind, alias) WHERE alias IS NOT NULL;
  CREATE INDEX model_by_expiry ON model (issuer, expires_at) WHERE expires_at IS NOT NULL;
  `,
  `
  -- The erasure of an account (T30): after_kind and after_handle say how far its models were looked through, NULL once that is over.
  CREATE TABLE erasure (
    seq          INTEGER PRIMARY KEY AUTOINCREMENT,
    issuer       INTEGER NOT NULL REFERENCES issuer,
    id           TEXT NOT NULL,
    job_id       TEXT NOT NULL,
    account_id   TEXT,                  -- NULL once done
    at           INTEGER NOT NULL,
    after_kind   TEXT,
    after_handle TEXT NOT NULL,
    due_at       INTEGER,               -- NULL once done
    finished_at  INTEGER,
    UNIQUE (issuer, id),
    CHECK ((due_at IS NULL) = (finished_at IS NOT NULL)),
    CHECK ((account_id IS NULL) = (finished_at IS NOT NULL))
  ) STRICT;
  CREATE INDEX erasure_due ON erasure (issuer, due_at) WHERE due_at IS NOT NULL;
  `,
  `
  -- What somebody owns and what never expires: when a job is forgotten that refuses it, it goes first. There is little of it.
  CREATE INDEX model_for_ever ON model (issuer, account_id) WHERE expires_at IS NULL AND account_id IS NOT NULL;
  `,
  `
  -- When a logout was found to have reached all of its RPs: said once.
  ALTER TABLE logout ADD COLUMN propagated_at INTEGER;
  `,
  `
  -- When the last walk through the models began; NULL as long as it is the first, which began with the erasure.
  ALTER TABLE erasure ADD COLUMN walk_at INTEGER;
  `,
  `
  -- When the RP failed last: failures far apart are no one trouble.
  ALTER TABLE client_trouble ADD COLUMN failed_at INTEGER;
  `,
]

/**
 * Brings the file's schema up to date, whole or not at all.
 *
 * @param target The schema to stop at: the newest, except in tests of what a newer one does to an older file.
 * @throws LockstepError `store_failed` when a newer Lockstep has written the file.
 */
export function migrate(db: Sqlite, target: number = steps.length): void {
  db.transaction(() => {
    const version = db.pragma('user_version', { simple: true }) as number
    if (version > steps.length) {
      throw new LockstepError(
        'store_failed',
        `SQLite file ${db.name} has schema ${version}, this Lockstep knows ${steps.length}: a newer Lockstep wrote it`,
      )
    }
    for (const step of steps.slice(version, target)) db.exec(step)
    db.pragma(`user_version = ${target}`)
  }).immediate()
}
