import type { Runtime } from '../../runtime/runtime.ts'
import type { AttemptBudget } from './attempt-budget.ts'

/** Why an OP session ended; kept with the fact for ever after. */
export type EndCause =
  | 'rp_initiated'
  | 'op_logout'
  | 'user_switch'
  | 'expired'
  | 'password_change'
  | 'email_change'
  | 'factor_removed'
  | 'account_disabled'
  | 'account_deleted'
  | 'admin'
  | 'upstream_logout'
  | 'compromise'

/** An RP that an OP session must tell when it ends (Back-Channel §2.3: logged-in RPs). */
export interface LoggedInRp {
  readonly clientId: string
  /** The `sid` this RP knows the login by; different at each RP. */
  readonly sid: string
  readonly grantId?: string
  /** True once tokens with `offline_access` were issued: their grant survives an ordinary logout (Back-Channel §2.7). */
  readonly persistsLogout: boolean
}

/** An OP session as the store keeps it; `handle` is the SHA-256 of the cookie's value, never the value. */
export interface OpSession {
  readonly uid: string
  readonly handle: string
  readonly accountId?: string
  /** What oidc-provider wants back, without its id and without `authorizations`. */
  readonly payload: Readonly<Record<string, unknown>>
  readonly rps: readonly LoggedInRp[]
  /** Epoch seconds. */
  readonly createdAt: number
  /** Epoch seconds. */
  readonly expiresAt: number
}

/** What `saveOpSession` is given: one request's view of the OP session, to be merged with what others wrote meanwhile. */
export interface OpSessionWrite {
  readonly uid: string
  readonly handle: string
  readonly accountId?: string
  readonly payload: Readonly<Record<string, unknown>>
  readonly rps: readonly LoggedInRp[]
  /** Epoch seconds to which the idle lifetime now reaches; ignored for a live OP session unless `extend`. */
  readonly expiresAt: number
  /** False for background checks (prompt=none), which never extend the idle lifetime (T11). */
  readonly extend: boolean
  /** The interaction in which `accountId` signed in, when this request completes one: the login is as old as that (T2). */
  readonly login?: {
    /** `since` of the Interaction. */
    readonly since: number
    readonly interaction: string
  }
}

/** The fact that an OP session ended. */
export interface Logout {
  readonly id: string
  readonly uid: string
  readonly accountId: string
  readonly cause: EndCause
  /** `client_id` of the RP at which the End-User signed out, where there is one. */
  readonly initiator?: string
  /** Who ended it when that was not the End-User (an administrator's name). */
  readonly actor?: string
  /** A code of the operator's own that says more than the cause. */
  readonly reason?: string
  /** Epoch milliseconds: of one that expired its expiry, of one that fell to an {@link EndJob} the job's `notBefore`. */
  readonly endedAt: number
  /** The span in which it ended, as a `traceparent` (W3C Trace Context §3.2); attempts are linked to it, inside the OP only (T13). */
  readonly trace?: string
}

/** Why OP sessions end, and what else falls with them. */
export interface StoreEnding extends Pick<Logout, 'cause' | 'initiator' | 'actor' | 'reason' | 'trace'> {
  /** True revokes the grants with `persistsLogout` too (T1). Default false. */
  readonly revokeOffline?: boolean
}

/** Whose OP sessions: an account's, those in which a client is logged in, or all. */
export type OpSessionScope = { readonly accountId: string } | { readonly clientId: string } | 'everyone'

/** A part of a list, newest login first, and where the next part begins: absent when this is the last. */
export interface OpSessionPage {
  readonly sessions: readonly OpSession[]
  readonly cursor?: string
}

/** The end of all OP sessions of a scope: they are refused from `notBefore` on, and their RPs are told little by little. */
export interface EndJob extends Pick<Logout, 'cause' | 'actor' | 'reason'> {
  readonly id: string
  readonly scope: OpSessionScope
  /** Epoch milliseconds; what is not younger is refused. */
  readonly notBefore: number
  readonly revokeOffline: boolean
  readonly state: 'running' | 'done'
  /** How many OP sessions there were to end. */
  readonly total: number
  /** How many of them have ended by this job; those that ended for another cause meanwhile are not among them. */
  readonly ended: number
  /** Epoch milliseconds. */
  readonly finishedAt?: number
}

/** An OP session that is to be ended, and whom that concerns. */
export type EndableOpSession = Pick<OpSession, 'uid' | 'rps'>

/** How an RP is told: by a Logout Token, or by its front-channel logout URI in a frame of a page. */
export type Mechanism = 'backchannel' | 'frontchannel'

/** One notice that is owed to one RP, planned in the transaction that ends the OP session. */
export interface PlannedDelivery {
  readonly clientId: string
  readonly sid: string
  /** Default `backchannel`: a row of the outbox. `frontchannel` becomes a {@link FrameNotice}. */
  readonly mechanism?: Mechanism
}

/**
 * A notice that a page shows to the browser in a frame. Nobody learns how it went, so there is no outcome and no retry;
 * the outbox never sees it.
 */
export interface FrameNotice {
  readonly clientId: string
  readonly sid: string
  /** Epoch milliseconds at which a page with the frame was first sent to the browser. */
  readonly framedAt?: number
}

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

/** How an attempt failed, where the delivery is given up with it. */
export interface AttemptFailure {
  readonly why: 'refusal' | 'status' | 'timeout' | 'network' | 'egress' | 'internal'
  readonly status?: number
  readonly error?: string
  /** `error_description` of the answer; the RP's own words, so they are in no log. */
  readonly errorDescription?: string
}

/** How one attempt ended. `retryAt` is epoch milliseconds. */
export type AttemptOutcome =
  | {
      readonly state: 'delivered'
      readonly status: number
      readonly sessionsEnded?: number
      readonly suspicious?: true
      /** A 200 that ended nothing, to the first attempt that was ever made: no earlier one can have ended it (T28). */
      readonly endedNothing?: true
    }
  | {
      readonly state: 'refused'
      readonly status: number
      readonly error?: string
      readonly errorDescription?: string
      /** How an operator's one more try failed, after which it is refused as before. */
      readonly failure?: AttemptFailure
    }
  | {
      readonly state: 'due'
      readonly retryAt: number
      /** `released` and `budget` (T8: the RP is left alone until `retryAt`) are no attempts. */
      readonly why: AttemptFailure['why'] | 'released' | 'budget'
      readonly status?: number
      readonly error?: string
      readonly errorDescription?: string
    }
  | {
      readonly state: 'dead'
      readonly why: 'horizon' | 'client_gone' | 'dropped'
      /** How the last attempt failed, where there was one. */
      readonly failure?: AttemptFailure
    }

/** Whether an outcome comes from an attempt, or the delivery was given back without one. */
export function isAttempted(outcome: AttemptOutcome): boolean {
  return outcome.state !== 'due' || (outcome.why !== 'released' && outcome.why !== 'budget')
}

/** One attempt as it is kept. Times are epoch milliseconds. */
export interface AttemptRecord {
  /** When it was to be made; later than `startedAt` for one that was made early, to find out whether the RP is back. */
  readonly dueAt: number
  readonly startedAt: number
  /** When it had a connection: a new one, or one kept open, and then right after it started. Absent when it got none. */
  readonly connectedAt?: number
  /** When the head of the answer had come. Absent when none came. */
  readonly answeredAt?: number
  readonly finishedAt: number
  readonly outcome: AttemptOutcome
}

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

/** Where {@link OpIssuerStore.giveUp} goes on: behind this row, by the clock of the store. */
export interface GiveUpCursor {
  readonly dueAt: number
  readonly seq: number
}

/** How many deliveries are in a state; those that were delivered, or are dropped, are not counted. */
export type OutboxCounts = Readonly<Record<Exclude<DeliveryState, 'delivered'>, number>>

/** An oidc-provider model as the store keeps it: found by a hash, never by the bearer value itself (T6). */
export interface StoredModel {
  readonly kind: string
  readonly handle: string
  readonly payload: Readonly<Record<string, unknown>>
  /** Epoch seconds; absent for what never expires. */
  readonly expiresAt?: number
  /** The grant it falls with; of a Grant its own id. */
  readonly grantId?: string
  /** Whose it is; of an Interaction, who signed in there. Absent for what belongs to nobody (a client's registration). */
  readonly accountId?: string
  readonly clientId?: string
  /** Hash of a second name the model is found by (a device flow's user code). */
  readonly alias?: string
}

/** A model as it is given back. */
export interface KeptModel extends StoredModel {
  /** Epoch milliseconds of the first `putModel` under its handle; of a model under a grant, of its Grant (T2). */
  readonly since: number
}

/** What ended, and whom the outbox will tell. */
export interface EndedOpSession {
  readonly logout: Logout
  readonly rps: readonly LoggedInRp[]
  readonly deliveries: readonly Delivery[]
  readonly frames: readonly FrameNotice[]
}

/**
 * Everything an OP must not lose, for one issuer.
 *
 * Two promises: **a write never brings back what a logout removed**, and each method is one transaction that happens
 * whole or not at all, also when the process is killed or the power fails. What a method has answered survives both; only
 * a lease or the outcome of an attempt may be lost with the power, since the attempt is then made again.
 */
export interface OpIssuerStore {
  /** Returns the secret of that name, made once by `make` and then the same on every node until it is replaced. */
  secret(name: string, make: () => Promise<string>): Promise<string>
  /** Replaces a secret, if it still has the value that was read; `false` when somebody else replaced it meanwhile. */
  replaceSecret(name: string, from: string, to: string): Promise<boolean>

  /** Stores or replaces a model; does nothing when its grant was revoked, or when `endAll` refuses it. */
  putModel(model: StoredModel): Promise<void>
  getModel(kind: string, by: { handle: string } | { alias: string }): Promise<KeptModel | undefined>
  /** Marks the model as used (`consumed` in its payload, epoch seconds). */
  consumeModel(kind: string, handle: string): Promise<void>
  deleteModel(kind: string, handle: string): Promise<void>
  deleteModelsByGrant(kind: string, grantId: string): Promise<void>

  /**
   * Merges one request's view into the OP session: RPs that others added stay, the first `sid` of an RP wins, a handle
   * that was retired stays retired, and a request that still believes the OP session to be anonymous takes no login back.
   * `ended` when the uid was ended before, has expired, is refused by `endAll`, or is signed in as another account:
   * nothing is written. `stale` when it was saved by a request whose handle was retired meanwhile. Without `extend` the
   * payload that is kept stays as well: such a request changes nobody.
   */
  saveOpSession(session: OpSessionWrite): Promise<'saved' | 'stale' | 'ended'>
  getOpSession(by: { handle: string } | { uid: string }): Promise<OpSession | undefined>
  /** The cookie's value was replaced; the old one is worthless from now on. */
  retireHandle(handle: string): Promise<void>
  /** Whether a handle of a live OP session was retired in the last `seconds`: its browser has, or is about to get, another. */
  isRotated(handle: string, seconds: number): Promise<boolean>
  /**
   * Records that an RP is logging in under this OP session and returns the `sid` and grant to use: the first that was
   * recorded wins, so that the codes of several tabs all redeem. `replaceGrant` is for a fresh consent. The OP session
   * itself may be saved after this.
   *
   * @throws LockstepError `op_session_ended` when the uid was ended, has expired or is refused by `endAll`.
   */
  claimLogin(
    uid: string,
    rp: { clientId: string; sid: string; grantId: string },
    replaceGrant: boolean,
  ): Promise<{ sid: string; grantId: string }>
  /**
   * Live OP sessions in which somebody is signed in, by the time of the login (of a client: of the login there), the newest
   * first. A cursor stays good while OP sessions come and go: what is there all the time is listed exactly once.
   */
  listOpSessions(scope: OpSessionScope, page?: { cursor?: string; limit?: number }): Promise<OpSessionPage>
  /** How many OP sessions `endAll` would end now. */
  countOpSessions(scope: OpSessionScope, except?: readonly string[]): Promise<number>

  /**
   * Ends an OP session in one durable transaction: tombstone, the session's rows, its grants and their tokens (those with
   * `persistsLogout` only by `revokeOffline`), the fact, and one delivery or frame notice per planned
   * notice. `undefined` when it was ended before, and when nobody was signed in: then there is nothing to tell. One that has expired, or that `endAll` refuses,
   * can still be ended while the store has it; it ended when it expired or was refused.
   */
  endOpSession(
    uid: string,
    ending: StoreEnding,
    plan: (rps: readonly LoggedInRp[]) => readonly PlannedDelivery[],
  ): Promise<EndedOpSession | undefined>
  /**
   * Ends several OP sessions for one cause, as `endOpSession` each, in one transaction: all of them or none. Answers those
   * that this call ended. With `job`, the same transaction counts them there and makes the job due again after `pause`
   * milliseconds.
   */
  endOpSessions(
    uids: readonly string[],
    ending: StoreEnding,
    plan: (rps: readonly LoggedInRp[]) => readonly PlannedDelivery[],
    job?: { readonly id: string; readonly pause: number },
  ): Promise<readonly EndedOpSession[]>
  /** OP sessions that have expired and were not ended yet, the oldest first. The store keeps them until they are. */
  expiredOpSessions(limit: number): Promise<readonly EndableOpSession[]>

  /**
   * Refuses, from the moment it commits, whatever of the scope is not younger than that moment (`notBefore`; a tie is older),
   * and records the job that ends the OP sessions (T2). Refused means: every read is answered as if it were not there and
   * every save writes nothing.
   *
   * - An OP session is as old as its login: `login.since` of the save that first names its account, else that save. By
   *   `{ clientId }` those fall in which that client's login was recorded before.
   * - An Interaction in which the account signed in is as old as its first `putModel`; `{ clientId }` spares Interactions.
   * - A model with an `accountId` is as old as its Grant, and falls only with `revokeOffline`: what is bound to its OP session
   *   falls with that anyway.
   *
   * `except` names, in the same transaction, uids of OP sessions and handles of Interactions that stay; the grants that
   * were or will be recorded for such an OP session, and the login that comes out of such an Interaction, stay with them.
   * Names that are neither are not kept anywhere: the caller cannot tell which is which, and hands in both (T6).
   * Each job judges by itself: what an earlier one refuses no later one brings back.
   */
  endAll(scope: OpSessionScope, ending: StoreEnding, except?: readonly string[]): Promise<EndJob>
  /**
   * Leases the running job that is due (those with `revokeOffline` before others, then the longest due) for `lease` milliseconds and
   * names up to `limit` OP sessions it has still to end. A job that has none left is done now, and is answered so, once. `undefined` when no job is due.
   */
  claimEndJob(options: {
    limit: number
    lease: number
  }): Promise<{ job: EndJob; next: readonly EndableOpSession[] } | undefined>
  /** Epoch milliseconds at which a running job comes due. */
  nextEndJobAt(): Promise<number | undefined>
  getEndJob(id: string): Promise<EndJob | undefined>
  /** The newest jobs, at most `limit`. */
  listEndJobs(limit: number): Promise<readonly EndJob[]>

  /**
   * Forgets up to `limit` of each: attempts that finished before `attempts`, facts of before `logouts` with their
   * deliveries, once all of those are final, jobs that were done before `logouts` and refuse nothing any more, and URIs that
   * last answered before `logouts` (epoch milliseconds). True when there is more to forget.
   */
  forget(before: { attempts: number; logouts: number }, limit: number): Promise<boolean>

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
   */
  takeOver(): Promise<number>
  /**
   * Has `listener` called when another node may have planned deliveries: a hint to look into the outbox, never a fact (T18).
   * Returns the way to stop. Only a store that several processes share has it; it must not be relied on to be called.
   */
  onWake?(listener: () => void): () => void
  /** A logout with what its RPs were sent: deliveries in the order of the plan, and likewise frame notices. */
  getLogout(
    id: string,
  ): Promise<{ logout: Logout; deliveries: readonly Delivery[]; frames: readonly FrameNotice[] } | undefined>
  /** The page with the frames of this logout is on its way to the browser; the first time counts. */
  noteFramed(logoutId: string): Promise<void>

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
  /** Makes up to `limit` deliveries that wait, are refused or are dead dead by the hand of `actor`. Returns how many. */
  dropDeliveries(filter: DeliveryFilter, actor: string, limit: number): Promise<number>
  /** Counts deliveries by state, each up to `most`: what is more is answered as `most`. */
  countDeliveries(most: number): Promise<OutboxCounts>
  /**
   * Which delivery of a logout was delivered last, and when (epoch milliseconds); `undefined` while one of them is not
   * delivered.
   */
  lastConfirmation(
    logoutId: string,
  ): Promise<{ readonly deliveryId: string; readonly plannedAt: number; readonly confirmedAt: number } | undefined>

  /**
   * Remembers that nothing but failures comes from an RP, from the first call on until {@link OpIssuerStore.endTrouble}.
   * Answers since when (epoch milliseconds), once, to the first call that comes `tellAfter` milliseconds after that.
   */
  noteTrouble(clientId: string, tellAfter: number): Promise<number | undefined>
  /** The RP has answered. */
  endTrouble(clientId: string): Promise<void>
}

/** Where an OP keeps what must not be lost: `lockstep/op/sqlite` for one process, `lockstep/op/postgres` for many. */
export interface OpStore {
  /** The same store, seen by one issuer: issuers never see each other's rows (T20). */
  forIssuer(issuer: string, runtime: Pick<Runtime, 'now' | 'random'>): OpIssuerStore
  close(): Promise<void>
}
