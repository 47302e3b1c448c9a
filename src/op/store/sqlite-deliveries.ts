import type { AttemptOutcome, DeliveryFilter, OpIssuerStore } from './contract.ts'
import {
  anywhere,
  clocksDiffer,
  conditionsOf,
  firstAt,
  mostWalked,
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
import type { SqliteContext } from './sqlite-context.ts'

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

/** What operators ask about deliveries, and do with them, in SQLite. */
export function sqliteDeliveries(context: SqliteContext): Deliveries {
  const { db, issuer } = context
  const rows = 'FROM delivery d JOIN logout l ON l.cursor = d.logout'
  const lastSeq = db.prepare<[], { seq: number | null }>('SELECT max(seq) AS seq FROM delivery')
  const plannedAt = db.prepare<[number], { at: number }>(
    'SELECT created_at AS at FROM delivery WHERE seq >= ? ORDER BY seq LIMIT 1',
  )
  const attemptsOf = db.prepare<[number, number], AttemptRow>(
    `SELECT ${attemptColumns} FROM attempt a WHERE a.delivery = ? ORDER BY a.number DESC LIMIT ?`,
  )
  const byId = db.prepare<[number, string], DeliveryRow>(
    `SELECT ${deliveryColumns} ${rows} WHERE d.issuer = ? AND d.id = ?`,
  )
  const count = db.prepare<[number, string, number], { n: number }>(
    `SELECT count(*) AS n FROM (SELECT 1 FROM delivery d
       WHERE d.issuer = ? AND d.state <> 'delivered' AND d.state = ?
         AND (d.dropped_by IS NULL OR d.state <> 'dead') LIMIT ?)`,
  )

  const confirmed = db.prepare<[number, string], { cursor: number; plannedAt: number; confirmedAt: number }>(
    `SELECT l.cursor, min(d.created_at) AS plannedAt, max(d.final_at) AS confirmedAt
     FROM logout l JOIN delivery d ON d.logout = l.cursor
     WHERE l.issuer = ? AND l.id = ? AND l.propagated_at IS NULL
     GROUP BY l.cursor HAVING sum(d.state <> 'delivered') = 0`,
  )
  const propagated = db.prepare<[number, number]>('UPDATE logout SET propagated_at = ? WHERE cursor = ?')

  const firstRow = db.prepare<[number], { seq: number }>(firstAt('?'))
  const rowAt = (time: number | undefined): number | undefined =>
    time === undefined ? undefined : firstRow.get(time)?.seq
  function spanOf(filter: DeliveryFilter): Span {
    const { from, to } = timesOf(filter)
    return { from: rowAt(from) ?? anywhere.from, to: rowAt(to) ?? anywhere.to }
  }

  /** Changes up to `limit` rows of each of the filters in turn, the oldest first. */
  function change(
    filters: readonly DeliveryFilter[],
    limit: number,
    set: string,
    values: readonly (string | number)[],
    where: string,
  ): number {
    let changed = 0
    for (const filter of filters) {
      const road = roadOf(filter)
      const { from, to } = road.isWalk ? spanOf(filter) : anywhere
      const conditions = conditionsOf(filter)
      const update = db.prepare(
        `UPDATE delivery SET ${set} WHERE seq IN
           (SELECT d.seq ${rows} WHERE ${road.issuer} ${and(conditions)} AND ${where}
              AND ${road.seq} >= ? AND ${road.seq} < ? ORDER BY ${road.seq} LIMIT ?)`,
      )
      changed += update.run(...values, issuer, ...valuesOf(conditions), from, to, limit - changed).changes
    }
    return changed
  }

  return {
    async listDeliveries(filter, { cursor, limit }) {
      return context.read(() => {
        const { issuer: ofIssuer, seq, isWalk } = roadOf(filter)
        const conditions = conditionsOf(filter)
        const before = cursor === undefined ? (lastSeq.get()?.seq ?? 0) + 1 : readCursor(cursor)
        const floor = isWalk ? Math.max(before - mostWalked, 0) : 0
        const found = db
          .prepare<(string | number)[], DeliveryRow>(
            `SELECT ${deliveryColumns} ${rows}
             WHERE ${ofIssuer} ${and(conditions)} AND ${seq} < ? AND ${seq} >= ? ORDER BY ${seq} DESC LIMIT ?`,
          )
          .all(issuer, ...valuesOf(conditions), before, floor, limit + 1)
        const part = found.slice(0, limit)
        const isOver = floor === 0 || (filter.since ?? 0) - clocksDiffer > (plannedAt.get(floor)?.at ?? 0)
        const next = found.length > limit ? part.at(-1)?.seq : isOver ? undefined : floor
        return {
          deliveries: part.map((row) => toDelivery(row)),
          ...(next !== undefined && { cursor: writeCursor(next) }),
        }
      })
    },

    async getDelivery(id, limit) {
      return context.read(() => {
        const row = byId.get(issuer, id)
        return row && { delivery: toDelivery(row), attempts: attemptsOf.all(row.seq, limit).map(toAttempt) }
      })
    },

    async retryDeliveries(filter, limit) {
      return context.write(() => {
        const now = context.now()
        return change(
          touched(filter, ['due', 'refused', 'dead', 'dropped']),
          limit,
          `state = 'due', due_at = ?, final_at = NULL`,
          [now],
          `(d.due_at IS NULL OR d.due_at > ${now})`,
        )
      })
    },

    async rescheduleDeliveries(filter, limit) {
      return context.write(() => {
        const now = context.now()
        return change(
          touched(filter, ['refused', 'dead', 'dropped']),
          limit,
          `state = 'due', due_at = ?, final_at = NULL, scheduled_at = ?, attempts_before = attempts, refusals = 0, refused_since = NULL,
           last_outcome = NULL, dropped_by = NULL`,
          [now, now],
          'd.due_at IS NULL',
        )
      })
    },

    async dropDeliveries(filter, actor, limit) {
      return context.write(() =>
        change(
          touched(filter, ['due', 'in-flight', 'refused', 'dead']),
          limit,
          `state = CASE state WHEN 'in-flight' THEN state ELSE 'dead' END, due_at = CASE state WHEN 'in-flight' THEN due_at END,
           final_at = CASE WHEN state <> 'in-flight' THEN ? END, dropped_by = ?, last_outcome = ?`,
          [context.now(), actor, JSON.stringify({ state: 'dead', why: 'dropped' } satisfies AttemptOutcome)],
          `(d.dropped_by IS NULL OR d.state = 'due')`,
        ),
      )
    },

    async countDeliveries(most) {
      return context.read(() => {
        const of = (state: string): number => count.get(issuer, state, most)?.n ?? 0
        return { due: of('due'), 'in-flight': of('in-flight'), refused: of('refused'), dead: of('dead') }
      })
    },

    async notePropagation(logoutId) {
      return context.write(() => {
        const found = confirmed.get(issuer, logoutId)
        if (!found) return undefined
        const { cursor, ...times } = found
        propagated.run(times.confirmedAt, cursor)
        return times
      })
    },
  }
}

type Conditions = ReturnType<typeof conditionsOf>

function and(conditions: Conditions): string {
  return conditions.map(({ sql }) => `AND ${sql}`).join(' ')
}

function valuesOf(conditions: Conditions): (string | number)[] {
  return conditions.flatMap(({ value }) => (value === undefined ? [] : [value]))
}
