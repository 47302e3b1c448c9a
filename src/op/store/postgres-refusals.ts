import { type Queries, statement } from '../../runtime/postgres.ts'
import { type PostgresContext, sharedNow } from './postgres-context.ts'

/** SQL: job `j` does not leave alone what has this name. */
const notSparing = (name: string): string =>
  `NOT EXISTS (SELECT 1 FROM spared p WHERE p.job = j.seq AND p.name = ${name})`

/** SQL: the jobs that refuse what was logged in under an OP session because of a client it was logged in to. */
const refusingByClient = (issuer: string, uid: string): string =>
  `SELECT j.at FROM op_session_client c JOIN end_job j
     ON j.issuer = c.issuer AND j.scope = 'client' AND j.name = c.client_id AND j.at >= c.since
   WHERE c.issuer = ${issuer} AND c.uid = ${uid} AND ${notSparing(uid)}`

/** SQL: an RP's login is refused under an OP session that is not saved yet. */
export const isRefusedByClient = (issuer: string, uid: string): string => `EXISTS (${refusingByClient(issuer, uid)})`

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
  ${refusingByClient('s.issuer', 's.uid')}`

/** SQL: the OP session `s` is refused. */
export const isRefused: string = `EXISTS (${refusing})`

/** SQL: since when the OP session `s` is refused, by the clock that all nodes share; NULL when it is not. */
export const refusedAt: string = `(SELECT min(at) FROM (${refusing}) AS refusing)`

/** SQL: the model `m` is refused: an Interaction with its account, another model with its grant, for causes that revoke those. */
export const isModelRefused: string = `EXISTS (
  SELECT 1 FROM end_job j WHERE j.issuer = m.issuer AND m.account_id IS NOT NULL AND j.at >= m.since
    AND ((j.scope = 'account' AND j.name = m.account_id) OR (j.scope = 'everyone' AND j.name = '')
         OR (j.scope = 'client' AND j.name = m.client_id AND m.kind <> 'Interaction'))
    AND (j.revoke_offline OR m.kind = 'Interaction')
    AND ${notSparing("CASE WHEN m.kind = 'Interaction' THEN m.handle ELSE coalesce(m.grant_id, m.handle) END")})`

const loginRefused = statement<{ refused: 1 }>(
  'refused_login',
  `SELECT 1 AS refused FROM end_job j
   WHERE j.issuer = $1 AND j.at >= $3 AND ${notSparing('$4')}
     AND ((j.scope = 'account' AND j.name = $2) OR (j.scope = 'everyone' AND j.name = ''))
   LIMIT 1`,
)
const spareLoginOf = statement(
  'spare_login',
  `INSERT INTO spared (job, name)
     SELECT j.seq, $3 FROM spared p JOIN end_job j ON j.seq = p.job WHERE p.name = $2 AND j.issuer = $1
   ON CONFLICT DO NOTHING`,
)
const spareGrantsOf = statement(
  'spare_grants',
  `INSERT INTO spared (job, name)
     SELECT j.seq, g.id FROM unnest($3::text[]) AS g (id), spared p JOIN end_job j ON j.seq = p.job
     WHERE p.name = $2 AND j.issuer = $1 AND j.at >= coalesce(
       (SELECT m.since FROM model m WHERE m.issuer = $1 AND m.grant_id = g.id AND m.kind = 'Grant' LIMIT 1),
       ${sharedNow('$4')})
   ON CONFLICT DO NOTHING`,
)

/** A login that is as old as `since` is refused. */
export async function isLoginRefused(
  queries: Queries,
  accountId: string,
  { since, interaction }: { since: number; interaction: string },
): Promise<boolean> {
  return (await queries.first(loginRefused, accountId, since, interaction)) !== undefined
}

/** Jobs that leave an Interaction alone leave the OP session alone that comes out of it. */
export async function spareLogin(queries: Queries, interaction: string, uid: string): Promise<void> {
  await queries.change(spareLoginOf, interaction, uid)
}

/** Jobs that leave an OP session alone leave the grants alone that are recorded under it. */
export async function spareGrants(
  queries: Queries,
  { replacedNow }: Pick<PostgresContext, 'replacedNow'>,
  uid: string,
  grantIds: readonly string[],
): Promise<void> {
  if (grantIds.length > 0) await queries.change(spareGrantsOf, uid, grantIds, replacedNow())
}
