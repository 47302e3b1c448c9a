/*
 * The OP may know an RP session by another sid than at login. The lock of the new name is taken before the row, as the rules
 * on locks say: a logout of it either comes before and has left its mark, or finds the RP session.
 */
export const sidFunctions: string = `
CREATE FUNCTION rp_change_sid(
  p_client INTEGER, p_handle TEXT, p_sid TEXT, p_sid_key TEXT, p_requested_at DOUBLE PRECISION, p_now BIGINT
) RETURNS TEXT LANGUAGE plpgsql AS $$
DECLARE
  v_now BIGINT;
BEGIN
  PERFORM pg_advisory_xact_lock(rp_name_lock(p_client, 'sid', p_sid_key));
  v_now := rp_now(p_now);
  PERFORM FROM rp_live(p_client, p_handle, v_now);
  IF NOT FOUND THEN RETURN 'gone'; END IF;
  IF EXISTS (SELECT FROM rp_logged_out WHERE client = p_client AND kind = 'sid' AND name_key = p_sid_key
    AND arrived_at > p_requested_at AND expires_at > v_now / 1000.0)
  THEN
    RETURN 'outdated';
  END IF;
  UPDATE rp_session SET sid = p_sid, sid_key = p_sid_key WHERE client = p_client AND handle = p_handle;
  RETURN 'changed';
END
$$;
`
