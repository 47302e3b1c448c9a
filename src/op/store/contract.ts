import type { Runtime } from '../../runtime/runtime.ts'

/** Why an OP session ended; kept with the fact for ever after. */
export type EndCause = 'rp_initiated' | 'op_logout' | 'user_switch' | 'expired' | 'admin'

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
  /** Epoch milliseconds. */
  readonly endedAt: number
}

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
  readonly lastOutcome?: AttemptOutcome
}

/** A delivery in a worker's hands. Only outcomes that carry the same `fence` are written. */
export interface ClaimedDelivery extends Delivery {
  readonly fence: number
  /** Attempts answered with a refusal (400 invalid_request, 410, 501) since the last that was not. */
  readonly refusals: number
  /** Epoch milliseconds of the first such refusal. */
  readonly refusedSince?: number
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
  | { readonly state: 'refused'; readonly status: number; readonly error?: string }
  | {
      readonly state: 'due'
      readonly retryAt: number
      readonly why: 'refusal' | 'status' | 'timeout' | 'network' | 'egress' | 'internal' | 'released'
      readonly status?: number
      readonly error?: string
    }
  | { readonly state: 'dead'; readonly why: 'horizon' | 'client_gone' }

/** One attempt as it is kept. Times are epoch milliseconds. */
export interface AttemptRecord {
  readonly startedAt: number
  readonly finishedAt: number
  readonly outcome: AttemptOutcome
}

/** An oidc-provider model as the store keeps it: found by a hash, never by the bearer value itself (T6). */
export interface StoredModel {
  readonly kind: string
  readonly handle: string
  readonly payload: Readonly<Record<string, unknown>>
  /** Epoch seconds; absent for what never expires. */
  readonly expiresAt?: number
  readonly grantId?: string
  /** Hash of a second name the model is found by (a device flow's user code). */
  readonly alias?: string
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

  /** Stores or replaces a model; does nothing when its grant was revoked by the end of its OP session. */
  putModel(model: StoredModel): Promise<void>
  getModel(kind: string, by: { handle: string } | { alias: string }): Promise<StoredModel | undefined>
  /** Marks the model as used (`consumed` in its payload, epoch seconds). */
  consumeModel(kind: string, handle: string): Promise<void>
  deleteModel(kind: string, handle: string): Promise<void>
  deleteModelsByGrant(kind: string, grantId: string): Promise<void>

  /**
   * Merges one request's view into the OP session: RPs that others added stay, the first `sid` of an RP wins, a handle
   * that was retired stays retired, and a request that still believes the OP session to be anonymous takes no login back.
   * `ended` when the uid was ended before, has expired, or is signed in as another account: nothing is written.
   */
  saveOpSession(session: OpSessionWrite): Promise<'saved' | 'ended'>
  getOpSession(by: { handle: string } | { uid: string }): Promise<OpSession | undefined>
  /** The cookie's value was replaced; the old one is worthless from now on. */
  retireHandle(handle: string): Promise<void>
  /**
   * Records that an RP is logging in under this OP session and returns the `sid` and grant to use: the first that was
   * recorded wins, so that the codes of several tabs all redeem. `replaceGrant` is for a fresh consent. The OP session
   * itself may be saved after this.
   *
   * @throws LockstepError `op_session_ended` when the uid was ended or has expired.
   */
  claimLogin(
    uid: string,
    rp: { clientId: string; sid: string; grantId: string },
    replaceGrant: boolean,
  ): Promise<{ sid: string; grantId: string }>
  /** Live OP sessions of an account, newest first. */
  listOpSessions(by: { accountId: string }): Promise<readonly OpSession[]>

  /**
   * Ends an OP session in one durable transaction: tombstone, the session's rows, its grants and their tokens (not those
   * with `persistsLogout`), the fact, and one delivery or frame notice per planned notice. `undefined` when it was ended before, and when
   * nobody was signed in: then there is nothing to tell. One that has expired can still be ended while the store has it.
   */
  endOpSession(
    uid: string,
    ending: Pick<Logout, 'cause' | 'initiator' | 'actor'>,
    plan: (rps: readonly LoggedInRp[]) => readonly PlannedDelivery[],
  ): Promise<EndedOpSession | undefined>

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
   * Leases the delivery of an RP that comes due first, although it is not due yet: to find out whether an RP that was down
   * is back. `undefined` when the RP is owed nothing, or all of it is in flight.
   */
  claimEarly(clientId: string, lease: number): Promise<ClaimedDelivery | undefined>
  /**
   * Writes an attempt and its outcome, if the fence still holds; `false` when another worker has the row now. A delivery
   * that is given back unattempted (`released`) is not counted as attempted.
   */
  settle(delivery: { id: string; fence: number }, attempt: AttemptRecord): Promise<boolean>
  /**
   * Makes all due rows of an RP (or of all, each by itself) due now, in their order, `perSecond` of them each second; returns how
   * many come sooner than before.
   */
  hasten(whose: { clientId: string } | 'all', perSecond: number): Promise<number>
  /** Epoch milliseconds at which the next delivery comes due or its lease runs out, of RPs for which there is `room`. */
  nextDueAt(room?: (clientId: string) => number): Promise<number | undefined>
  /**
   * Makes deliveries that a crashed worker left in flight due at once, without waiting for their leases; returns how
   * many. Called once when a worker starts. A store that several processes share cannot know who crashed and does nothing.
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
}

/** Where an OP keeps what must not be lost: `lockstep/op/sqlite` for one process, `lockstep/op/postgres` for many. */
export interface OpStore {
  /** The same store, seen by one issuer: issuers never see each other's rows (T20). */
  forIssuer(issuer: string, runtime: Pick<Runtime, 'now' | 'random'>): OpIssuerStore
  close(): Promise<void>
}
