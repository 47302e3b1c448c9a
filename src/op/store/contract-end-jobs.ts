import type { Logout, StoreEnding } from './contract-ends.ts'
import type { EndableOpSession, OpSessionScope } from './contract-sessions.ts'

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

/** The end of all OP sessions of a scope (T2). */
export interface EndJobStore {
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
}
