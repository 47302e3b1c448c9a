/*
 * What must happen in one step is a function in the database: one round trip, one transaction, and nothing half done when
 * the connection breaks. Statements inside a function that is VOLATILE see what others committed before they began, so what
 * is read after a lock was waited for is fresh.
 *
 * Locks, always in this order: the names (a sid or a sub, as advisory locks; two of them in the order of their numbers),
 * then rows by handle. A login and a logout that share a name wait for each other, so the login either sees the logout's
 * watermark or its RP session is found by the logout.
 */

/** What the others are made of: the clock, locks, who is alive, what is owed, an end, and the sweep. */
export const functions: string = `
-- Epoch milliseconds: those given, or the database's own.
CREATE FUNCTION rp_now(p_now BIGINT) RETURNS BIGINT LANGUAGE sql VOLATILE AS $$
  SELECT coalesce(p_now, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint)
$$;

CREATE FUNCTION rp_name_lock(p_client INTEGER, p_kind TEXT, p_key TEXT) RETURNS BIGINT LANGUAGE sql IMMUTABLE AS $$
  SELECT hashtextextended('lockstep rp ' || p_client || ' ' || p_kind || ' ' || p_key, 0)
$$;

CREATE FUNCTION rp_is_live(p_session rp_session, p_now BIGINT) RETURNS BOOLEAN LANGUAGE sql IMMUTABLE AS $$
  SELECT least(p_session.idle_expires_at, p_session.expires_at) > p_now / 1000.0
$$;

-- A live RP session, locked.
CREATE FUNCTION rp_live(p_client INTEGER, p_handle TEXT, p_now BIGINT) RETURNS SETOF rp_session LANGUAGE sql VOLATILE AS $$
  SELECT * FROM rp_session s WHERE client = p_client AND handle = p_handle AND rp_is_live(s, p_now) FOR UPDATE
$$;

-- Handles of all that have a sid, of the login or learnt later, alive or not.
CREATE FUNCTION rp_named_by_sid(p_client INTEGER, p_sid_key TEXT) RETURNS TEXT[] LANGUAGE sql VOLATILE AS $$
  SELECT ARRAY(SELECT handle FROM rp_session WHERE client = p_client AND sid_key = p_sid_key
    UNION SELECT handle FROM rp_further_sid WHERE client = p_client AND sid_key = p_sid_key)
$$;

-- Whether the browser has shown another sid since this one was logged out; with the login it has shown that of the login. A
-- watermark may be of whole seconds: the logout was until the next one.
CREATE FUNCTION rp_is_left_behind(p_session rp_session, p_sid_key TEXT, p_watermark DOUBLE PRECISION)
RETURNS BOOLEAN LANGUAGE sql VOLATILE AS $$
  WITH shown AS (
    SELECT sid_key, asked_at FROM rp_further_sid WHERE client = p_session.client AND handle = p_session.handle
    UNION ALL SELECT p_session.sid_key, p_session.requested_at WHERE p_session.sid_key IS NOT NULL
  )
  SELECT EXISTS (SELECT FROM shown WHERE sid_key <> p_sid_key AND asked_at >= (floor(p_watermark) + 1) * 1000
    AND asked_at > coalesce((SELECT max(own.asked_at) FROM shown own WHERE own.sid_key = p_sid_key), 0))
$$;

CREATE FUNCTION rp_owe(p_client INTEGER, p_token TEXT, p_now BIGINT) RETURNS VOID LANGUAGE sql AS $$
  INSERT INTO rp_owed (client, token, owed_since, attempts, due_at) VALUES (p_client, p_token, p_now, 0, p_now)
$$;

CREATE FUNCTION rp_owe_downstream(p_client INTEGER, p_debt TEXT, p_now BIGINT) RETURNS VOID LANGUAGE sql AS $$
  INSERT INTO rp_owed_downstream (client, debt, owed_since, attempts, due_at)
  SELECT p_client, p_debt, p_now, 0, p_now WHERE p_debt IS NOT NULL
$$;

-- An end of 'null' is told to nobody; it is kept for a refresh token that comes late.
CREATE FUNCTION rp_end(p_session rp_session, p_end TEXT, p_revoke_offline BOOLEAN, p_now BIGINT) RETURNS VOID
LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM rp_session WHERE client = p_session.client AND handle = p_session.handle;
  INSERT INTO rp_ended (client, handle, public_id, ended, expires_at, revoke_offline)
    VALUES (p_session.client, p_session.handle, p_session.public_id, p_end, p_session.expires_at, p_revoke_offline)
    ON CONFLICT (client, handle) DO UPDATE SET public_id = excluded.public_id, ended = excluded.ended,
      expires_at = excluded.expires_at, revoke_offline = excluded.revoke_offline;
  IF p_session.refresh_token IS NOT NULL AND (p_revoke_offline OR NOT p_session.refresh_offline) THEN
    PERFORM rp_owe(p_session.client, p_session.refresh_token, p_now);
  END IF;
END
$$;

-- Each write clears away a few dead rows, and owes what they leave, so that nothing has to run at night. A minute later than an
-- RP session expires: a refresh that is under way still finds it.
CREATE FUNCTION rp_sweep(p_now BIGINT) RETURNS VOID LANGUAGE plpgsql AS $$
DECLARE
  v_seconds DOUBLE PRECISION := p_now / 1000.0;
BEGIN
  WITH past AS (
    DELETE FROM rp_session WHERE (client, handle) IN (SELECT client, handle FROM rp_session
      WHERE expires_at <= v_seconds - 60 ORDER BY expires_at LIMIT 20 FOR UPDATE SKIP LOCKED)
    RETURNING client, refresh_token, refresh_offline
  )
  INSERT INTO rp_owed (client, token, owed_since, attempts, due_at)
    SELECT client, refresh_token, p_now, 0, p_now FROM past WHERE refresh_token IS NOT NULL AND NOT refresh_offline;
  DELETE FROM rp_ended WHERE (client, handle) IN (SELECT client, handle FROM rp_ended
    WHERE expires_at <= v_seconds ORDER BY expires_at LIMIT 20 FOR UPDATE SKIP LOCKED);
  DELETE FROM rp_logged_out WHERE (client, kind, name_key) IN (SELECT client, kind, name_key FROM rp_logged_out
    WHERE expires_at <= v_seconds ORDER BY expires_at LIMIT 20 FOR UPDATE SKIP LOCKED);
  DELETE FROM rp_jti WHERE (client, jti_key) IN (SELECT client, jti_key FROM rp_jti
    WHERE expires_at <= v_seconds ORDER BY expires_at LIMIT 20 FOR UPDATE SKIP LOCKED);
END
$$;
`
