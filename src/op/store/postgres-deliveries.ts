import { type Queries, type Statement, statement, type Value } from '../../runtime/postgres.ts'
import type { AttemptOutcome, DeliveryFilter, OpIssuerStore } from './contract.ts'
import {
  anywhere,
  clocksDiffer,
  conditionsOf,
  firstAt,
  mostWalked,
  type Road,
  readCursor,
  roadOf,
  type Span,
  timesOf,
  touched,
  writeCursor,
} from './delivery-filter.ts'
import {
  type AttemptRow,
  attemptColumns,
  type DeliveryRow,
  deliveryColumns,
  toAttempt,
  toDelivery,
} from './delivery-row.ts'
import type { PostgresContext } from './postgres-context.ts'

type Deliveries = Pick<
  OpIssuerStore,
  | 'listDeliveries'
  | 'getDelivery'
  | 'retryDeliveries'
  | 'rescheduleDeliveries'
  | 'dropDeliveries'
  | 'countDeliveries'
  | 'notePropagation'
>

const rows = 'FROM delivery d JOIN logout l ON l.cursor = d.logout'
const lastSeq = statement<{ seq: number | null }>(
  'deliveries_last',
  'SELECT max(seq) AS seq FROM delivery WHERE $1::int IS NOT NULL',
)
const plannedAt = statement<{ at: number }>(
  'deliveries_planned_at',
  'SELECT created_at AS at FROM delivery WHERE $1::int IS NOT NULL AND seq >= $2 ORDER BY seq LIMIT 1',
)
const firstRow = statement<{ seq: number }>('deliveries_first_at', `${firstAt('$2')} WHERE $1::int IS NOT NULL`)
const attemptsOf = statement<AttemptRow>(
  'deliveries_attempts',
  `SELECT ${attemptColumns}
   FROM delivery d JOIN attempt a ON a.delivery = d.seq
   WHERE d.issuer = $1 AND d.id = $2 ORDER BY a.number DESC LIMIT $3`,
)
const byId = statement<DeliveryRow>(
  'deliveries_by_id',
  `SELECT ${deliveryColumns} ${rows} WHERE d.issuer = $1 AND d.id = $2`,
)
const counted = (state: string): string =>
  `(SELECT count(*) FROM (SELECT 1 FROM delivery d WHERE d.issuer = $1 AND d.state <> 'delivered'
     AND d.state = '${state}' AND (d.dropped_by IS NULL OR d.state <> 'dead') LIMIT $2) AS found)::int`
const count = statement<{ due: number; in_flight: number; refused: number; dead: number }>(
  'deliveries_count',
  `SELECT ${counted('due')} AS due, ${counted('in-flight')} AS in_flight, ${counted('refused')} AS refused,
     ${counted('dead')} AS dead`,
)

const propagated = statement<{ planned_at: number; propagated_at: number }>(
  'deliveries_propagated',
  `UPDATE logout SET propagated_at = confirmed.at
   FROM (SELECT l.cursor, min(d.created_at) AS planned_at, max(d.final_at) AS at
         FROM logout l JOIN delivery d ON d.logout = l.cursor WHERE l.issuer = $1 AND l.id = $2
         GROUP BY l.cursor HAVING bool_and(d.state = 'delivered')) AS confirmed
   WHERE logout.cursor = confirmed.cursor AND logout.propagated_at IS NULL
   RETURNING confirmed.planned_at, logout.propagated_at`,
)

/** What operators ask about deliveries, and do with them, in PostgreSQL. */
export function postgresDeliveries(context: PostgresContext): Deliveries {
  const { each } = context

  return {
    async listDeliveries(filter, { cursor, limit }) {
      const road = roadOf(filter)
      const { text, values } = numbered(filter, 5)
      const before = cursor === undefined ? ((await each.first(lastSeq))?.seq ?? 0) + 1 : readCursor(cursor)
      const floor = road.isWalk ? Math.max(before - mostWalked, 0) : 0
      const found = await each.all(
        shaped<DeliveryRow>(
          'list',
          `SELECT ${deliveryColumns} ${rows}
           WHERE ${issuerOne(road)} AND ${road.seq} < $2 AND ${road.seq} >= $3 ${text} ORDER BY ${road.seq} DESC LIMIT $4`,
        ),
        before,
        floor,
        limit + 1,
        ...values,
      )
      const part = found.slice(0, limit)
      const isOver = floor === 0 || (filter.since ?? 0) - clocksDiffer > ((await each.first(plannedAt, floor))?.at ?? 0)
      const next = found.length > limit ? part.at(-1)?.seq : isOver ? undefined : floor
      const { toNode } = await context.clock()
      return {
        deliveries: part.map((row) => toDelivery(row, toNode)),
        ...(next !== undefined && { cursor: writeCursor(next) }),
      }
    },

    async getDelivery(id, limit) {
      const row = await each.first(byId, id)
      if (!row) return undefined
      const { toNode } = await context.clock()
      return {
        delivery: toDelivery(row, toNode),
        attempts: (await each.all(attemptsOf, id, limit)).map(toAttempt),
      }
    },

    async retryDeliveries(filter, limit) {
      const { now } = await context.clock()
      return context.write((queries) =>
        change(queries, touched(filter, ['due', 'refused', 'dead', 'dropped']), limit, {
          name: 'retry',
          set: `state = 'due', due_at = $3, final_at = NULL`,
          values: [now],
          where: '(d.due_at IS NULL OR d.due_at > $3)',
        }),
      )
    },

    async rescheduleDeliveries(filter, limit) {
      const { now } = await context.clock()
      return context.write((queries) =>
        change(queries, touched(filter, ['refused', 'dead', 'dropped']), limit, {
          name: 'reschedule',
          set: `state = 'due', due_at = $3, final_at = NULL, scheduled_at = $4, attempts_before = attempts, refusals = 0,
                refused_since = NULL, last_outcome = NULL, dropped_by = NULL`,
          values: [now, context.now()],
          where: 'd.due_at IS NULL',
        }),
      )
    },

    async dropDeliveries(filter, actor, limit) {
      const outcome: AttemptOutcome = { state: 'dead', why: 'dropped' }
      return context.write((queries) =>
        change(queries, touched(filter, ['due', 'in-flight', 'refused', 'dead']), limit, {
          name: 'drop',
          set: `state = CASE state WHEN 'in-flight' THEN state ELSE 'dead' END, dropped_by = $4, last_outcome = $5,
                due_at = CASE state WHEN 'in-flight' THEN due_at END,
                final_at = CASE WHEN state <> 'in-flight' THEN $3::bigint END`,
          values: [context.now(), actor, JSON.stringify(outcome)],
          where: `(d.dropped_by IS NULL OR d.state = 'due')`,
        }),
      )
    },

    async countDeliveries(most) {
      const found = await each.first(count, most)
      const { due = 0, in_flight: inFlight = 0, refused = 0, dead = 0 } = found ?? {}
      return { due, 'in-flight': inFlight, refused, dead }
    },

    async notePropagation(logoutId) {
      const found = await context.writeSoon((queries) => queries.first(propagated, logoutId))
      return found && { plannedAt: found.planned_at, confirmedAt: found.propagated_at }
    },
  }
}

interface Change {
  readonly name: string
  /** SQL; its values begin at `$3`. */
  readonly set: string
  readonly values: readonly (string | number)[]
  readonly where: string
}

/** Changes up to `limit` rows of each of the filters in turn, the oldest first; what others hold at this moment is skipped. */
async function change(
  queries: Queries,
  filters: readonly DeliveryFilter[],
  limit: number,
  { name, set, values, where }: Change,
): Promise<number> {
  let changed = 0
  for (const filter of filters) {
    const road = roadOf(filter)
    const { from, to } = road.isWalk ? await spanOf(queries, filter) : anywhere
    const rest = numbered(filter, 5 + values.length)
    changed += await queries.change(
      shaped(
        name,
        `WITH picked AS MATERIALIZED (
           SELECT d.seq ${rows} WHERE ${issuerOne(road)} ${rest.text} AND ${where}
             AND ${road.seq} >= $${3 + values.length} AND ${road.seq} < $${4 + values.length} ORDER BY ${road.seq} LIMIT $2
           FOR UPDATE OF d SKIP LOCKED)
         UPDATE delivery SET ${set} FROM picked WHERE delivery.seq = picked.seq`,
      ),
      limit - changed,
      ...values,
      from,
      to,
      ...rest.values,
    )
  }
  return changed
}

async function spanOf(queries: Queries, filter: DeliveryFilter): Promise<Span> {
  const rowAt = async (time: number | undefined): Promise<number | undefined> =>
    time === undefined ? undefined : (await queries.first(firstRow, time))?.seq
  const { from, to } = timesOf(filter)
  return { from: (await rowAt(from)) ?? anywhere.from, to: (await rowAt(to)) ?? anywhere.to }
}

/** Statements have names, and filters have some dozens of shapes. */
const shapes = new Map<string, string>()
function shaped<Row = never>(name: string, text: string): Statement<Row> {
  const known = shapes.get(text) ?? `deliveries_${name}_${shapes.size}`
  shapes.set(text, known)
  return statement<Row>(known, text)
}

function issuerOne({ issuer }: Road): string {
  return issuer.replace('?', () => '$1')
}

/** The conditions with the numbers of their values, from `first` on. */
function numbered(filter: DeliveryFilter, first: number): { text: string; values: Value[] } {
  const values: Value[] = []
  const text = conditionsOf(filter).map(({ sql, value }) => {
    if (value !== undefined) values.push(value)
    return `AND ${sql.replace('?', () => `$${first + values.length - 1}`)}`
  })
  return { text: text.join(' '), values }
}
