import { LockstepError } from '../../protocol/errors.ts'
import { type Commands, type Postgres, statement } from '../../runtime/postgres.ts'
import type { ResolvedPostgresOptions } from '../../runtime/postgres-connection.ts'
import { functions } from './postgres-functions.ts'
import { logoutFunctions } from './postgres-logout-functions.ts'
import { sessionFunctions } from './postgres-session-functions.ts'
import { steps } from './postgres-steps.ts'

const oneAtATime = statement('rp_migrate_lock', 'SELECT pg_advisory_xact_lock(hashtextextended($1, 0))')
const findSchema = statement<{ found: 1 }>(
  'rp_migrate_schema',
  'SELECT 1 AS found FROM pg_namespace WHERE nspname = $1',
)
const findTable = statement<{ found: boolean }>('rp_migrate_table', 'SELECT to_regclass($1) IS NOT NULL AS found')
const latest = statement<{ step: number }>(
  'rp_migrate_latest',
  'SELECT coalesce(max(step), 0)::int AS step FROM rp_migration',
)

const present = functions + sessionFunctions + logoutFunctions
const namesOfPresent = [...present.matchAll(/^CREATE FUNCTION (\w+)/gm)].map(([, name]) => name)
/** That earlier versions made. */
const namesOfPast = ['rp_change_sid', 'rp_end_put_by', 'rp_owe_token']

/** By name, whatever their parameters: the schema may be the app's own, with functions of its own. */
const dropFunctions = `
DO $$
DECLARE
  v_function REGPROCEDURE;
BEGIN
  FOR v_function IN SELECT p.oid FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname = current_schema() AND p.proname IN (${[...namesOfPast, ...namesOfPresent].map((name) => `'${name}'`).join(', ')})
  LOOP
    EXECUTE 'DROP FUNCTION ' || v_function;
  END LOOP;
END
$$`

/**
 * Brings the schema up to date, whole or not at all; of several nodes that start at once one does it, the others wait.
 *
 * @throws LockstepError `store_failed` when a newer Lockstep has been here.
 */
export async function migrate(
  db: Postgres,
  { schema, place }: Pick<ResolvedPostgresOptions, 'schema' | 'place'>,
): Promise<void> {
  await db.transaction(async (queries) => {
    await queries.all(oneAtATime, `lockstep migrate rp ${schema}`)
    await createFirstTable(queries, schema)
    const { step: taken = 0 } = (await queries.first(latest)) ?? {}
    if (taken > steps.length) {
      throw new LockstepError(
        'store_failed',
        `PostgreSQL at ${place} has RP schema ${taken}, this Lockstep knows ${steps.length}: a newer Lockstep wrote it`,
      )
    }
    if (taken === steps.length) return
    await queries.command(dropFunctions)
    for (const [i, step] of steps.entries()) {
      if (i < taken) continue
      await queries.command(step)
      await queries.command(`INSERT INTO rp_migration (step) VALUES (${i + 1})`)
    }
    await queries.command(present)
  })
}

async function createFirstTable(queries: Commands, schema: string): Promise<void> {
  // CREATE ... IF NOT EXISTS would want the right to create even where there is nothing to do
  if (!(await queries.first(findSchema, schema))) await queries.command(`CREATE SCHEMA "${schema}"`)
  if ((await queries.first(findTable, `"${schema}".rp_migration`))?.found) return
  await queries.command(
    'CREATE TABLE rp_migration (step INTEGER PRIMARY KEY, taken_at TIMESTAMPTZ NOT NULL DEFAULT now())',
  )
}
