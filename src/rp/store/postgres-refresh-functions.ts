/*
 * One process refreshes the tokens of an RP session. Who holds that right is kept beside the RP sessions and not in them:
 * a new column there would change what the statements return that nodes of the version before have prepared.
 *
 * The row of the RP session is locked first, so that a logout either comes before or finds what was saved.
 */
export const refreshFunctions: string = `
CREATE TABLE rp_refreshing (
  client     INTEGER NOT NULL,
  handle     TEXT COLLATE "C" NOT NULL,
  expires_at DOUBLE PRECISION NOT NULL,
  PRIMARY KEY (client, handle)
);
CREATE INDEX rp_refreshing_expiry ON rp_refreshing (expires_at);

CREATE FUNCTION rp_claim_refresh(p_client INTEGER, p_handle TEXT, p_lease DOUBLE PRECISION, p_now BIGINT) RETURNS BOOLEAN
LANGUAGE plpgsql AS $$
DECLARE
  v_seconds DOUBLE PRECISION;
BEGIN
  PERFORM FROM rp_live(p_client, p_handle, rp_now(p_now));
  IF NOT FOUND THEN RETURN false; END IF;
  v_seconds := rp_now(p_now) / 1000.0;
  DELETE FROM rp_refreshing WHERE (client, handle) IN (SELECT client, handle FROM rp_refreshing
    WHERE expires_at <= v_seconds ORDER BY expires_at LIMIT 20 FOR UPDATE SKIP LOCKED);
  INSERT INTO rp_refreshing AS taken VALUES (p_client, p_handle, v_seconds + p_lease / 1000.0)
    ON CONFLICT (client, handle) DO UPDATE SET expires_at = excluded.expires_at WHERE taken.expires_at <= v_seconds;
  RETURN FOUND;
END
$$;

CREATE FUNCTION rp_save_tokens(
  p_client INTEGER, p_handle TEXT, p_tokens TEXT, p_refresh_token TEXT, p_refresh_offline BOOLEAN, p_now BIGINT
) RETURNS BOOLEAN LANGUAGE plpgsql AS $$
DECLARE
  v_now BIGINT := rp_now(p_now);
  v_is_alive BOOLEAN;
BEGIN
  UPDATE rp_session SET tokens = p_tokens, refresh_token = p_refresh_token, refresh_offline = p_refresh_offline
    WHERE client = p_client AND handle = p_handle
    AND idle_expires_at > v_now / 1000.0 AND expires_at > v_now / 1000.0;
  v_is_alive := FOUND;
  DELETE FROM rp_refreshing WHERE client = p_client AND handle = p_handle;
  IF NOT v_is_alive AND NOT p_refresh_offline THEN
    INSERT INTO rp_owed (client, token, owed_since, attempts, due_at)
      SELECT p_client, p_refresh_token, v_now, 0, v_now FROM rp_ended WHERE client = p_client AND handle = p_handle
      AND expires_at > v_now / 1000.0 AND ended::json ->> 'cause' <> 'frontchannel';
  END IF;
  RETURN v_is_alive;
END
$$;
`
