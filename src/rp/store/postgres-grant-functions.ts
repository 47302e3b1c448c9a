/* What an expired RP session leaves is owed unless a live one shares its grant, by any of the sids that its tokens have had. */
export const grantFunctions: string = `
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
`
