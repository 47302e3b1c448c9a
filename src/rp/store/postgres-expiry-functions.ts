/*
 * What an RP session leaves that has expired or was replaced: it is owed unless a live one shares its grant, by any of the
 * sids that its tokens have had. A refresh token may come late to one; in rp_ended, one that a login of another grant has
 * replaced has an end of null, since nobody is told of it. A login may come too late as well: the End-User has left.
 */
export const expiryFunctions: string = `
-- Each write clears away a few dead rows, and owes what they leave unless a live RP session shares the grant at the OP.
CREATE OR REPLACE FUNCTION rp_sweep(p_now BIGINT) RETURNS VOID LANGUAGE plpgsql AS $$
DECLARE
  v_seconds DOUBLE PRECISION := p_now / 1000.0;
BEGIN
  WITH session AS (
    DELETE FROM rp_session WHERE (client, handle) IN (SELECT client, handle FROM rp_session
      WHERE expires_at <= v_seconds ORDER BY expires_at LIMIT 20 FOR UPDATE SKIP LOCKED)
    RETURNING client, handle, sid_key, refresh_token, refresh_offline
  ), put_by AS (
    DELETE FROM rp_put_by WHERE (client, handle) IN (SELECT client, handle FROM rp_put_by
      WHERE expires_at <= v_seconds ORDER BY expires_at LIMIT 20 FOR UPDATE SKIP LOCKED)
    RETURNING client, handle, sid_key, refresh_token, refresh_offline
  )
  INSERT INTO rp_owed (client, token, owed_since, attempts, due_at)
    SELECT past.client, past.refresh_token, p_now, 0, p_now
    FROM (SELECT left_over.*, ARRAY(SELECT left_over.sid_key UNION ALL SELECT own.sid_key FROM rp_further_sid own
        WHERE own.client = left_over.client AND own.handle = left_over.handle AND own.of_grant) AS own_sids
      FROM (SELECT * FROM session UNION ALL SELECT * FROM put_by) AS left_over) AS past
    WHERE past.refresh_token IS NOT NULL AND NOT past.refresh_offline AND NOT EXISTS (
      SELECT FROM rp_session other WHERE other.client = past.client AND other.sid_key = ANY (past.own_sids)
      AND other.idle_expires_at > v_seconds AND other.expires_at > v_seconds) AND NOT EXISTS (
      SELECT FROM rp_further_sid further JOIN rp_session other USING (client, handle) WHERE further.client = past.client
      AND further.sid_key = ANY (past.own_sids) AND further.of_grant
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
        PERFORM rp_end(v_before, 'null', false, v_now);
      ELSE
        DELETE FROM rp_session WHERE client = p_client AND handle = p_replaces;
      END IF;
    END IF;
  END IF;
  INSERT INTO rp_session VALUES (p_client, p_handle, p_public_id, p_sub, p_sub_key, p_sid, p_sid_key, p_first_iat,
    p_created_at, p_idle_expires_at, p_expires_at, p_data, p_session_state, p_tokens, p_refresh_token, p_refresh_offline);
  PERFORM rp_sweep(v_now); -- last: what has expired may share its grant with the new one
  RETURN QUERY SELECT 'created', v_before;
END
$$;

CREATE OR REPLACE FUNCTION rp_save_tokens(
  p_client INTEGER, p_handle TEXT, p_tokens TEXT, p_refresh_token TEXT, p_refresh_offline BOOLEAN, p_used TEXT,
  p_now BIGINT
) RETURNS TEXT LANGUAGE plpgsql AS $$
DECLARE
  v_now BIGINT := rp_now(p_now);
  v_session rp_session;
  v_past rp_ended;
BEGIN
  SELECT * INTO v_session FROM rp_session WHERE client = p_client AND handle = p_handle FOR UPDATE;
  IF v_session.idle_expires_at > v_now / 1000.0 AND v_session.expires_at > v_now / 1000.0 THEN
    IF v_session.refresh_token IS DISTINCT FROM p_used THEN RETURN 'outdated'; END IF;
    UPDATE rp_session SET tokens = p_tokens, refresh_token = p_refresh_token, refresh_offline = p_refresh_offline
      WHERE client = p_client AND handle = p_handle;
    DELETE FROM rp_refreshing WHERE client = p_client AND handle = p_handle;
    RETURN 'saved';
  END IF;
  DELETE FROM rp_refreshing WHERE client = p_client AND handle = p_handle;
  IF p_refresh_token IS NULL THEN RETURN 'gone'; END IF;
  -- In what has expired the new one takes the place of the old one.
  UPDATE rp_session SET tokens = p_tokens, refresh_token = p_refresh_token, refresh_offline = p_refresh_offline
    WHERE client = p_client AND handle = p_handle AND refresh_token = p_used;
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
