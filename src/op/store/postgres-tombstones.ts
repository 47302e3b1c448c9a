import { type Queries, statement } from '../../runtime/postgres.ts'
import { longestRequest } from './longest-request.ts'
import type { PostgresContext } from './postgres-context.ts'

/** What can be gone for good, and what is locked so that it stays gone. */
export type Name = readonly [kind: 'uid' | 'handle' | 'grant', name: string]

/** What `endAll` locks against all saves of OP sessions and their RPs, which share it; before any other name. */
export const ends: readonly ['ends', ''] = ['ends', '']
type Lock = Name | typeof ends

const find = statement<{ kind: Name[0] }>(
  'tombstone_find',
  `SELECT kind FROM tombstone
   WHERE issuer = $1 AND (kind, name) IN (SELECT * FROM unnest($2::text[], $3::text[]))`,
)
const keep = statement(
  'tombstone_keep',
  `INSERT INTO tombstone (issuer, kind, name, expires_at) SELECT DISTINCT $1::int, kind, name, $4::bigint
   FROM unnest($2::text[], $3::text[]) AS gone (kind, name) ORDER BY kind, name
   ON CONFLICT (issuer, kind, name) DO UPDATE SET expires_at = greatest(tombstone.expires_at, excluded.expires_at)`,
)
const lockAlone = statement(
  'lock_alone',
  'SELECT pg_advisory_xact_lock(hashtextextended(name, $1)) FROM unnest($2::text[]) AS name',
)
const lockShared = statement(
  'lock_shared',
  'SELECT pg_advisory_xact_lock_shared(hashtextextended(name, $1)) FROM unnest($2::text[]) AS name',
)

/**
 * Makes everybody else who names one of these wait until the transaction is over.
 *
 * A name need not have a row to be locked: the first save of an OP session, the login that is recorded before it and its
 * end meet here. Read what the lock protects by a later statement, which sees what was committed while this one waited.
 * All that is locked at once is locked in one order: {@link ends}, uids, handles, grants.
 */
export async function lock(queries: Queries, names: readonly Lock[]): Promise<void> {
  await queries.all(lockAlone, namesOfLocks(names))
}

/** As {@link lock}, but those who share it do not wait for each other. */
export async function lockTogether(queries: Queries, names: readonly Lock[]): Promise<void> {
  await queries.all(lockShared, namesOfLocks(names))
}

const order: readonly Lock[0][] = ['ends', 'uid', 'handle', 'grant']

function namesOfLocks(names: readonly Lock[]): string[] {
  const sorted = [...names].sort(([a, x], [b, y]) => order.indexOf(a) - order.indexOf(b) || (x < y ? -1 : 1))
  return sorted.map(([kind, name]) => `lockstep ${kind} ${name}`)
}

/** Which kinds of these names are gone for good. */
export async function tombstonesAmong(queries: Queries, names: readonly Name[]): Promise<ReadonlySet<Name[0]>> {
  const found = await queries.all(
    find,
    names.map(([kind]) => kind),
    names.map(([, name]) => name),
  )
  return new Set(found.map(({ kind }) => kind))
}

/** Keeps tombstones until `expiresAt` (epoch seconds: the OP session's own expiry), and for a day at least. */
export async function bury(
  queries: Queries,
  { seconds }: Pick<PostgresContext, 'seconds'>,
  names: readonly Name[],
  expiresAt: number,
): Promise<void> {
  await queries.change(
    keep,
    names.map(([kind]) => kind),
    names.map(([, name]) => name),
    Math.max(expiresAt, seconds() + longestRequest),
  )
}
