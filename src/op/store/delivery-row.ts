import type {
  AttemptOutcome,
  AttemptRecord,
  ClaimedDelivery,
  Delivery,
  EndCause,
  FrameNotice,
  Logout,
} from './contract.ts'

/** A logout as both databases answer it: {@link logoutColumns}. */
export interface LogoutRow {
  readonly logout_id: string
  readonly uid: string
  readonly account_id: string
  readonly cause: EndCause
  readonly initiator: string | null
  readonly actor: string | null
  readonly reason: string | null
  readonly ended_at: number
  readonly trace: string | null
}

/** A delivery with its logout: {@link deliveryColumns}. */
export interface DeliveryRow extends LogoutRow {
  readonly seq: number
  readonly id: string
  readonly client_id: string
  readonly sid: string
  readonly state: Delivery['state']
  readonly attempts: number
  readonly created_at: number
  readonly due_at: number | null
  readonly final_at: number | null
  readonly fence: number
  readonly refusals: number
  readonly refused_since: number | null
  readonly last_outcome: string | null
  readonly scheduled_at: number | null
  readonly attempts_before: number | null
  readonly dropped_by: string | null
}

/** A frame notice: {@link frameColumns}. */
export interface FrameRow {
  readonly client_id: string
  readonly sid: string
  readonly framed_at: number | null
}

/** An attempt: {@link attemptColumns}. */
export interface AttemptRow {
  readonly due_at: number | null
  readonly started_at: number
  readonly connected_at: number | null
  readonly answered_at: number | null
  readonly finished_at: number
  readonly outcome: string
}

/** SQL: the columns of `logout l`. */
export const logoutColumns =
  'l.id AS logout_id, l.uid, l.account_id, l.cause, l.initiator, l.actor, l.reason, l.ended_at, l.trace'
/** SQL: the columns of `delivery d` and `logout l`, each by its name: a node of the next version may add some while this one runs. */
export const deliveryColumns: string = `d.seq, d.id, d.client_id, d.sid, d.state, d.attempts, d.created_at, d.due_at, d.final_at, d.fence,
  d.refusals, d.refused_since, d.last_outcome, d.scheduled_at, d.attempts_before, d.dropped_by, ${logoutColumns}`
/** SQL: the columns of `frame_notice f`. */
export const frameColumns = 'f.client_id, f.sid, f.framed_at'
/** SQL: the columns of `attempt a`. */
export const attemptColumns = 'a.due_at, a.started_at, a.connected_at, a.answered_at, a.finished_at, a.outcome'

/** What this node calls a time that all nodes share. */
export type ToNode = (time: number) => number

/** The time of a store that one node has for itself. */
const sameTime: ToNode = (time) => time

export function toLogout(row: LogoutRow): Logout {
  return {
    id: row.logout_id,
    uid: row.uid,
    accountId: row.account_id,
    cause: row.cause,
    ...(row.initiator !== null && { initiator: row.initiator }),
    ...(row.actor !== null && { actor: row.actor }),
    ...(row.reason !== null && { reason: row.reason }),
    endedAt: row.ended_at,
    ...(row.trace !== null && { trace: row.trace }),
  }
}

export function toDelivery(row: DeliveryRow, toNode: ToNode = sameTime): Delivery {
  return {
    id: row.id,
    logout: toLogout(row),
    clientId: row.client_id,
    sid: row.sid,
    state: row.state,
    attempts: row.attempts,
    createdAt: row.created_at,
    dueAt: row.due_at === null ? (row.final_at ?? row.created_at) : toNode(row.due_at),
    ...(row.last_outcome !== null && { lastOutcome: JSON.parse(row.last_outcome) as AttemptOutcome }),
    ...(row.scheduled_at !== null && { scheduledAt: row.scheduled_at }),
    ...(row.attempts_before !== null && { attemptsBefore: row.attempts_before }),
    ...(row.state === 'dead' && row.dropped_by !== null && { droppedBy: row.dropped_by }),
  }
}

/** A delivery that was just leased; `wasDue` is when it was due before that. */
export function toClaimed(row: DeliveryRow, wasDue: number, toNode: ToNode = sameTime): ClaimedDelivery {
  return {
    ...toDelivery(row, toNode),
    fence: row.fence,
    wasDueAt: toNode(wasDue),
    refusals: row.refusals,
    ...(row.refused_since !== null && { refusedSince: row.refused_since }),
  }
}

export function toFrame(row: FrameRow): FrameNotice {
  return { clientId: row.client_id, sid: row.sid, ...(row.framed_at !== null && { framedAt: row.framed_at }) }
}

export function toAttempt(row: AttemptRow): AttemptRecord {
  return {
    dueAt: row.due_at ?? row.started_at, // what was kept before these times were, has none
    startedAt: row.started_at,
    ...(row.connected_at !== null && { connectedAt: row.connected_at }),
    ...(row.answered_at !== null && { answeredAt: row.answered_at }),
    finishedAt: row.finished_at,
    outcome: JSON.parse(row.outcome) as AttemptOutcome,
  }
}
