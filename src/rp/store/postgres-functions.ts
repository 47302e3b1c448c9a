/*
 * What must happen in one step is a function in the database: one round trip, one transaction, and nothing half done when
 * the connection breaks. Statements inside a function see what others committed before they began, so what is read after
 * a lock was waited for is fresh.
 *
 * Locks, always in this order: the names (a sid or a sub, as advisory locks; two of them in the order of their numbers),
 * then rows by handle. A login and a logout that share a name wait for each other, so the login either sees the logout's
 * watermark or its RP session is found by the logout.
 */
export const functions: string = `
CREATE FUNCTION rp_now(p_now BIGINT) RETURNS BIGINT LANGUAGE sql VOLATILE AS $$
  SELECT coalesce(p_now, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint)
$$;

CREATE FUNCTION rp_name_lock(p_client INTEGER, p_kind TEXT, p_key TEXT) RETURNS BIGINT LANGUAGE sql IMMUTABLE AS $$
  SELECT hashtextextended('lockstep rp ' || p_client || ' ' || p_kind || ' ' || p_key, 0)
$$;

-- Each write clears away a few dead rows, so that nothing has to run at night.
CREATE FUNCTION rp_sweep(p_now BIGINT) RETURNS VOID LANGUAGE plpgsql AS $$
DECLARE
  v_seconds DOUBLE PRECISION := p_now / 1000.0;
BEGIN
  DELETE FROM rp_session WHERE (client, handle) IN (SELECT client, handle FROM rp_session
    WHERE expires_at <= v_seconds ORDER BY expires_at LIMIT 20 FOR UPDATE SKIP LOCKED);
  DELETE FROM rp_ended WHERE (client, handle) IN (SELECT client, handle FROM rp_ended
    WHERE expires_at <= v_seconds ORDER BY expires_at LIMIT 20 FOR UPDATE SKIP LOCKED);
  DELETE FROM rp_logged_out WHERE (client, kind, name_key) IN (SELECT client, kind, name_key FROM rp_logged_out
    WHERE expires_at <= v_seconds ORDER BY expires_at LIMIT 20 FOR UPDATE SKIP LOCKED);
  DELETE FROM rp_jti WHERE (client, jti_key) IN (SELECT client, jti_key FROM rp_jti
    WHERE expires_at <= v_seconds ORDER BY expires_at LIMIT 20 FOR UPDATE SKIP LOCKED);
END
$$;

CREATE FUNCTION rp_owe(p_session rp_session, p_now BIGINT) RETURNS VOID LANGUAGE sql AS $$
  INSERT INTO rp_owed (client, token, owed_since, attempts, due_at)
  VALUES (p_session.client, p_session.refresh_token, p_now, 0, p_now)
$$;

CREATE FUNCTION rp_end(p_session rp_session, p_end TEXT, p_revoke_offline BOOLEAN, p_now BIGINT) RETURNS VOID
LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM rp_session WHERE client = p_session.client AND handle = p_session.handle;
  INSERT INTO rp_ended VALUES (p_session.client, p_session.handle, p_session.public_id, p_end, p_session.expires_at)
    ON CONFLICT (client, handle) DO UPDATE
    SET public_id = excluded.public_id, ended = excluded.ended, expires_at = excluded.expires_at;
  IF p_session.refresh_token IS NOT NULL AND (p_revoke_offline OR NOT p_session.refresh_offline) THEN
    PERFORM rp_owe(p_session, p_now);
  END IF;
END
$$;

CREATE FUNCTION rp_live(p_client INTEGER, p_handle TEXT, p_now BIGINT) RETURNS SETOF rp_session LANGUAGE sql VOLATILE AS $$
  SELECT * FROM rp_session WHERE client = p_client AND handle = p_handle
    AND idle_expires_at > p_now / 1000.0 AND expires_at > p_now / 1000.0 FOR UPDATE
$$;

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
  PERFORM rp_sweep(v_now);
  IF p_replaces IS NOT NULL THEN
    SELECT * INTO v_before FROM rp_live(p_client, p_replaces, v_now);
    IF v_before.handle IS NOT NULL AND v_before.sub_key <> p_sub_key THEN
      PERFORM rp_end(v_before, p_switched, false, v_now);
    ELSIF v_before.handle IS NOT NULL THEN
      DELETE FROM rp_session WHERE client = p_client AND handle = p_replaces;
      IF v_before.sid_key IS DISTINCT FROM p_sid_key AND v_before.refresh_token IS NOT NULL
        AND NOT v_before.refresh_offline THEN
        PERFORM rp_owe(v_before, v_now);
      END IF;
    END IF;
  END IF;
  INSERT INTO rp_session VALUES (p_client, p_handle, p_public_id, p_sub, p_sub_key, p_sid, p_sid_key, p_first_iat,
    p_created_at, p_idle_expires_at, p_expires_at, p_data, p_session_state, p_tokens, p_refresh_token, p_refresh_offline);
  RETURN QUERY SELECT 'created', v_before;
END
$$;
`
