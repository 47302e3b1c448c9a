/*
 * The sids that an RP session has besides that of its login. A node of the version before goes on calling these functions as
 * it did, but for `rp_change_sid`, which stays for it.
 *
 * A logout looks for handles first and then locks their rows, whatever sid they have by then: a sid is only ever added, so
 * one that was found is still meant.
 */
export const furtherSidFunctions: string = `
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
  p_client INTEGER, p_handle TEXT, p_sid_key TEXT, p_requested_at DOUBLE PRECISION, p_of_grant BOOLEAN, p_now BIGINT,
  p_sid_reused BOOLEAN DEFAULT false
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
    AND NOT rp_is_left_behind(p_client, p_handle, p_sid_key, watermark))
  THEN
    RETURN 'outdated';
  END IF;
  -- That of the login is kept here once the browser has had others.
  IF v_session.sid_key = p_sid_key AND (p_of_grant
    OR NOT EXISTS (SELECT FROM rp_further_sid WHERE client = p_client AND handle = p_handle)) THEN
    RETURN 'added';
  END IF;
  SELECT coalesce(max(learnt), 0) + 1 INTO v_learnt FROM rp_further_sid WHERE client = p_client AND handle = p_handle;
  INSERT INTO rp_further_sid AS known
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
