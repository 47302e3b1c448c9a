import type { AttemptBudget } from './attempt-budget.ts'
import type { AttemptOutcome, AttemptRecord } from './contract-attempts.ts'
import type { Logout } from './contract-ends.ts'

/** `due` waits for its time, `in-flight` is leased, the other three are final. */
export type DeliveryState = 'due' | 'in-flight' | 'delivered' | 'refused' | 'dead'

/** A row of the outbox. Times are epoch milliseconds. */
export interface Delivery {
  readonly id: string
  readonly logout: Logout
  readonly clientId: string
  readonly sid: string
  readonly state: DeliveryState
  /** How many attempts were finished. */
  readonly attempts: number
  readonly createdAt: number
  /** When the next attempt is due; of a row in flight, when its lease runs out; of a final row, when it became final. */
  readonly dueAt: number
  /** Of the last attempt; of a dropped row, that it was dropped. A row that is owed although this is final has one try more. */
  readonly lastOutcome?: AttemptOutcome
  /** When an operator gave it a new horizon; else the horizon counts from `createdAt`. */
  readonly scheduledAt?: number
  /** How many of its `attempts` were finished by then; they count for nothing in the new schedule. */
  readonly attemptsBefore?: number
  /** Who dropped it; only of a dead row. */
  readonly droppedBy?: string
}

/** A delivery in a worker's hands. Only outcomes that carry the same `fence` are written. */
export interface ClaimedDelivery extends Delivery {
  readonly fence: number
  /** When it was due before it was leased; later than now for one that was leased early. */
  readonly wasDueAt: number
  /** Attempts answered with a refusal (400 invalid_request, 410, 501) since the last that was not. */
  readonly refusals: number
  /** Epoch milliseconds of the first such refusal. */
  readonly refusedSince?: number
}

/** Where {@link OutboxStore.giveUp} goes on: behind this row, by the clock of the store. */
export interface GiveUpCursor {
  readonly dueAt: number
  readonly seq: number
}

/** The outbox, as the worker sees it that tells RPs. */
export interface OutboxStore {
  /**
   * Leases up to `limit` due deliveries (and those whose lease ran out) for `lease` milliseconds: the RPs in turn, of each
   * the oldest first. `room` says how many more of an RP's deliveries the worker can take; 0 leaves them where they are.
   */
  claimDue(options: {
    limit: number
    lease: number
    room?: (clientId: string) => number
  }): Promise<readonly ClaimedDelivery[]>
  /**
   * Leases the delivery of an RP that comes due first, although it is not due yet (to find out whether an RP that was down
   * is back), or one that an operator has chosen. `undefined` when there is none that is owed, or all of it is in flight.
   */
  claimEarly(
    which: { readonly clientId: string } | { readonly deliveryId: string },
    lease: number,
  ): Promise<ClaimedDelivery | undefined>
  /**
   * Writes an attempt and its outcome, if the fence still holds; `false` when another worker has the row now. A delivery
   * that is given back unattempted ({@link isAttempted}) is not counted as attempted.
   */
  settle(delivery: { id: string; fence: number }, attempt: AttemptRecord): Promise<boolean>
  /**
   * Makes all due rows of an RP (or of all, each by itself) due at once, in their order and ramped: 1 in the first second, then
   * 2, 4, 8, ... up to `perSecond` a second. None comes later than before; returns how many come sooner. Done in steps, each
   * a transaction, so that a long backlog keeps nobody waiting; no other step begins once `signal` aborts.
   */
  hasten(whose: { clientId: string } | 'all', perSecond: number, signal?: AbortSignal): Promise<number>
  /**
   * Gives up the deliveries of an RP that wait and whose horizon began at `begun` (epoch milliseconds) or before: dead, with
   * what their own last attempt came to. Leaves alone what is in flight or has an operator's one try more. Looks through a
   * bounded number of rows and answers those it gave up, and a cursor while there are more to look through.
   */
  giveUp(
    clientId: string,
    begun: number,
    cursor?: GiveUpCursor,
  ): Promise<{ readonly deliveries: readonly Delivery[]; readonly cursor?: GiveUpCursor }>
  /** Epoch milliseconds at which the next delivery comes due or its lease runs out, of RPs for which there is `room`. */
  nextDueAt(room?: (clientId: string) => number): Promise<number | undefined>
  /**
   * Takes one attempt out of each of these budgets, or out of none and answers when all of them have one again (epoch
   * milliseconds). All nodes share the budgets, and a restart leaves them as they are (T8).
   */
  takeAttempt(budgets: readonly AttemptBudget[]): Promise<number | undefined>
  /** Keeps that a client's logout URI (some name of it) has answered a Logout Token with success now, until `forget`. */
  noteAnswered(clientId: string, uri: string): Promise<void>
  hasAnswered(clientId: string, uri: string): Promise<boolean>
  /**
   * Makes deliveries that a crashed worker left in flight due at once, without waiting for their leases; returns how
   * many. Called once when a worker starts; only the first call on an open store can mean a crash, later ones (another Provider
   * of this process) do nothing. A store that several processes share cannot know who crashed and does nothing.
   *
   * @throws LockstepError `store_in_use` when the store is for one process, and another delivers from it: then nothing may be
   *   claimed here.
   */
  takeOver(): Promise<number>
  /**
   * Has `listener` called when another node may have planned deliveries: a hint to look into the outbox, never a fact (T18).
   * Returns the way to stop. Only a store that several processes share has it; it must not be relied on to be called.
   */
  onWake?(listener: () => void): () => void
  /** Epoch milliseconds by the clock that leases and due times are measured by. Only a store that several processes share has one. */
  sharedNow?(): Promise<number>
  /**
   * Remembers that an RP has failed. Its trouble begins with the first call, and anew with one that comes `pause` milliseconds
   * after the last or later; {@link OutboxStore.endTrouble} ends it. Answers since when it is in trouble (epoch milliseconds), and
   * `isToTell` to one call only: the first that comes `tellAfter` milliseconds after that.
   */
  noteTrouble(
    clientId: string,
    times: { readonly tellAfter: number; readonly pause: number },
  ): Promise<{ readonly since: number; readonly isToTell: boolean }>
  /** The RP has answered. */
  endTrouble(clientId: string): Promise<void>
}
