import type { SqliteContext } from './sqlite-context.ts'

/** SQL: job `j` does not leave alone what has this name. */
const notSparing = (name: string): string =>
  `NOT EXISTS (SELECT 1 FROM spared p WHERE p.job = j.seq AND p.name = ${name})`

/**
 * SQL: the jobs that refuse the OP session `s`, since its login is not younger than they are (T2). An OP session falls with
 * its account, with everyone, and with each client that had logged in under it.
 */
const refusing = `
  SELECT j.at FROM end_job j WHERE j.issuer = s.issuer AND j.scope = 'account' AND j.name = s.account_id
    AND j.at >= s.since AND ${notSparing('s.uid')}
  UNION ALL
  SELECT j.at FROM end_job j WHERE j.issuer = s.issuer AND j.scope = 'everyone' AND j.name = ''
    AND j.at >= s.since AND s.account_id IS NOT NULL AND ${notSparing('s.uid')}
  UNION ALL
  SELECT j.at FROM op_session_client c JOIN end_job j
     ON j.issuer = c.issuer AND j.scope = 'client' AND j.name = c.client_id AND j.at >= c.since
   WHERE c.issuer = s.issuer AND c.uid = s.uid AND ${notSparing('s.uid')}`

/** SQL: the OP session `s` is refused. */
export const isRefused: string = `EXISTS (${refusing})`

/** SQL: since when the OP session `s` is refused, in epoch milliseconds. */
export const refusedAt: string = `(SELECT min(at) FROM (${refusing}))`

/** SQL: a job of this scope, of an end that revokes grants unless the model is an Interaction, refuses the model `m`. */
const modelRefusedBy = (scope: string, name: string): string => `EXISTS (
  SELECT 1 FROM end_job j WHERE j.issuer = m.issuer AND j.scope = '${scope}' AND j.name = ${name} AND j.at >= m.since
    AND (j.revoke_offline OR m.kind = 'Interaction')
    AND ${notSparing("CASE WHEN m.kind = 'Interaction' THEN m.handle ELSE coalesce(m.grant_id, m.handle) END")})`

/** SQL: the model `m` is refused: an Interaction with its account, another model with its grant, for causes that revoke those. */
export const isModelRefused: string = `(m.account_id IS NOT NULL AND (
  ${modelRefusedBy('account', 'm.account_id')} OR ${modelRefusedBy('everyone', "''")}
  OR (m.kind <> 'Interaction' AND ${modelRefusedBy('client', 'm.client_id')})))`

/** What `endAll` refuses, beside OP sessions that are in the store; all methods belong inside a transaction of the store. */
export interface SqliteRefusals {
  /** The OP session is refused as it stands in the store (`kept`), or an RP's login under it while it is not saved yet. */
  opSession(uid: string, kept: { account_id: string | null; since: number } | undefined): boolean
  /** A login that is as old as `since` is refused. */
  login(accountId: string, since: number, interaction: string): boolean
  /** Jobs that leave an Interaction alone leave the OP session alone that comes out of it. */
  spareLogin(interaction: string, uid: string): void
  /** Jobs that leave an OP session alone leave the grants alone that are recorded under it. */
  spareGrant(uid: string, grantId: string): void
}

/**
 * Prepares the questions that saves ask: small ones, since almost always nothing is refused. None joins tables, or has an EXISTS
 * that SQLite makes a join of: it would plan a join anew each time that names are bound to it, for ten times what it takes to ask.
 */
export function sqliteRefusals({ db, issuer, now }: SqliteContext): SqliteRefusals {
  const byScope = db.prepare<[number, string, string, number, string], { refused: 1 }>(
    `SELECT 1 AS refused FROM end_job j
     WHERE j.issuer = ? AND j.scope = ? AND j.name = ? AND j.at >= ? AND ${notSparing('?')}
     LIMIT 1`,
  )
  const byClient = db.prepare<[number, string], { refused: 1 }>(
    `SELECT 1 AS refused FROM op_session_client c WHERE c.issuer = ? AND c.uid = ? AND
       (SELECT 1 FROM end_job j WHERE j.issuer = c.issuer AND j.scope = 'client' AND j.name = c.client_id AND j.at >= c.since
          AND ${notSparing('c.uid')} LIMIT 1)
     LIMIT 1`,
  )
  const grantSince = db.prepare<[number, string], { since: number }>(
    `SELECT since FROM model WHERE issuer = ? AND grant_id = ? AND kind = 'Grant'`,
  )
  const spare = db.prepare<[string, string, number, number]>(
    `INSERT INTO spared (job, name)
       SELECT p.job, ? FROM spared p
       WHERE p.name = ? AND (SELECT 1 FROM end_job j WHERE j.seq = p.job AND j.issuer = ? AND j.at >= ?)
     ON CONFLICT DO NOTHING`,
  )

  const refusesLogin = (accountId: string, since: number, thing: string): boolean =>
    byScope.get(issuer, 'account', accountId, since, thing) !== undefined ||
    byScope.get(issuer, 'everyone', '', since, thing) !== undefined

  return {
    opSession: (uid, kept) =>
      (kept !== undefined && kept.account_id !== null && refusesLogin(kept.account_id, kept.since, uid)) ||
      byClient.get(issuer, uid) !== undefined,
    login: refusesLogin,
    spareLogin: (interaction, uid) => {
      spare.run(uid, interaction, issuer, 0)
    },
    spareGrant: (uid, grantId) => {
      spare.run(grantId, uid, issuer, grantSince.get(issuer, grantId)?.since ?? now())
    },
  }
}
