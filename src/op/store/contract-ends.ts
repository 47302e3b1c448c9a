import type { Delivery } from './contract-outbox.ts'
import type { EndableOpSession, LoggedInRp } from './contract-sessions.ts'

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
  /** Epoch milliseconds: of one that expired its expiry, of one that fell to a job of `endAll` the job's `notBefore`. */
  readonly endedAt: number
  /** The span in which it ended, as a `traceparent` (W3C Trace Context §3.2); attempts are linked to it, inside the OP only (T13). */
  readonly trace?: string
}

/** Why OP sessions end, and what else falls with them. */
export interface StoreEnding extends Pick<Logout, 'cause' | 'initiator' | 'actor' | 'reason' | 'trace'> {
  /** True revokes the grants with `persistsLogout` too (T1). Default false. */
  readonly revokeOffline?: boolean
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

/** What ended, and whom the outbox will tell. */
export interface EndedOpSession {
  readonly logout: Logout
  readonly rps: readonly LoggedInRp[]
  readonly deliveries: readonly Delivery[]
  readonly frames: readonly FrameNotice[]
}

/** The end of OP sessions, and the fact of it. */
export interface EndStore {
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
  /** A logout with what its RPs were sent: deliveries in the order of the plan, and likewise frame notices. */
  getLogout(
    id: string,
  ): Promise<{ logout: Logout; deliveries: readonly Delivery[]; frames: readonly FrameNotice[] } | undefined>
  /** The page with the frames of this logout is on its way to the browser; the first time counts. */
  noteFramed(logoutId: string): Promise<void>
}
