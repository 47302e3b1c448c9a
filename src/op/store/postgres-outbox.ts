import { statement } from '../../runtime/postgres.ts'
import { endsDropped, isAttempted, type OpIssuerStore } from './contract.ts'
import {
  type DeliveryRow,
  deliveryColumns,
  type FrameRow,
  frameColumns,
  type LogoutRow,
  logoutColumns,
  toClaimed,
  toDelivery,
  toFrame,
  toLogout,
} from './delivery-row.ts'
import type { PostgresContext } from './postgres-context.ts'

interface LeasedRow extends DeliveryRow {
  was_due: number
}

/** The delivery of an RP that comes due first. */
interface Head {
  client_id: string
  due_at: number
}

type Outbox = Pick<
  OpIssuerStore,
  'claimDue' | 'claimEarly' | 'settle' | 'nextDueAt' | 'sharedNow' | 'takeOver' | 'getLogout' | 'noteFramed'
>

// Steps through the index from RP to RP: costs what the RPs are many, not what the rows are many.
const heads = statement<Head>(
  'delivery_heads',
  `WITH RECURSIVE owed (client_id) AS (
     SELECT min(client_id) FROM delivery WHERE issuer = $1 AND due_at IS NOT NULL
     UNION ALL
     SELECT (SELECT min(client_id) FROM delivery
             WHERE issuer = $1 AND due_at IS NOT NULL AND client_id > owed.client_id)
     FROM owed WHERE owed.client_id IS NOT NULL
   )
   SELECT owed.client_id, head.due_at FROM owed CROSS JOIN LATERAL (
     SELECT min(d.due_at) AS due_at FROM delivery d
     WHERE d.issuer = $1 AND d.client_id = owed.client_id AND d.due_at IS NOT NULL) AS head
   WHERE owed.client_id IS NOT NULL AND head.due_at IS NOT NULL`,
)
const lease = (picked: string): string =>
  `WITH picked AS (${picked}),
     leased AS (
       UPDATE delivery d SET state = 'in-flight', fence = fence + 1, due_at = $2
       FROM picked, logout l WHERE d.seq = picked.seq AND l.cursor = d.logout
       RETURNING picked.turn, picked.was_due, ${deliveryColumns})
   SELECT * FROM leased ORDER BY turn, was_due, seq`
// What another node holds in its hands at this moment is skipped, not waited for.
const claimDue = statement<LeasedRow>(
  'delivery_claim_due',
  lease(`SELECT due.seq, due.due_at AS was_due, wanted.turn
    FROM unnest($4::text[], $5::int[]) WITH ORDINALITY AS wanted (client_id, take, turn)
    CROSS JOIN LATERAL (
      SELECT d.seq, d.due_at FROM delivery d
      WHERE d.issuer = $1 AND d.client_id = wanted.client_id AND d.due_at <= $3
      ORDER BY d.due_at, d.seq LIMIT wanted.take FOR UPDATE SKIP LOCKED) AS due
    LIMIT $6`),
)
const first = (which: string): string =>
  lease(`SELECT d.seq, d.due_at AS was_due, 1 AS turn FROM delivery d
    WHERE d.issuer = $1 AND ${which} = $4 AND d.due_at IS NOT NULL AND (d.state = 'due' OR d.due_at <= $3)
    ORDER BY d.due_at, d.seq LIMIT 1 FOR UPDATE SKIP LOCKED`)
const claimEarly = statement<LeasedRow>('delivery_claim_early', first('d.client_id'))
const claimChosen = statement<LeasedRow>('delivery_claim_chosen', first('d.id'))
// Dropped while it was in flight, and not delivered by that attempt.
const dropped = '($11 AND dropped_by IS NOT NULL)'
const settle = statement<{ seq: number; attempts: number }>(
  'delivery_settle',
  `UPDATE delivery SET
     state = CASE WHEN ${dropped} THEN 'dead' ELSE $4 END,
     due_at = CASE WHEN NOT ${dropped} THEN $5::bigint END,
     final_at = CASE WHEN ${dropped} THEN $10::bigint ELSE $6::bigint END,
     last_outcome = CASE WHEN $8 AND NOT ${dropped} THEN $7 ELSE last_outcome END,
     attempts = attempts + CASE WHEN $8 THEN 1 ELSE 0 END,
     refusals = CASE WHEN $9 THEN refusals + 1 WHEN $8 THEN 0 ELSE refusals END,
     refused_since = CASE WHEN $9 THEN coalesce(refused_since, $10::bigint) WHEN $8 THEN NULL ELSE refused_since END
   WHERE issuer = $1 AND id = $2 AND fence = $3 AND state = 'in-flight'
   RETURNING seq, attempts`,
)
const keepAttempt = statement(
  'attempt_keep',
  `INSERT INTO attempt (issuer, delivery, number, due_at, started_at, connected_at, answered_at, finished_at, outcome)
   SELECT issuer, seq, $3, $4, $5, $6, $7, $8, $9 FROM delivery WHERE issuer = $1 AND seq = $2`,
)
const logoutById = statement<LogoutRow>(
  'logout_by_id',
  `SELECT ${logoutColumns} FROM logout l WHERE l.issuer = $1 AND l.id = $2`,
)
const byLogout = statement<DeliveryRow>(
  'delivery_by_logout',
  `SELECT ${deliveryColumns} FROM logout l JOIN delivery d ON d.logout = l.cursor
   WHERE l.issuer = $1 AND l.id = $2 ORDER BY d.seq`,
)
const framesOf = statement<FrameRow>(
  'frames_by_logout',
  `SELECT ${frameColumns} FROM frame_notice f JOIN logout l ON l.cursor = f.logout
   WHERE l.issuer = $1 AND l.id = $2 ORDER BY f.position`,
)
const framed = statement(
  'frames_framed',
  `UPDATE frame_notice SET framed_at = $3
   WHERE framed_at IS NULL AND logout = (SELECT cursor FROM logout WHERE issuer = $1 AND id = $2)`,
)

/**
 * The outbox in PostgreSQL: leases and due times are by the clock that all nodes share.
 *
 * @param attend Called before a worker goes to sleep: it must hear the others ring.
 */
export function postgresOutbox(context: PostgresContext, attend: () => Promise<void>): Outbox {
  const { each } = context
  /** The RP that the last claim ended with: the next one goes on behind it. */
  let last = ''

  return {
    async claimDue({ limit, lease: duration, room = () => limit }) {
      const clock = await context.clock()
      return context.write(async (queries) => {
        const owed = (await queries.all(heads)).filter(({ due_at }) => due_at <= clock.now)
        const takes = inTurn(owed, last)
          .map(({ client_id }) => [client_id, Math.min(limit, room(client_id))] as const)
          .filter(([, take]) => take > 0)
        if (takes.length === 0) return []
        const rows = await queries.all(
          claimDue,
          clock.now + duration,
          clock.now,
          takes.map(([clientId]) => clientId),
          takes.map(([, take]) => take),
          limit,
        )
        last = (rows.at(-1)?.client_id ?? takes.at(-1)?.[0]) as string
        return rows.map((row) => toClaimed(row, row.was_due, clock.toNode))
      })
    },

    async claimEarly(which, duration) {
      const clock = await context.clock()
      const times = [clock.now + duration, clock.now] as const
      return context.write(async (queries) => {
        const row = await ('deliveryId' in which
          ? queries.first(claimChosen, ...times, which.deliveryId)
          : queries.first(claimEarly, ...times, which.clientId))
        return row && toClaimed(row, row.was_due, clock.toNode)
      })
    },

    async settle(
      { id, fence },
      { dueAt: wasDueAt, startedAt, connectedAt = null, answeredAt = null, finishedAt, outcome },
    ) {
      const isDue = outcome.state === 'due'
      const isCounted = isAttempted(outcome)
      const dueAt = isDue ? (await context.clock()).fromNode(Math.ceil(outcome.retryAt)) : null
      const text = JSON.stringify(outcome)
      return context.writeSoon(async (queries) => {
        const settled = await queries.first(
          settle,
          id,
          fence,
          outcome.state,
          dueAt,
          isDue ? null : finishedAt,
          text,
          isCounted,
          isDue && outcome.why === 'refusal',
          finishedAt,
          endsDropped(outcome),
        )
        if (settled && isCounted) {
          const times = [wasDueAt, startedAt, connectedAt, answeredAt, finishedAt]
          await queries.change(keepAttempt, settled.seq, settled.attempts, ...times, text)
        }
        return settled !== undefined
      })
    },

    async nextDueAt(room = () => 1) {
      await attend()
      const { toNode } = await context.clock()
      const times = (await each.all(heads)).filter(({ client_id }) => room(client_id) > 0).map(({ due_at }) => due_at)
      return times.length === 0 ? undefined : toNode(Math.min(...times))
    },

    sharedNow: async () => (await context.clock()).now,

    // What is in flight may be in the hands of a node that is well; of one that crashed, the leases run out.
    async takeOver() {
      return 0
    },

    async getLogout(id) {
      const row = await each.first(logoutById, id)
      if (!row) return undefined
      const { toNode } = await context.clock()
      const [deliveries, frames] = [await each.all(byLogout, id), await each.all(framesOf, id)]
      return {
        logout: toLogout(row),
        deliveries: deliveries.map((one) => toDelivery(one, toNode)),
        frames: frames.map(toFrame),
      }
    },

    async noteFramed(logoutId) {
      await context.writeSoon((queries) => queries.change(framed, logoutId, context.now()))
    },
  }
}

/** The RPs behind `last` first, then those up to it; the database has sorted them by their bytes. */
function inTurn(owed: readonly Head[], last: string): Head[] {
  const at = owed.findIndex(({ client_id }) => client_id === last)
  return at < 0 ? [...owed] : [...owed.slice(at + 1), ...owed.slice(0, at + 1)]
}
