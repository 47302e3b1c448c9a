/*
 * The sids that an RP session has besides that of its login, what an expired one leaves owed, and a login that comes too late
 * because the End-User has left. A node of the version before goes on calling these functions as it did, but for
 * `rp_change_sid`, which stays for it.
 *
 * A logout looks for handles first and then locks their rows, whatever sid they have by then: a sid is only ever added, so
 * one that was found is still meant.
 */
export const expiryFunctions: string = `
CREATE TABLE rp_further_sid (
  client   INTEGER NOT NULL,
  handle   TEXT COLLATE "C" NOT NULL,
  sid_key  TEXT COLLATE "C" NOT NULL,
  asked_at DOUBLE PRECISION NOT NULL, -- epoch milliseconds; 0 where only tokens had it
  of_grant BOOLEAN NOT NULL,
  PRIMARY KEY (client, handle, sid_key),
  FOREIGN KEY (client, handle) REFERENCES rp_session ON DELETE CASCADE
);
CREATE INDEX rp_further_sid_sid ON rp_further_sid (client, sid_key);

-- Whether the browser has shown another sid since this one was logged out, at the latest before this time in milliseconds.
CREATE FUNCTION rp_is_left_behind(p_client INTEGER, p_handle TEXT, p_sid_key TEXT, p_watermark DOUBLE PRECISION)
RETURNS BOOLEAN LANGUAGE sql VOLATILE AS $$
  SELECT EXISTS (SELECT FROM rp_further_sid WHERE client = p_client AND handle = p_handle AND sid_key <> p_sid_key
    AND asked_at >= (floor(p_watermark) + 1) * 1000
    AND asked_at > coalesce((SELECT own.asked_at FROM rp_further_sid own
      WHERE own.client = p_client AND own.handle = p_handle AND own.sid_key = p_sid_key), 0))
$$;

CREATE FUNCTION rp_add_sid(
  p_client INTEGER, p_handle TEXT, p_sid_key TEXT, p_requested_at DOUBLE PRECISION, p_of_grant BOOLEAN, p_now BIGINT
) RETURNS TEXT LANGUAGE plpgsql AS $$
DECLARE
  v_now BIGINT;
  v_session rp_session;
BEGIN
  PERFORM pg_advisory_xact_lock(rp_name_lock(p_client, 'sid', p_sid_key));
  v_now := rp_now(p_now);
  SELECT * INTO v_session FROM rp_live(p_client, p_handle, v_now);
  IF v_session.handle IS NULL THEN RETURN 'gone'; END IF;
  IF EXISTS (SELECT FROM rp_logged_out WHERE client = p_client AND kind = 'sid' AND name_key = p_sid_key
    AND arrived_at > p_requested_at AND expires_at > v_now / 1000.0
    AND NOT rp_is_left_behind(p_client, p_handle, p_sid_key, watermark))
  THEN
    RETURN 'outdated';
  END IF;
  -- That of the login is kept here once the browser has had others.
  IF v_session.sid_key = p_sid_key AND (p_of_grant
    OR NOT EXISTS (SELECT FROM rp_further_sid WHERE client = p_client AND handle = p_handle)) THEN
    RETURN 'added';
  END IF;
  INSERT INTO rp_further_sid AS known
    VALUES (p_client, p_handle, p_sid_key, CASE WHEN p_of_grant THEN 0 ELSE p_requested_at END, p_of_grant)
    ON CONFLICT (client, handle, sid_key) DO UPDATE
    SET asked_at = greatest(known.asked_at, excluded.asked_at), of_grant = known.of_grant OR excluded.of_grant;
  DELETE FROM rp_further_sid WHERE client = p_client AND handle = p_handle AND sid_key IN (
    SELECT sid_key FROM rp_further_sid WHERE client = p_client AND handle = p_handle AND sid_key <> p_sid_key
    ORDER BY asked_at DESC OFFSET 7);
  RETURN 'added';
END
$$;

-- Each write clears away a few dead rows, and owes what they leave unless a live RP session shares the grant at the OP.
CREATE OR REPLACE FUNCTION rp_sweep(p_now BIGINT) RETURNS VOID LANGUAGE plpgsql AS $$
DECLARE
  v_seconds DOUBLE PRECISION := p_now / 1000.0;
BEGIN
  WITH session AS (
    DELETE FROM rp_session WHERE (client, handle) IN (SELECT client, handle FROM rp_session
      WHERE expires_at <= v_seconds ORDER BY expires_at LIMIT 20 FOR UPDATE SKIP LOCKED)
    RETURNING client, sid_key, refresh_token, refresh_offline
  ), put_by AS (
    DELETE FROM rp_put_by WHERE (client, handle) IN (SELECT client, handle FROM rp_put_by
      WHERE expires_at <= v_seconds ORDER BY expires_at LIMIT 20 FOR UPDATE SKIP LOCKED)
    RETURNING client, sid_key, refresh_token, refresh_offline
  )
  INSERT INTO rp_owed (client, token, owed_since, attempts, due_at)
    SELECT past.client, past.refresh_token, p_now, 0, p_now
    FROM (SELECT * FROM session UNION ALL SELECT * FROM put_by) AS past
    WHERE past.refresh_token IS NOT NULL AND NOT past.refresh_offline AND NOT EXISTS (
      SELECT FROM rp_session other WHERE other.client = past.client AND other.sid_key = past.sid_key
      AND other.idle_expires_at > v_seconds AND other.expires_at > v_seconds) AND NOT EXISTS (
      SELECT FROM rp_further_sid further JOIN rp_session other USING (client, handle) WHERE further.client = past.client
      AND further.sid_key = past.sid_key AND further.of_grant
      AND other.idle_expires_at > v_seconds AND other.expires_at > v_seconds);
  DELETE FROM rp_ended WHERE (client, handle) IN (SELECT client, handle FROM rp_ended
    WHERE expires_at <= v_seconds ORDER BY expires_at LIMIT 20 FOR UPDATE SKIP LOCKED);
  DELETE FROM rp_logged_out WHERE (client, kind, name_key) IN (SELECT client, kind, name_key FROM rp_logged_out
    WHERE expires_at <= v_seconds ORDER BY expires_at LIMIT 20 FOR UPDATE SKIP LOCKED);
  DELETE FROM rp_jti WHERE (client, jti_key) IN (SELECT client, jti_key FROM rp_jti
    WHERE expires_at <= v_seconds ORDER BY expires_at LIMIT 20 FOR UPDATE SKIP LOCKED);
END
$$;

CREATE OR REPLACE FUNCTION rp_create(
  p_client INTEGER, p_handle TEXT, p_public_id TEXT, p_sub TEXT, p_sub_key TEXT, p_sid TEXT, p_sid_key TEXT,
  p_first_iat DOUBLE PRECISION, p_created_at DOUBLE PRECISION, p_idle_expires_at DOUBLE PRECISION,
  p_expires_at DOUBLE PRECISION, p_data TEXT, p_session_state TEXT, p_tokens TEXT, p_refresh_token TEXT,
  p_refresh_offline BOOLEAN, p_requested_at DOUBLE PRECISION, p_replaces TEXT, p_switched TEXT, p_now BIGINT
) RETURNS TABLE (outcome TEXT, found rp_session) LANGUAGE plpgsql AS $$
DECLARE
  v_sub_lock BIGINT := rp_name_lock(p_client, 'sub', p_sub_key);
  v_sid_lock BIGINT := coalesce(rp_name_lock(p_client, 'sid', p_sid_key), v_sub_lock);
  v_now BIGINT;
  v_before rp_session;
BEGIN
  PERFORM pg_advisory_xact_lock(least(v_sub_lock, v_sid_lock));
  PERFORM pg_advisory_xact_lock(greatest(v_sub_lock, v_sid_lock));
  v_now := rp_now(p_now);
  IF EXISTS (SELECT FROM rp_logged_out WHERE client = p_client AND kind = 'sub' AND name_key = p_sub_key
      AND arrived_at > p_requested_at AND expires_at > v_now / 1000.0)
    OR EXISTS (SELECT FROM rp_logged_out WHERE client = p_client AND kind = 'sid' AND name_key = p_sid_key
      AND arrived_at > p_requested_at AND expires_at > v_now / 1000.0)
  THEN
    RETURN QUERY SELECT 'outdated', NULL::rp_session;
    RETURN;
  END IF;
  IF p_replaces IS NOT NULL THEN
    -- The row is locked first: a logout of this browser either comes before, and is seen, or finds that it was replaced.
    SELECT * INTO v_before FROM rp_live(p_client, p_replaces, v_now);
    IF EXISTS (SELECT FROM rp_ended WHERE client = p_client AND handle = p_replaces AND expires_at > v_now / 1000.0
      AND ended::json ->> 'cause' IN ('this_app', 'rp_initiated')
      AND coalesce((ended::json ->> 'at_ms')::float8, (ended::json ->> 'at')::float8 * 1000) > p_requested_at)
    THEN
      RETURN QUERY SELECT 'outdated', NULL::rp_session;
      RETURN;
    END IF;
    IF v_before.handle IS NOT NULL AND v_before.sub_key <> p_sub_key THEN
      PERFORM rp_end(v_before, p_switched, false, v_now);
    ELSIF v_before.handle IS NOT NULL THEN
      IF v_before.sid_key IS DISTINCT FROM p_sid_key AND v_before.refresh_token IS NOT NULL
        AND NOT v_before.refresh_offline AND NOT EXISTS (SELECT FROM rp_further_sid WHERE client = p_client
          AND handle = p_replaces AND sid_key = p_sid_key AND of_grant) THEN
        PERFORM rp_owe(v_before, v_now);
      END IF;
      DELETE FROM rp_session WHERE client = p_client AND handle = p_replaces;
    END IF;
  END IF;
  INSERT INTO rp_session VALUES (p_client, p_handle, p_public_id, p_sub, p_sub_key, p_sid, p_sid_key, p_first_iat,
    p_created_at, p_idle_expires_at, p_expires_at, p_data, p_session_state, p_tokens, p_refresh_token, p_refresh_offline);
  PERFORM rp_sweep(v_now); -- last: what has expired may share its grant with the new one
  RETURN QUERY SELECT 'created', v_before;
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
  v_watermark DOUBLE PRECISION;
  v_latest DOUBLE PRECISION;
  v_handles TEXT[];
  v_session rp_session;
  v_named INTEGER := 0;
  v_of_sub INTEGER := 0;
  v_members rp_session[] := '{}';
  v_expired rp_session[] := '{}';
  v_ids TEXT := '';
BEGIN
  PERFORM pg_advisory_xact_lock(rp_name_lock(p_client, p_kind, p_name_key));
  v_now := rp_now(p_now);
  v_seconds := v_now / 1000.0;
  v_watermark := least(p_watermark, v_seconds);
  v_latest := CASE WHEN p_kind = 'sub' OR p_sid_reused THEN v_watermark ELSE 'Infinity' END;
  IF EXISTS (SELECT FROM rp_jti WHERE client = p_client AND jti_key = p_jti_key AND expires_at > v_seconds) THEN
    RETURN QUERY SELECT 'replay', NULL::rp_session;
    RETURN;
  END IF;
  IF p_kind = 'sid' THEN
    v_handles := ARRAY(SELECT handle FROM rp_session WHERE client = p_client AND sid_key = p_name_key
      UNION SELECT handle FROM rp_further_sid WHERE client = p_client AND sid_key = p_name_key);
  ELSE
    v_handles := ARRAY(SELECT handle FROM rp_session WHERE client = p_client AND sub_key = p_name_key
      AND first_iat <= v_latest);
  END IF;
  FOR v_session IN SELECT * FROM rp_session WHERE client = p_client AND handle = ANY (v_handles) ORDER BY handle FOR UPDATE
  LOOP
    CONTINUE WHEN p_kind = 'sid' AND rp_is_left_behind(p_client, v_session.handle, p_name_key, v_watermark);
    IF v_session.idle_expires_at <= v_seconds OR v_session.expires_at <= v_seconds THEN
      IF v_session.first_iat <= v_latest AND (p_sub_key IS NULL OR v_session.sub_key = p_sub_key) THEN
        v_expired := v_expired || v_session;
        v_ids := v_ids || E'\\n' || v_session.public_id;
      END IF;
      CONTINUE;
    END IF;
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
  -- A copy of the token that names somebody else does not wait for the lock above, but it does wait here.
  INSERT INTO rp_jti AS known VALUES (p_client, p_jti_key, p_jti_expires_at)
    ON CONFLICT (client, jti_key) DO UPDATE SET expires_at = excluded.expires_at WHERE known.expires_at <= v_seconds;
  IF NOT FOUND THEN
    RETURN QUERY SELECT 'replay', NULL::rp_session;
    RETURN;
  END IF;
  INSERT INTO rp_logged_out AS known
    VALUES (p_client, p_kind, p_name_key, v_now, p_watermark_expires_at, v_watermark)
    ON CONFLICT (client, kind, name_key) DO UPDATE
    SET arrived_at = greatest(known.arrived_at, excluded.arrived_at),
      expires_at = greatest(known.expires_at, excluded.expires_at),
      watermark = greatest(known.watermark, excluded.watermark);
  PERFORM rp_owe_downstream(p_client, p_downstream || v_ids, v_now);
  RETURN QUERY SELECT 'ended', NULL::rp_session;
  FOREACH v_session IN ARRAY v_members LOOP
    PERFORM rp_end(v_session, p_end, p_revoke_offline, v_now);
    RETURN QUERY SELECT 'ended', v_session;
  END LOOP;
  FOREACH v_session IN ARRAY v_expired LOOP
    PERFORM rp_end(v_session, json_build_object('cause', 'expired', 'at',
      least(v_session.idle_expires_at, v_session.expires_at))::text, p_revoke_offline, v_now);
  END LOOP;
  PERFORM rp_end_put_by(p_client, p_kind, p_name_key, p_sub_key, v_latest, p_end, p_revoke_offline, v_now);
  PERFORM rp_sweep(v_now);
END
$$;

CREATE OR REPLACE FUNCTION rp_delete_by_sid(p_client INTEGER, p_sid_key TEXT, p_end TEXT, p_now BIGINT)
RETURNS SETOF rp_session LANGUAGE plpgsql AS $$
DECLARE
  v_now BIGINT := rp_now(p_now);
  v_handles TEXT[];
  v_session rp_session;
  v_without_refresh_token rp_session;
BEGIN
  v_handles := ARRAY(SELECT handle FROM rp_session WHERE client = p_client AND sid_key = p_sid_key
    UNION SELECT handle FROM rp_further_sid WHERE client = p_client AND sid_key = p_sid_key);
  FOR v_session IN SELECT * FROM rp_session WHERE client = p_client AND handle = ANY (v_handles)
    AND idle_expires_at > v_now / 1000.0 AND expires_at > v_now / 1000.0 ORDER BY handle FOR UPDATE
  LOOP
    v_without_refresh_token := v_session;
    v_without_refresh_token.refresh_token := NULL;
    PERFORM rp_end(v_without_refresh_token, p_end, false, v_now);
    IF v_session.refresh_token IS NOT NULL THEN
      INSERT INTO rp_put_by VALUES (p_client, v_session.handle, p_sid_key, v_session.sub_key, v_session.first_iat,
        v_session.refresh_token, v_session.refresh_offline, v_session.expires_at) ON CONFLICT DO NOTHING;
    END IF;
    RETURN NEXT v_session;
  END LOOP;
END
$$;
`
