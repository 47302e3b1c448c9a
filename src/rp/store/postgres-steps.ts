/**
 * The steps from no table to the present ones; `rp_migration` lists the steps taken. What must happen in one step of the store
 * is in functions, and those are made anew whenever a step is taken: a change of functions alone appends an empty step.
 *
 * Published steps never change, new ones are appended, and none breaks the nodes that still run the version before: what these
 * write must fit, a function that they call keeps its parameters (or stays beside the new one), and what they have prepared
 * returns whole rows of `rp_session`, which therefore gets no column. (Step 8 gave it two, when nothing was released yet.)
 *
 * Each row starts with the client it belongs to: (issuer, client_id), as one small number (T20). Columns that end in `_key`
 * are SHA-256 of what the OP sent: an index takes no text of any length.
 */
export const steps: readonly string[] = [
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
CREATE INDEX rp_owed_due ON rp_owed (client, due_at);`,

  // Who holds the right to refresh the tokens of an RP session.
  `
CREATE TABLE rp_refreshing (
  client     INTEGER NOT NULL,
  handle     TEXT COLLATE "C" NOT NULL,
  expires_at DOUBLE PRECISION NOT NULL,
  PRIMARY KEY (client, handle)
);
CREATE INDEX rp_refreshing_expiry ON rp_refreshing (expires_at);`,

  // When a logout was, beside when it came; and what is owed downstream, in a queue of its own.
  `
ALTER TABLE rp_logged_out ADD COLUMN watermark DOUBLE PRECISION NOT NULL DEFAULT 0;
UPDATE rp_logged_out SET watermark = arrived_at / 1000.0;
CREATE INDEX rp_logged_out_arrival ON rp_logged_out (client, arrived_at);

CREATE TABLE rp_owed_downstream (
  id         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  client     INTEGER NOT NULL,
  debt       TEXT NOT NULL,
  owed_since BIGINT NOT NULL,
  attempts   INTEGER NOT NULL,
  due_at     BIGINT NOT NULL
);
CREATE INDEX rp_owed_downstream_due ON rp_owed_downstream (client, due_at);`,

  '',

  // Refresh tokens that the front channel left; and whether those with offline_access were to go too.
  `
ALTER TABLE rp_ended ADD COLUMN revoke_offline BOOLEAN NOT NULL DEFAULT false;

CREATE TABLE rp_put_by (
  client          INTEGER NOT NULL,
  handle          TEXT COLLATE "C" NOT NULL,
  sid_key         TEXT COLLATE "C" NOT NULL,
  sub_key         TEXT COLLATE "C" NOT NULL,
  first_iat       DOUBLE PRECISION NOT NULL,
  refresh_token   TEXT NOT NULL,
  refresh_offline BOOLEAN NOT NULL,
  expires_at      DOUBLE PRECISION NOT NULL,
  PRIMARY KEY (client, handle)
);
CREATE INDEX rp_put_by_sid    ON rp_put_by (client, sid_key);
CREATE INDEX rp_put_by_sub    ON rp_put_by (client, sub_key);
CREATE INDEX rp_put_by_expiry ON rp_put_by (expires_at);`,

  // The sids that an RP session has besides that of its login.
  `
CREATE TABLE rp_further_sid (
  client   INTEGER NOT NULL,
  handle   TEXT COLLATE "C" NOT NULL,
  sid_key  TEXT COLLATE "C" NOT NULL,
  asked_at DOUBLE PRECISION NOT NULL, -- epoch milliseconds; 0 where only tokens had it
  of_grant BOOLEAN NOT NULL,
  learnt   INTEGER NOT NULL, -- grows with each that the RP session learns
  PRIMARY KEY (client, handle, sid_key),
  FOREIGN KEY (client, handle) REFERENCES rp_session ON DELETE CASCADE
);
CREATE INDEX rp_further_sid_sid ON rp_further_sid (client, sid_key);`,

  '',

  // When a login was asked for, in epoch milliseconds; and what the front channel ended stays in place and says how. The
  // refresh tokens that it had put by are owed: the rows that they were of are gone, so that a logout finds them no more.
  `
ALTER TABLE rp_session ADD COLUMN requested_at DOUBLE PRECISION, ADD COLUMN framed TEXT;
UPDATE rp_session SET requested_at = created_at * 1000;
ALTER TABLE rp_session ALTER COLUMN requested_at SET NOT NULL;

INSERT INTO rp_owed (client, token, owed_since, attempts, due_at)
  SELECT client, refresh_token, floor(extract(epoch FROM clock_timestamp()) * 1000), 0, 0
  FROM rp_put_by WHERE NOT refresh_offline;
DROP TABLE rp_put_by;`,
]
