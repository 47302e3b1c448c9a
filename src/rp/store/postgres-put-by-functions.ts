/*
 * What the front channel leaves of an RP session, a fence for refreshed tokens, and which RP sessions a debt downstream stems
 * from. A node of the version before goes on calling these functions as it did; its `rp_save_tokens` has no fence.
 *
 * Rows of rp_ended are locked before those of rp_put_by: a refresh that comes late either finds the end that a Logout Token
 * has confirmed, or its refresh token is found by that Logout Token.
 */
export const putByFunctions: string = `
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
CREATE INDEX rp_put_by_expiry ON rp_put_by (expires_at);

CREATE OR REPLACE FUNCTION rp_sweep(p_now BIGINT) RETURNS VOID LANGUAGE plpgsql AS $$
DECLARE
  v_seconds DOUBLE PRECISION := p_now / 1000.0;
BEGIN
  DELETE FROM rp_session WHERE (client, handle) IN (SELECT client, handle FROM rp_session
    WHERE expires_at <= v_seconds ORDER BY expires_at LIMIT 20 FOR UPDATE SKIP LOCKED);
  DELETE FROM rp_ended WHERE (client, handle) IN (SELECT client, handle FROM rp_ended
    WHERE expires_at <= v_seconds ORDER BY expires_at LIMIT 20 FOR UPDATE SKIP LOCKED);
  DELETE FROM rp_put_by WHERE (client, handle) IN (SELECT client, handle FROM rp_put_by
    WHERE expires_at <= v_seconds ORDER BY expires_at LIMIT 20 FOR UPDATE SKIP LOCKED);
  DELETE FROM rp_logged_out WHERE (client, kind, name_key) IN (SELECT client, kind, name_key FROM rp_logged_out
    WHERE expires_at <= v_seconds ORDER BY expires_at LIMIT 20 FOR UPDATE SKIP LOCKED);
  DELETE FROM rp_jti WHERE (client, jti_key) IN (SELECT client, jti_key FROM rp_jti
    WHERE expires_at <= v_seconds ORDER BY expires_at LIMIT 20 FOR UPDATE SKIP LOCKED);
END
$$;

CREATE OR REPLACE FUNCTION rp_end(p_session rp_session, p_end TEXT, p_revoke_offline BOOLEAN, p_now BIGINT) RETURNS VOID
LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM rp_session WHERE client = p_session.client AND handle = p_session.handle;
  INSERT INTO rp_ended (client, handle, public_id, ended, expires_at, revoke_offline)
    VALUES (p_session.client, p_session.handle, p_session.public_id, p_end, p_session.expires_at, p_revoke_offline)
    ON CONFLICT (client, handle) DO UPDATE SET public_id = excluded.public_id, ended = excluded.ended,
      expires_at = excluded.expires_at, revoke_offline = excluded.revoke_offline;
  IF p_session.refresh_token IS NOT NULL AND (p_revoke_offline OR NOT p_session.refresh_offline) THEN
    PERFORM rp_owe(p_session, p_now);
  END IF;
END
$$;

CREATE FUNCTION rp_owe_token(p_client INTEGER, p_token TEXT, p_now BIGINT) RETURNS VOID LANGUAGE sql AS $$
  INSERT INTO rp_owed (client, token, owed_since, attempts, due_at) VALUES (p_client, p_token, p_now, 0, p_now)
$$;

-- Owes what the front channel has left of the RP sessions that a logout means: with a first ID Token until p_latest.
CREATE FUNCTION rp_end_put_by(
  p_client INTEGER, p_kind TEXT, p_name_key TEXT, p_sub_key TEXT, p_latest DOUBLE PRECISION, p_end TEXT,
  p_revoke_offline BOOLEAN, p_now BIGINT
) RETURNS VOID LANGUAGE plpgsql AS $$
DECLARE
  v_handle TEXT;
  v_left rp_put_by;
BEGIN
  FOR v_handle IN
    SELECT handle FROM rp_put_by WHERE p_kind = 'sid' AND client = p_client AND sid_key = p_name_key
      AND (p_sub_key IS NULL OR sub_key = p_sub_key) AND first_iat <= p_latest AND expires_at > p_now / 1000.0
    UNION ALL
    SELECT handle FROM rp_put_by WHERE p_kind = 'sub' AND client = p_client AND sub_key = p_name_key
      AND first_iat <= p_latest AND expires_at > p_now / 1000.0
    ORDER BY handle
  LOOP
    UPDATE rp_ended SET ended = p_end, revoke_offline = p_revoke_offline WHERE client = p_client AND handle = v_handle;
    DELETE FROM rp_put_by WHERE client = p_client AND handle = v_handle RETURNING * INTO v_left;
    IF FOUND AND (p_revoke_offline OR NOT v_left.refresh_offline) THEN
      PERFORM rp_owe_token(p_client, v_left.refresh_token, p_now);
    END IF;
  END LOOP;
END
$$;

CREATE OR REPLACE FUNCTION rp_delete(
  p_client INTEGER, p_handle TEXT, p_end TEXT, p_now BIGINT, p_downstream TEXT DEFAULT NULL
) RETURNS SETOF rp_session LANGUAGE plpgsql AS $$
DECLARE
  v_now BIGINT := rp_now(p_now);
  v_session rp_session;
BEGIN
  SELECT * INTO v_session FROM rp_live(p_client, p_handle, v_now);
  IF v_session.handle IS NOT NULL THEN
    PERFORM rp_end(v_session, p_end, false, v_now);
    PERFORM rp_owe_downstream(p_client, p_downstream || E'\\n' || v_session.public_id, v_now);
    RETURN NEXT v_session;
  END IF;
END
$$;

CREATE OR REPLACE FUNCTION rp_end_by(
  p_client INTEGER, p_kind TEXT, p_name_key TEXT, p_sub_key TEXT, p_jti_key TEXT, p_jti_expires_at DOUBLE PRECISION,
  p_watermark DOUBLE PRECISION, p_watermark_expires_at DOUBLE PRECISION, p_end TEXT, p_revoke_offline BOOLEAN,
  p_now BIGINT, p_sid_reused BOOLEAN DEFAULT false, p_downstream TEXT DEFAULT NULL
) RETURNS TABLE (outcome TEXT, found rp_session) LANGUAGE plpgsql AS $$
DECLARE
  v_now BIGINT;
  v_seconds DOUBLE PRECISION;
  v_latest DOUBLE PRECISION;
  v_session rp_session;
  v_named INTEGER := 0;
  v_of_sub INTEGER := 0;
  v_members rp_session[] := '{}';
  v_ids TEXT := '';
BEGIN
  PERFORM pg_advisory_xact_lock(rp_name_lock(p_client, p_kind, p_name_key));
  v_now := rp_now(p_now);
  v_seconds := v_now / 1000.0;
  v_latest := CASE WHEN p_kind = 'sub' OR p_sid_reused THEN least(p_watermark, v_seconds) ELSE 'Infinity' END;
  IF EXISTS (SELECT FROM rp_jti WHERE client = p_client AND jti_key = p_jti_key AND expires_at > v_seconds) THEN
    RETURN QUERY SELECT 'replay', NULL::rp_session;
    RETURN;
  END IF;
  IF p_kind = 'sid' THEN
    FOR v_session IN SELECT * FROM rp_session WHERE client = p_client AND sid_key = p_name_key
      AND idle_expires_at > v_seconds AND expires_at > v_seconds ORDER BY handle FOR UPDATE
    LOOP
      v_named := v_named + 1;
      CONTINUE WHEN v_session.sub_key <> p_sub_key;
      v_of_sub := v_of_sub + 1;
      CONTINUE WHEN v_session.first_iat > v_latest;
      v_members := v_members || v_session;
      v_ids := v_ids || E'\\n' || v_session.public_id;
    END LOOP;
    IF v_named > 0 AND v_of_sub = 0 THEN
      RETURN QUERY SELECT 'sub_mismatch', NULL::rp_session;
      RETURN;
    END IF;
  ELSE
    FOR v_session IN SELECT * FROM rp_session WHERE client = p_client AND sub_key = p_name_key AND first_iat <= v_latest
      AND idle_expires_at > v_seconds AND expires_at > v_seconds ORDER BY handle FOR UPDATE
    LOOP
      v_members := v_members || v_session;
      v_ids := v_ids || E'\\n' || v_session.public_id;
    END LOOP;
  END IF;
  -- A copy of the token that names somebody else does not wait for the lock above, but it does wait here.
  INSERT INTO rp_jti AS known VALUES (p_client, p_jti_key, p_jti_expires_at)
    ON CONFLICT (client, jti_key) DO UPDATE SET expires_at = excluded.expires_at WHERE known.expires_at <= v_seconds;
  IF NOT FOUND THEN
    RETURN QUERY SELECT 'replay', NULL::rp_session;
    RETURN;
  END IF;
  INSERT INTO rp_logged_out AS known
    VALUES (p_client, p_kind, p_name_key, v_now, p_watermark_expires_at, least(p_watermark, v_seconds))
    ON CONFLICT (client, kind, name_key) DO UPDATE
    SET arrived_at = greatest(known.arrived_at, excluded.arrived_at),
      expires_at = greatest(known.expires_at, excluded.expires_at),
      watermark = greatest(known.watermark, excluded.watermark);
  PERFORM rp_owe_downstream(p_client, p_downstream || v_ids, v_now);
  PERFORM rp_end_put_by(p_client, p_kind, p_name_key, p_sub_key, v_latest, p_end, p_revoke_offline, v_now);
  PERFORM rp_sweep(v_now);
  RETURN QUERY SELECT 'ended', NULL::rp_session;
  FOREACH v_session IN ARRAY v_members LOOP
    PERFORM rp_end(v_session, p_end, p_revoke_offline, v_now);
    RETURN QUERY SELECT 'ended', v_session;
  END LOOP;
END
$$;

CREATE OR REPLACE FUNCTION rp_delete_by_sid(p_client INTEGER, p_sid_key TEXT, p_end TEXT, p_now BIGINT)
RETURNS SETOF rp_session LANGUAGE plpgsql AS $$
DECLARE
  v_now BIGINT := rp_now(p_now);
  v_session rp_session;
  v_without_refresh_token rp_session;
BEGIN
  FOR v_session IN SELECT * FROM rp_session WHERE client = p_client AND sid_key = p_sid_key
    AND idle_expires_at > v_now / 1000.0 AND expires_at > v_now / 1000.0 ORDER BY handle FOR UPDATE
  LOOP
    v_without_refresh_token := v_session;
    v_without_refresh_token.refresh_token := NULL;
    PERFORM rp_end(v_without_refresh_token, p_end, false, v_now);
    IF v_session.refresh_token IS NOT NULL THEN
      INSERT INTO rp_put_by VALUES (p_client, v_session.handle, v_session.sid_key, v_session.sub_key, v_session.first_iat,
        v_session.refresh_token, v_session.refresh_offline, v_session.expires_at) ON CONFLICT DO NOTHING;
    END IF;
    RETURN NEXT v_session;
  END LOOP;
END
$$;

CREATE FUNCTION rp_save_tokens(
  p_client INTEGER, p_handle TEXT, p_tokens TEXT, p_refresh_token TEXT, p_refresh_offline BOOLEAN, p_used TEXT,
  p_now BIGINT
) RETURNS TEXT LANGUAGE plpgsql AS $$
DECLARE
  v_now BIGINT := rp_now(p_now);
  v_session rp_session;
  v_past rp_ended;
BEGIN
  SELECT * INTO v_session FROM rp_live(p_client, p_handle, v_now);
  IF v_session.handle IS NOT NULL THEN
    IF v_session.refresh_token IS DISTINCT FROM p_used THEN RETURN 'outdated'; END IF;
    UPDATE rp_session SET tokens = p_tokens, refresh_token = p_refresh_token, refresh_offline = p_refresh_offline
      WHERE client = p_client AND handle = p_handle;
    DELETE FROM rp_refreshing WHERE client = p_client AND handle = p_handle;
    RETURN 'saved';
  END IF;
  DELETE FROM rp_refreshing WHERE client = p_client AND handle = p_handle;
  IF p_refresh_token IS NULL THEN RETURN 'gone'; END IF;
  SELECT * INTO v_past FROM rp_ended WHERE client = p_client AND handle = p_handle AND expires_at > v_now / 1000.0
    FOR UPDATE;
  IF v_past.handle IS NULL THEN RETURN 'gone'; END IF;
  IF v_past.ended::json ->> 'cause' = 'frontchannel' THEN
    UPDATE rp_put_by SET refresh_token = p_refresh_token, refresh_offline = p_refresh_offline
      WHERE client = p_client AND handle = p_handle;
  ELSIF v_past.revoke_offline OR NOT p_refresh_offline THEN
    PERFORM rp_owe_token(p_client, p_refresh_token, v_now);
  END IF;
  RETURN 'gone';
END
$$;
`
