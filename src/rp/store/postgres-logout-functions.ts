/*
 * Ends of one RP session, and logouts that name a sid or a sub. The rules on locks are in postgres-functions.ts.
 *
 * A logout looks for handles first and then locks their rows, in the order of the handles, whatever sid they have by then:
 * one that was found is still meant.
 */
export const logoutFunctions: string = `
CREATE FUNCTION rp_delete(p_client INTEGER, p_handle TEXT, p_end TEXT, p_downstream TEXT, p_now BIGINT)
RETURNS SETOF rp_session LANGUAGE plpgsql AS $$
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

-- The first row says what happened, the others are the RP sessions that ended.
CREATE FUNCTION rp_end_by(
  p_client INTEGER, p_kind TEXT, p_name_key TEXT, p_sub_key TEXT, p_jti_key TEXT, p_jti_expires_at DOUBLE PRECISION,
  p_watermark DOUBLE PRECISION, p_watermark_expires_at DOUBLE PRECISION, p_end TEXT, p_revoke_offline BOOLEAN,
  p_sid_reused BOOLEAN, p_downstream TEXT, p_now BIGINT
) RETURNS TABLE (outcome TEXT, found rp_session) LANGUAGE plpgsql AS $$
DECLARE
  v_now BIGINT;
  v_seconds DOUBLE PRECISION;
  v_watermark DOUBLE PRECISION;
  v_latest DOUBLE PRECISION;
  v_handles TEXT[];
  v_session rp_session;
  v_is_of_sub BOOLEAN;
  v_is_mismatch BOOLEAN;
  v_meant rp_session[] := '{}';
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
    v_handles := rp_named_by_sid(p_client, p_name_key);
  ELSE
    v_handles := ARRAY(SELECT handle FROM rp_session WHERE client = p_client AND sub_key = p_name_key);
  END IF;
  FOR v_session IN SELECT * FROM rp_session WHERE client = p_client AND handle = ANY (v_handles) ORDER BY handle FOR UPDATE
  LOOP
    CONTINUE WHEN p_kind = 'sid' AND rp_is_left_behind(v_session, p_name_key, v_watermark);
    v_is_of_sub := p_sub_key IS NULL OR v_session.sub_key = p_sub_key;
    IF rp_is_live(v_session, v_now) THEN
      v_is_mismatch := NOT v_is_of_sub AND v_is_mismatch IS NOT false;
    END IF;
    CONTINUE WHEN NOT v_is_of_sub OR v_session.first_iat > v_latest;
    v_meant := v_meant || v_session;
    v_ids := v_ids || E'\\n' || v_session.public_id;
  END LOOP;
  IF v_is_mismatch THEN
    RETURN QUERY SELECT 'sub_mismatch', NULL::rp_session;
    RETURN;
  END IF;
  -- A copy of the token that names somebody else does not wait for the lock above, but it does wait here.
  INSERT INTO rp_jti AS known (client, jti_key, expires_at) VALUES (p_client, p_jti_key, p_jti_expires_at)
    ON CONFLICT (client, jti_key) DO UPDATE SET expires_at = excluded.expires_at WHERE known.expires_at <= v_seconds;
  IF NOT FOUND THEN
    RETURN QUERY SELECT 'replay', NULL::rp_session;
    RETURN;
  END IF;
  INSERT INTO rp_logged_out AS known (client, kind, name_key, arrived_at, expires_at, watermark)
    VALUES (p_client, p_kind, p_name_key, v_now, p_watermark_expires_at, v_watermark)
    ON CONFLICT (client, kind, name_key) DO UPDATE
    SET arrived_at = greatest(known.arrived_at, excluded.arrived_at),
      expires_at = greatest(known.expires_at, excluded.expires_at),
      watermark = greatest(known.watermark, excluded.watermark);
  PERFORM rp_owe_downstream(p_client, p_downstream || v_ids, v_now);
  RETURN QUERY SELECT 'ended', NULL::rp_session;
  FOREACH v_session IN ARRAY v_meant LOOP
    IF rp_is_live(v_session, v_now) THEN
      PERFORM rp_end(v_session, p_end, p_revoke_offline, v_now);
      RETURN QUERY SELECT 'ended', v_session;
    ELSE
      PERFORM rp_end(v_session, coalesce(v_session.framed, json_build_object('cause', 'expired', 'at',
        least(v_session.idle_expires_at, v_session.expires_at))::text), p_revoke_offline, v_now);
    END IF;
  END LOOP;
  PERFORM rp_sweep(v_now);
END
$$;

-- All that an unauthenticated request may do: no jti, no watermark, and nothing is owed. The idle expiry becomes one that is
-- over by any clock: that of a standby which takes over may be behind.
CREATE FUNCTION rp_delete_by_sid(p_client INTEGER, p_sid_key TEXT, p_end TEXT, p_now BIGINT) RETURNS SETOF rp_session
LANGUAGE plpgsql AS $$
DECLARE
  v_now BIGINT := rp_now(p_now);
  v_handles TEXT[] := rp_named_by_sid(p_client, p_sid_key);
  v_session rp_session;
BEGIN
  FOR v_session IN SELECT * FROM rp_session s WHERE client = p_client AND handle = ANY (v_handles) AND rp_is_live(s, v_now)
    ORDER BY handle FOR UPDATE
  LOOP
    UPDATE rp_session SET idle_expires_at = 0, framed = p_end
      WHERE client = p_client AND handle = v_session.handle;
    RETURN NEXT v_session;
  END LOOP;
END
$$;
`
