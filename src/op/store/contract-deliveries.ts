import type { AttemptRecord } from './contract-attempts.ts'
import type { Delivery, DeliveryState } from './contract-outbox.ts'

/** Which deliveries: those to which all that is given applies. */
export interface DeliveryFilter {
  readonly deliveryId?: string
  readonly logoutId?: string
  readonly clientId?: string
  readonly accountId?: string
  /** `dropped` are the dead ones that an operator dropped; `dead` are the others. */
  readonly state?: DeliveryState | 'dropped'
  /** Planned at this time or later, epoch milliseconds. */
  readonly since?: number
  /** Planned before this time, epoch milliseconds. */
  readonly until?: number
}

/** A part of a list of deliveries, the newest first, and where the next part begins: absent when this is the last. */
export interface DeliveryPage {
  readonly deliveries: readonly Delivery[]
  readonly cursor?: string
}

/** How many deliveries are in a state; those that were delivered, or are dropped, are not counted. */
export type OutboxCounts = Readonly<Record<Exclude<DeliveryState, 'delivered'>, number>>

/** The outbox, as operators and metrics see it. */
export interface DeliveryStore {
  /**
   * Lists deliveries, the newest first. A part looks through a bounded number of rows, so it may hold fewer than `limit`,
   * even none, and still have a cursor.
   */
  listDeliveries(filter: DeliveryFilter, page: { cursor?: string; limit: number }): Promise<DeliveryPage>
  /** A delivery with its attempts, the newest first, at most `limit` of them. */
  getDelivery(
    id: string,
    limit: number,
  ): Promise<{ delivery: Delivery; attempts: readonly AttemptRecord[] } | undefined>
  /**
   * Makes up to `limit` deliveries due now, the oldest first: those that wait, and those that are refused or dead for one try
   * more. What is in flight is left alone; what was dropped is touched only where the filter says `dropped` or names the row.
   * Returns how many.
   */
  retryDeliveries(filter: DeliveryFilter, limit: number): Promise<number>
  /** The same for what was given up, with a new horizon, and no attempt or refusal counted: a dropped one is not dropped any more. */
  rescheduleDeliveries(filter: DeliveryFilter, limit: number): Promise<number>
  /**
   * Makes up to `limit` deliveries that are not delivered dead by the hand of `actor`. One in flight stays in its worker's hands, and
   * this attempt is its last: dead when that is settled and not delivered; given back unattempted, or taken over, it has one try
   * more. Returns how many.
   */
  dropDeliveries(filter: DeliveryFilter, actor: string, limit: number): Promise<number>
  /** Counts deliveries by state, each up to `most`: what is more is answered as `most`. */
  countDeliveries(most: number): Promise<OutboxCounts>
  /**
   * Notes that all deliveries of a logout are delivered, where they are. Answers once, to whoever notes it first, when they were
   * planned and when the last was confirmed (epoch milliseconds). Whoever asks after each confirmation misses none.
   */
  notePropagation(logoutId: string): Promise<{ readonly plannedAt: number; readonly confirmedAt: number } | undefined>
}
