/*
 * Which of an RP session's sids are kept where they are too many, and which logouts of one that is reused come too late to
 * count. A node of the version before calls rp_add_sid without its last parameter and gets what it knew.
 */
export const learntFunctions: string = `
DROP FUNCTION rp_add_sid;

ALTER TABLE rp_further_sid ADD COLUMN learnt INTEGER NOT NULL DEFAULT 0; -- grows with each that the RP session learns

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
`
