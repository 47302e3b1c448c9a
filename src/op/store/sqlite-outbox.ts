import {
  type AttemptRecord,
  type ClaimedDelivery,
  type Delivery,
  endsDropped,
  isAttempted,
  type OpIssuerStore,
} from './contract.ts'
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
import type { SqliteContext } from './sqlite-context.ts'
import { together } from './together.ts'

/** The delivery of an RP that comes due first. */
interface Head {
  clientId: string
  dueAt: number
}

interface SettledRow {
  issuer: number
  id: string
  fence: number
  state: Delivery['state']
  counted: 0 | 1
  dueAt: number | null
  finalAt: number | null
  refused: 0 | 1
  endsDropped: 0 | 1
  now: number
  outcome: string
}

interface Settling {
  delivery: { id: string; fence: number }
  attempt: AttemptRecord
}

type Outbox = Pick<
  OpIssuerStore,
  'claimDue' | 'claimEarly' | 'settle' | 'nextDueAt' | 'takeOver' | 'getLogout' | 'noteFramed'
>

/** The outbox in SQLite. */
export function sqliteOutbox(context: SqliteContext): Outbox {
  const { db, issuer } = context
  const deliveries = `SELECT ${deliveryColumns} FROM delivery d JOIN logout l ON l.cursor = d.logout`

  // Steps through the index from RP to RP, as far as it is read: costs what the RPs are many, not what the rows are many,
  // so that an RP which is owed a hundred thousand notices and takes none of them does not slow the claims for the others.
  const stepFrom = (start: string): string =>
    `WITH RECURSIVE owed (client_id) AS (
       SELECT min(client_id) FROM delivery WHERE issuer = @issuer AND due_at IS NOT NULL ${start}
       UNION ALL
       SELECT (SELECT min(client_id) FROM delivery
               WHERE issuer = @issuer AND due_at IS NOT NULL AND client_id > owed.client_id)
       FROM owed WHERE owed.client_id IS NOT NULL
     )
     SELECT client_id AS clientId,
       (SELECT min(due_at) FROM delivery d
        WHERE d.issuer = @issuer AND d.client_id = owed.client_id AND due_at IS NOT NULL) AS dueAt
     FROM owed WHERE client_id IS NOT NULL`
  const heads = db.prepare<[{ issuer: number }], Head>(stepFrom(''))
  const headsAfter = db.prepare<[{ issuer: number; last: string }], Head>(stepFrom('AND client_id > @last'))
  const dueOf = db.prepare<[number, string, number, number], DeliveryRow>(
    `${deliveries} WHERE d.issuer = ? AND d.client_id = ? AND d.due_at <= ? ORDER BY d.due_at, d.seq LIMIT ?`,
  )
  const first = (which: string): string =>
    `${deliveries} WHERE d.issuer = ? AND ${which} = ? AND d.due_at IS NOT NULL AND (d.state = 'due' OR d.due_at <= ?)
     ORDER BY d.due_at, d.seq LIMIT 1`
  const firstOf = db.prepare<[number, string, number], DeliveryRow>(first('d.client_id'))
  const chosen = db.prepare<[number, string, number], DeliveryRow>(first('d.id'))
  const lease = db.prepare<[number, number]>(
    `UPDATE delivery SET state = 'in-flight', fence = fence + 1, due_at = ? WHERE seq = ?`,
  )
  // Dropped while it was in flight, and not delivered by that attempt.
  const dropped = '(@endsDropped AND dropped_by IS NOT NULL)'
  const settle = db.prepare<[SettledRow], { seq: number; attempts: number }>(
    `UPDATE delivery SET
       state = CASE WHEN ${dropped} THEN 'dead' ELSE @state END,
       due_at = CASE WHEN NOT ${dropped} THEN @dueAt END,
       final_at = CASE WHEN ${dropped} THEN @now ELSE @finalAt END,
       last_outcome = CASE WHEN @counted AND NOT ${dropped} THEN @outcome ELSE last_outcome END,
       attempts = attempts + @counted,
       refusals = CASE WHEN @refused THEN refusals + 1 WHEN @counted THEN 0 ELSE refusals END,
       refused_since = CASE WHEN @refused THEN coalesce(refused_since, @now) WHEN @counted THEN NULL ELSE refused_since END
     WHERE issuer = @issuer AND id = @id AND fence = @fence AND state = 'in-flight'
     RETURNING seq, attempts`,
  )
  const keepAttempt = db.prepare<
    [number, number, number, number, number, number | null, number | null, number, string]
  >(
    `INSERT INTO attempt (issuer, delivery, number, due_at, started_at, connected_at, answered_at, finished_at, outcome)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
  )
  const takeOver = db.prepare<[number, number]>(
    `UPDATE delivery SET state = 'due', due_at = ? WHERE issuer = ? AND state <> 'delivered' AND state = 'in-flight'`,
  )
  const logoutById = db.prepare<[number, string], LogoutRow>(
    `SELECT ${logoutColumns} FROM logout l WHERE l.issuer = ? AND l.id = ?`,
  )
  const byLogout = db.prepare<[number, string], DeliveryRow>(
    `${deliveries} WHERE l.issuer = ? AND l.id = ? ORDER BY d.seq`,
  )
  const framesOf = db.prepare<[number, string], FrameRow>(
    `SELECT ${frameColumns} FROM frame_notice f JOIN logout l ON l.cursor = f.logout
     WHERE l.issuer = ? AND l.id = ? ORDER BY f.position`,
  )
  const framed = db.prepare<[number, number, string]>(
    `UPDATE frame_notice SET framed_at = ?
     WHERE framed_at IS NULL AND logout = (SELECT cursor FROM logout WHERE issuer = ? AND id = ?)`,
  )

  const leaseUntil = (until: number, row: DeliveryRow): ClaimedDelivery => {
    lease.run(until, row.seq)
    return toClaimed({ ...row, state: 'in-flight', fence: row.fence + 1, due_at: until }, row.due_at ?? 0)
  }

  /** RPs that are owed something now, in turn: each claim goes on behind the RP that the last one ended with. */
  let last = ''
  function waitingRps(now: number, most: number, room: (clientId: string) => number): string[] {
    const found = new Set<string>()
    const collect = (all: Iterable<Head>): void => {
      for (const { clientId, dueAt } of all) {
        if (dueAt <= now && room(clientId) > 0) found.add(clientId)
        if (found.size === most) return
      }
    }
    collect(headsAfter.iterate({ issuer, last }))
    if (found.size < most) collect(heads.iterate({ issuer }))
    return [...found]
  }

  function settleOne({ delivery: { id, fence }, attempt }: Settling): boolean {
    const { dueAt, startedAt, connectedAt = null, answeredAt = null, finishedAt, outcome } = attempt
    const due = outcome.state === 'due'
    const counted = isAttempted(outcome) ? 1 : 0
    const text = JSON.stringify(outcome)
    const settled = settle.get({
      issuer,
      id,
      fence,
      state: outcome.state,
      counted,
      dueAt: due ? Math.ceil(outcome.retryAt) : null,
      finalAt: due ? null : finishedAt,
      refused: due && outcome.why === 'refusal' ? 1 : 0,
      endsDropped: endsDropped(outcome) ? 1 : 0,
      now: finishedAt,
      outcome: text,
    })
    if (settled && counted) {
      const times = [dueAt, startedAt, connectedAt, answeredAt, finishedAt] as const
      keepAttempt.run(issuer, settled.seq, settled.attempts, ...times, text)
    }
    return settled !== undefined
  }

  const settleSoon = together((all: readonly Settling[]) => context.writeSoon(() => all.map(settleOne)))

  return {
    async claimDue({ limit, lease: duration, room = () => limit }) {
      return context.write(() => {
        const now = context.now()
        const claimed: ClaimedDelivery[] = []
        for (const clientId of waitingRps(now, limit, room)) {
          const take = Math.min(limit - claimed.length, room(clientId))
          if (take <= 0) break
          for (const row of dueOf.all(issuer, clientId, now, take)) claimed.push(leaseUntil(now + duration, row))
          last = clientId
        }
        return claimed
      })
    },

    async claimEarly(which, duration) {
      return context.write(() => {
        const now = context.now()
        const row =
          'deliveryId' in which ? chosen.get(issuer, which.deliveryId, now) : firstOf.get(issuer, which.clientId, now)
        return row && leaseUntil(now + duration, row)
      })
    },

    settle: (delivery, attempt) => settleSoon({ delivery, attempt }),

    async nextDueAt(room = () => 1) {
      const times = context
        .read(() => heads.all({ issuer }))
        .filter(({ clientId }) => room(clientId) > 0)
        .map(({ dueAt }) => dueAt)
      return times.length === 0 ? undefined : Math.min(...times)
    },

    async takeOver() {
      return context.writeSoon(() => takeOver.run(context.now(), issuer).changes)
    },

    async getLogout(id) {
      return context.read(() => {
        const row = logoutById.get(issuer, id)
        return (
          row && {
            logout: toLogout(row),
            deliveries: byLogout.all(issuer, id).map((one) => toDelivery(one)),
            frames: framesOf.all(issuer, id).map(toFrame),
          }
        )
      })
    },

    async noteFramed(logoutId) {
      context.writeSoon(() => framed.run(context.now(), issuer, logoutId))
    },
  }
}
