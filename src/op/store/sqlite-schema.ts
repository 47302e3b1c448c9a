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
]

/**
 * Brings the file's schema up to date, whole or not at all.
 *
 * @throws LockstepError `store_failed` when a newer Lockstep has written the file.
 */
export function migrate(db: Sqlite): void {
  db.transaction(() => {
    const version = db.pragma('user_version', { simple: true }) as number
    if (version > steps.length) {
      throw new LockstepError(
        'store_failed',
        `SQLite file ${db.name} has schema ${version}, this Lockstep knows ${steps.length}: a newer Lockstep wrote it`,
      )
    }
    for (const step of steps.slice(version)) db.exec(step)
    db.pragma(`user_version = ${steps.length}`)
  }).immediate()
}
