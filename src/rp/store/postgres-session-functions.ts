/*
 * Logins, further sids and refreshed tokens. The rules on locks are in postgres-functions.ts.
 *
 * Whoever changes an RP session locks its row first: a logout either comes before, and is seen, or finds what was written.
 * The name of a new sid is locked before that: a logout of it either comes before and has left its mark, or finds the RP
 * session.
 */
export const sessionFunctions: string = `
CREATE FUNCTION rp_create(
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
    SELECT * INTO v_before FROM rp_live(p_client, p_replaces, v_now);
    IF EXISTS (SELECT FROM rp_ended WHERE client = p_client AND handle = p_replaces AND expires_at > v_now / 1000.0
      AND ended::json ->> 'cause' IN ('this_app', 'rp_initiated')
      AND coalesce((ended::json ->> 'at_ms')::float8, (ended::json ->> 'at')::float8 * 1000) > p_requested_at)
    THEN
      RETURN QUERY SELECT 'outdated', NULL::rp_session;
      RETURN;
    END IF;
  END IF;
  IF v_before.sub_key = p_sub_key AND v_before.sid_key IS NULL THEN
    DELETE FROM rp_session WHERE client = p_client AND handle = p_replaces;
  ELSIF v_before.handle IS NOT NULL THEN
    PERFORM rp_end(v_before, CASE v_before.sub_key WHEN p_sub_key THEN 'null' ELSE p_switched END, false, v_now);
  END IF;
  INSERT INTO rp_session (client, handle, public_id, sub, sub_key, sid, sid_key, first_iat, created_at, idle_expires_at,
      expires_at, data, session_state, tokens, refresh_token, refresh_offline, requested_at)
    VALUES (p_client, p_handle, p_public_id, p_sub, p_sub_key, p_sid, p_sid_key, p_first_iat, p_created_at, p_idle_expires_at,
      p_expires_at, p_data, p_session_state, p_tokens, p_refresh_token, p_refresh_offline, p_requested_at);
  PERFORM rp_sweep(v_now);
  RETURN QUERY SELECT 'created', v_before;
END
$$;

CREATE FUNCTION rp_add_sid(
  p_client INTEGER, p_handle TEXT, p_sid_key TEXT, p_requested_at DOUBLE PRECISION, p_of_grant BOOLEAN,
  p_sid_reused BOOLEAN, p_now BIGINT
) RETURNS TEXT LANGUAGE plpgsql AS $$
DECLARE
  v_now BIGINT;
  v_session rp_session;
  v_learnt INTEGER;
  v_shown_last DOUBLE PRECISION;
BEGIN
  PERFORM pg_advisory_xact_lock(rp_name_lock(p_client, 'sid', p_sid_key));
  v_now := rp_now(p_now);
  SELECT * INTO v_session FROM rp_live(p_client, p_handle, v_now);
  IF v_session.handle IS NULL THEN RETURN 'gone'; END IF;
  IF EXISTS (SELECT FROM rp_logged_out WHERE client = p_client AND kind = 'sid' AND name_key = p_sid_key
    AND arrived_at > p_requested_at AND expires_at > v_now / 1000.0
    AND NOT (p_sid_reused AND v_session.first_iat > watermark)
    AND NOT rp_is_left_behind(v_session, p_sid_key, watermark))
  THEN
    RETURN 'outdated';
  END IF;
  -- That of the login is kept here once the browser has shown it again.
  IF v_session.sid_key = p_sid_key AND p_of_grant THEN RETURN 'added'; END IF;
  SELECT coalesce(max(learnt), 0) + 1 INTO v_learnt FROM rp_further_sid WHERE client = p_client AND handle = p_handle;
  INSERT INTO rp_further_sid AS known (client, handle, sid_key, asked_at, of_grant, learnt)
    VALUES (p_client, p_handle, p_sid_key, CASE WHEN p_of_grant THEN 0 ELSE p_requested_at END, p_of_grant, v_learnt)
    ON CONFLICT (client, handle, sid_key) DO UPDATE SET asked_at = greatest(known.asked_at, excluded.asked_at),
      of_grant = known.of_grant OR excluded.of_grant, learnt = excluded.learnt;
  -- Where they are too many, the one that was learnt longest ago goes, but not the one that the browser has shown last.
  SELECT max(asked_at) INTO v_shown_last FROM rp_further_sid WHERE client = p_client AND handle = p_handle;
  DELETE FROM rp_further_sid WHERE client = p_client AND handle = p_handle AND sid_key IN (
    SELECT sid_key FROM rp_further_sid WHERE client = p_client AND handle = p_handle
    ORDER BY (asked_at > 0 AND asked_at = v_shown_last) DESC, learnt DESC OFFSET 8);
  RETURN 'added';
END
$$;

CREATE FUNCTION rp_claim_refresh(p_client INTEGER, p_handle TEXT, p_lease DOUBLE PRECISION, p_now BIGINT) RETURNS BOOLEAN
LANGUAGE plpgsql AS $$
DECLARE
  v_seconds DOUBLE PRECISION;
  v_is_claimed BOOLEAN;
BEGIN
  PERFORM FROM rp_live(p_client, p_handle, rp_now(p_now));
  IF NOT FOUND THEN RETURN false; END IF;
  v_seconds := rp_now(p_now) / 1000.0;
  INSERT INTO rp_refreshing AS taken (client, handle, expires_at) VALUES (p_client, p_handle, v_seconds + p_lease / 1000.0)
    ON CONFLICT (client, handle) DO UPDATE SET expires_at = excluded.expires_at WHERE taken.expires_at <= v_seconds;
  v_is_claimed := FOUND;
  -- After its own row: two that claim must not wait for each other's.
  DELETE FROM rp_refreshing WHERE (client, handle) IN (SELECT client, handle FROM rp_refreshing
    WHERE expires_at <= v_seconds ORDER BY expires_at LIMIT 20 FOR UPDATE SKIP LOCKED);
  RETURN v_is_claimed;
END
$$;

CREATE FUNCTION rp_save_tokens(
  p_client INTEGER, p_handle TEXT, p_tokens TEXT, p_refresh_token TEXT, p_refresh_offline BOOLEAN, p_used TEXT,
  p_now BIGINT
) RETURNS TEXT LANGUAGE plpgsql AS $$
DECLARE
  v_now BIGINT := rp_now(p_now);
  v_session rp_session;
  v_is_live BOOLEAN;
BEGIN
  SELECT * INTO v_session FROM rp_session WHERE client = p_client AND handle = p_handle FOR UPDATE;
  v_is_live := coalesce(rp_is_live(v_session, v_now), false);
  IF v_is_live AND v_session.refresh_token IS DISTINCT FROM p_used THEN RETURN 'outdated'; END IF;
  DELETE FROM rp_refreshing WHERE client = p_client AND handle = p_handle;
  IF NOT v_is_live AND p_refresh_token IS NULL THEN RETURN 'gone'; END IF;
  -- In what has expired, too, the new one takes the place of the old one.
  UPDATE rp_session SET tokens = p_tokens, refresh_token = p_refresh_token, refresh_offline = p_refresh_offline
    WHERE client = p_client AND handle = p_handle AND refresh_token = p_used;
  IF v_is_live THEN RETURN 'saved'; END IF;
  IF EXISTS (SELECT FROM rp_ended WHERE client = p_client AND handle = p_handle AND expires_at > v_now / 1000.0
    AND (revoke_offline OR NOT p_refresh_offline))
  THEN
    PERFORM rp_owe(p_client, p_refresh_token, v_now);
  END IF;
  RETURN 'gone';
END
$$;
`
