import { LockstepError } from '../../protocol/errors.ts'
import type { Sqlite } from '../../runtime/sqlite.ts'

// Each row starts with the client it belongs to: (issuer, client_id), as one small number (T20).
const migrations: readonly string[] = [
  `CREATE TABLE rp_client (id INTEGER PRIMARY KEY, issuer TEXT NOT NULL, client_id TEXT NOT NULL, UNIQUE (issuer, client_id));

  CREATE TABLE rp_session (
    client INTEGER NOT NULL REFERENCES rp_client, handle TEXT NOT NULL, public_id TEXT NOT NULL,
    sub TEXT NOT NULL, sid TEXT, first_iat REAL NOT NULL,
    created_at INTEGER NOT NULL, idle_expires_at INTEGER NOT NULL, expires_at INTEGER NOT NULL,
    data TEXT NOT NULL, session_state TEXT, tokens TEXT NOT NULL, refresh_token TEXT, refresh_offline INTEGER,
    PRIMARY KEY (client, handle)) WITHOUT ROWID;
  CREATE INDEX rp_session_sid ON rp_session (client, sid) WHERE sid IS NOT NULL;
  CREATE INDEX rp_session_sub ON rp_session (client, sub);
  CREATE INDEX rp_session_expiry ON rp_session (expires_at);

  CREATE TABLE rp_ended (
    client INTEGER NOT NULL REFERENCES rp_client, handle TEXT NOT NULL, public_id TEXT NOT NULL,
    ended TEXT NOT NULL, expires_at INTEGER NOT NULL, PRIMARY KEY (client, handle)) WITHOUT ROWID;
  CREATE INDEX rp_ended_expiry ON rp_ended (expires_at);

  CREATE TABLE rp_logged_out (
    client INTEGER NOT NULL REFERENCES rp_client, kind TEXT NOT NULL CHECK (kind IN ('sid', 'sub')), value TEXT NOT NULL,
    arrived_at INTEGER NOT NULL, expires_at INTEGER NOT NULL, PRIMARY KEY (client, kind, value)) WITHOUT ROWID;
  CREATE INDEX rp_logged_out_expiry ON rp_logged_out (expires_at);

  CREATE TABLE rp_jti (
    client INTEGER NOT NULL REFERENCES rp_client, jti TEXT NOT NULL, expires_at REAL NOT NULL,
    PRIMARY KEY (client, jti)) WITHOUT ROWID;
  CREATE INDEX rp_jti_expiry ON rp_jti (expires_at);

  CREATE TABLE rp_owed (
    id INTEGER PRIMARY KEY, client INTEGER NOT NULL REFERENCES rp_client, token TEXT NOT NULL,
    owed_since INTEGER NOT NULL, attempts INTEGER NOT NULL, due_at INTEGER NOT NULL);
  CREATE INDEX rp_owed_due ON rp_owed (client, due_at);`,

  // Epoch milliseconds until which one process may use the refresh token.
  'ALTER TABLE rp_session ADD COLUMN refreshing_until INTEGER NOT NULL DEFAULT 0',

  // When a logout was, beside when it came; and debts of two kinds, each with a queue of its own.
  `ALTER TABLE rp_logged_out ADD COLUMN watermark REAL NOT NULL DEFAULT 0;
  UPDATE rp_logged_out SET watermark = arrived_at / 1000.0;
  ALTER TABLE rp_owed RENAME COLUMN token TO debt;
  ALTER TABLE rp_owed ADD COLUMN kind TEXT NOT NULL DEFAULT 'revocation';
  DROP INDEX rp_owed_due;
  CREATE INDEX rp_owed_due ON rp_owed (client, kind, due_at);`,

  // Refresh tokens that the front channel left; and whether those with offline_access were to go too.
  `CREATE TABLE rp_put_by (
    client INTEGER NOT NULL REFERENCES rp_client, handle TEXT NOT NULL, sid TEXT NOT NULL, sub TEXT NOT NULL,
    first_iat REAL NOT NULL, refresh_token TEXT NOT NULL, refresh_offline INTEGER NOT NULL, expires_at INTEGER NOT NULL,
    PRIMARY KEY (client, handle)) WITHOUT ROWID;
  CREATE INDEX rp_put_by_sid ON rp_put_by (client, sid);
  CREATE INDEX rp_put_by_sub ON rp_put_by (client, sub);
  CREATE INDEX rp_put_by_expiry ON rp_put_by (expires_at);
  ALTER TABLE rp_ended ADD COLUMN revoke_offline INTEGER NOT NULL DEFAULT 0;`,

  // The sids that an RP session has besides that of its login; asked_at in epoch milliseconds, 0 where only tokens had it.
  `CREATE TABLE rp_further_sid (
    client INTEGER NOT NULL, handle TEXT NOT NULL, sid TEXT NOT NULL, asked_at REAL NOT NULL, of_grant INTEGER NOT NULL,
    PRIMARY KEY (client, handle, sid),
    FOREIGN KEY (client, handle) REFERENCES rp_session ON DELETE CASCADE) WITHOUT ROWID;
  CREATE INDEX rp_further_sid_sid ON rp_further_sid (client, sid);`,

  // How many sids the RP session has learnt since.
  'ALTER TABLE rp_further_sid ADD COLUMN learnt_since INTEGER NOT NULL DEFAULT 0',

  // When a login was asked for, in epoch milliseconds. What the front channel ended stays in place, and says so; a refresh
  // token that it had put by under one name alone is owed.
  `ALTER TABLE rp_session ADD COLUMN requested_at REAL NOT NULL DEFAULT 0;
  UPDATE rp_session SET requested_at = created_at * 1000.0;
  ALTER TABLE rp_session ADD COLUMN framed TEXT;
  INSERT INTO rp_owed (client, kind, debt, owed_since, attempts, due_at)
    SELECT client, 'revocation', refresh_token, unixepoch() * 1000, 0, 0 FROM rp_put_by WHERE refresh_offline = 0;
  DROP TABLE rp_put_by;`,
]

/** Brings a file to the newest schema; several processes may try at once. */
export function migrate(db: Sqlite): void {
  const run = db.transaction(() => {
    db.exec('CREATE TABLE IF NOT EXISTS rp_schema (version INTEGER NOT NULL)')
    const version = (db.prepare('SELECT max(version) FROM rp_schema').pluck().get() as number | null) ?? 0
    if (version > migrations.length) {
      throw new LockstepError('store_failed', 'this RP store was written by a newer version of lockstep')
    }
    for (const sql of migrations.slice(version)) db.exec(sql)
    if (version < migrations.length) db.prepare('INSERT INTO rp_schema VALUES (?)').run(migrations.length)
  })
  run.immediate()
}
