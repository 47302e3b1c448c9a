import { base64url } from '../../protocol/session-state.ts'
import { type Postgres, type Queries, type Statement, statement, type Value } from '../../runtime/postgres.ts'
import type { Runtime } from '../../runtime/runtime.ts'

/** What each part of the PostgreSQL OP store works with: the database as one issuer sees it. */
export interface PostgresContext {
  /** Epoch milliseconds, by this node's clock. */
  now(): number
  /** Epoch seconds, by this node's clock. */
  seconds(): number
  newId(): string
  /** Runs one method of the store as one transaction, after a turn of cleaning. */
  write<Result>(work: (queries: Queries) => Promise<Result>): Promise<Result>
  /** As `write`, without waiting for the disk: for what is harmless to lose with the power. */
  writeSoon<Result>(work: (queries: Queries) => Promise<Result>): Promise<Result>
  /** Statements that need no transaction, each by itself; what they change is durable. */
  readonly each: Queries
  /** The time that all nodes share. */
  clock(): Promise<SharedClock>
  /** The value for {@link sharedNow}. */
  readonly replacedNow: () => number | null
}

/** SQL: the time that all nodes share, in epoch milliseconds; the parameter is what `replacedNow` answers. */
export const sharedNow = (parameter: string): string =>
  `coalesce(${parameter}::bigint, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)`

/**
 * The time that all nodes share, held against this node's: a lease that one node takes and another waits for is measured by
 * one clock, however far theirs are apart. Epoch milliseconds.
 */
export interface SharedClock {
  readonly now: number
  /** What this node calls `time`, as all call it. */
  fromNode(time: number): number
  /** What all call `time`, as this node calls it. */
  toNode(time: number): number
}

/** What all issuers of a store share. */
export interface PostgresParts {
  readonly db: Postgres
  /** Resolves when the schema is there; asks again after a failure. */
  ready(): Promise<void>
  /** Replaces the database's clock. */
  readonly clock: (() => number) | undefined
}

const findIssuer = statement<{ id: number }>('issuer', 'SELECT id FROM issuer WHERE url = $1')
const addIssuer = statement('issuer_add', 'INSERT INTO issuer (url) VALUES ($1) ON CONFLICT DO NOTHING')
const readClock = statement<{ now: number }>(
  'clock',
  'SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now',
)

/** Makes the context of one issuer; its first use connects. `clean` runs before a write, in a transaction of its own. */
export function openContext(
  { db, ready, clock }: PostgresParts,
  issuer: string,
  runtime: Pick<Runtime, 'now' | 'random'>,
  clean: (context: PostgresContext) => Promise<void>,
): PostgresContext {
  let id: Promise<number> | undefined
  const issuerId = (): Promise<number> => {
    id ??= idOf(db, ready, issuer).catch((error: unknown) => {
      id = undefined // whoever asks next tries again
      throw error
    })
    return id
  }
  const now = (): number => Math.floor(runtime.now())
  const context: PostgresContext = {
    now,
    seconds: () => Math.floor(runtime.now() / 1000),
    newId: () => base64url(runtime.random(16)),
    async write(work) {
      const id = await issuerId()
      await clean(context)
      return db.transaction((queries) => work(ofIssuer(queries, id)))
    },
    async writeSoon(work) {
      const id = await issuerId()
      return db.transaction((queries) => work(ofIssuer(queries, id)), { soon: true })
    },
    each: {
      all: async (what, ...values) => db.all(what, await issuerId(), ...values),
      first: async (what, ...values) => db.first(what, await issuerId(), ...values),
      change: async (what, ...values) => db.change(what, await issuerId(), ...values),
    },
    async clock() {
      const shared = clock ? Math.floor(clock()) : ((await db.first(readClock))?.now as number)
      const ahead = shared - now()
      return { now: shared, fromNode: (time) => time + ahead, toNode: (time) => time - ahead }
    },
    replacedNow: () => (clock ? Math.floor(clock()) : null),
  }
  return context
}

async function idOf(db: Postgres, ready: () => Promise<void>, issuer: string): Promise<number> {
  await ready()
  const known = await db.first(findIssuer, issuer)
  if (known) return known.id
  await db.change(addIssuer, issuer)
  return (await db.first(findIssuer, issuer))?.id as number
}

/** Every statement of the store takes the issuer as its first value. */
function ofIssuer({ all, first, change }: Queries, id: number): Queries {
  return {
    all: <Row>(what: Statement<Row>, ...values: readonly Value[]) => all(what, id, ...values),
    first: <Row>(what: Statement<Row>, ...values: readonly Value[]) => first(what, id, ...values),
    change: (what, ...values) => change(what, id, ...values),
  }
}
