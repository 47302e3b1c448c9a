/*
 * Logouts that name a sid, a sub or one RP session. The rules on locks are those of the functions they use.
 *
 * A node of a version before calls them without the last parameters and gets what it knew. What is owed downstream is in a
 * table of its own, since such a node takes whatever it finds in the other for a refresh token.
 */
export const logoutFunctions: string = `
DROP FUNCTION IF EXISTS rp_end_by;
DROP FUNCTION IF EXISTS rp_delete;
DROP FUNCTION IF EXISTS rp_delete_by_sid;

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
CREATE INDEX rp_owed_downstream_due ON rp_owed_downstream (client, due_at);

CREATE FUNCTION rp_owe_downstream(p_client INTEGER, p_debt TEXT, p_now BIGINT) RETURNS VOID LANGUAGE sql AS $$
  INSERT INTO rp_owed_downstream (client, debt, owed_since, attempts, due_at)
  SELECT p_client, p_debt, p_now, 0, p_now WHERE p_debt IS NOT NULL
$$;

CREATE FUNCTION rp_delete(
  p_client INTEGER, p_handle TEXT, p_end TEXT, p_now BIGINT, p_downstream TEXT DEFAULT NULL
) RETURNS SETOF rp_session LANGUAGE plpgsql AS $$
DECLARE
  v_now BIGINT := rp_now(p_now);
  v_session rp_session;
BEGIN
  SELECT * INTO v_session FROM rp_live(p_client, p_handle, v_now);
  IF v_session.handle IS NOT NULL THEN
    PERFORM rp_end(v_session, p_end, false, v_now);
    PERFORM rp_owe_downstream(p_client, p_downstream, v_now);
    RETURN NEXT v_session;
  END IF;
END
$$;

-- The first row says what happened, the others are the RP sessions that ended.
CREATE FUNCTION rp_end_by(
  p_client INTEGER, p_kind TEXT, p_name_key TEXT, p_sub_key TEXT, p_jti_key TEXT, p_jti_expires_at DOUBLE PRECISION,
  p_watermark DOUBLE PRECISION, p_watermark_expires_at DOUBLE PRECISION, p_end TEXT, p_revoke_offline BOOLEAN,
  p_now BIGINT, p_sid_reused BOOLEAN DEFAULT false, p_downstream TEXT DEFAULT NULL
) RETURNS TABLE (outcome TEXT, found rp_session) LANGUAGE plpgsql AS $$
DECLARE
  v_now BIGINT;
  v_seconds DOUBLE PRECISION;
  v_session rp_session;
  v_named INTEGER := 0;
  v_of_sub INTEGER := 0;
  v_members rp_session[] := '{}';
BEGIN
  PERFORM pg_advisory_xact_lock(rp_name_lock(p_client, p_kind, p_name_key));
  v_now := rp_now(p_now);
  v_seconds := v_now / 1000.0;
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
      CONTINUE WHEN p_sid_reused AND v_session.first_iat > least(p_watermark, v_seconds);
      v_members := v_members || v_session;
    END LOOP;
    IF v_named > 0 AND v_of_sub = 0 THEN
      RETURN QUERY SELECT 'sub_mismatch', NULL::rp_session;
      RETURN;
    END IF;
  ELSE
    FOR v_session IN SELECT * FROM rp_session WHERE client = p_client AND sub_key = p_name_key
      AND first_iat <= least(p_watermark, v_seconds)
      AND idle_expires_at > v_seconds AND expires_at > v_seconds ORDER BY handle FOR UPDATE
    LOOP
      v_members := v_members || v_session;
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
  PERFORM rp_owe_downstream(p_client, p_downstream, v_now);
  PERFORM rp_sweep(v_now);
  RETURN QUERY SELECT 'ended', NULL::rp_session;
  FOREACH v_session IN ARRAY v_members LOOP
    PERFORM rp_end(v_session, p_end, p_revoke_offline, v_now);
    RETURN QUERY SELECT 'ended', v_session;
  END LOOP;
END
$$;

-- All that an unauthenticated request may do: no jti, no watermark, and nothing is owed.
CREATE FUNCTION rp_delete_by_sid(p_client INTEGER, p_sid_key TEXT, p_end TEXT, p_now BIGINT) RETURNS SETOF rp_session
LANGUAGE plpgsql AS $$
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
    RETURN NEXT v_session;
  END LOOP;
END
$$;
`
