import type { Runtime } from '../../runtime/runtime.ts'
import type { DeliveryStore } from './contract-deliveries.ts'
import type { EndJobStore } from './contract-end-jobs.ts'
import type { EndStore } from './contract-ends.ts'
import type { ErasureStore } from './contract-erasures.ts'
import type { ModelStore } from './contract-models.ts'
import type { OutboxStore } from './contract-outbox.ts'
import type { OpSessionStore } from './contract-sessions.ts'

export * from './contract-attempts.ts'
export type * from './contract-deliveries.ts'
export type * from './contract-end-jobs.ts'
export type * from './contract-ends.ts'
export type * from './contract-erasures.ts'
export type * from './contract-models.ts'
export type * from './contract-outbox.ts'
export type * from './contract-sessions.ts'

/**
 * Everything an OP must not lose, for one issuer.
 *
 * Two promises: **a write never brings back what a logout removed**, and each method is one transaction that happens
 * whole or not at all, also when the process is killed or the power fails. What a method has answered survives both; only
 * the outcome of an attempt may be lost with the power, since the attempt is then made again. A lease is not: given out
 * again under the same fence, the outcome of its first holder would count for the second.
 */
export interface OpIssuerStore
  extends ModelStore,
    OpSessionStore,
    EndStore,
    EndJobStore,
    ErasureStore,
    OutboxStore,
    DeliveryStore {
  /**
   * Forgets up to `limit` of each: attempts that finished before `attempts`, facts of before `logouts` with their
   * deliveries, once all of those are final, jobs that were done before `logouts` and refuse nothing any more (what never expires goes with
   * them), erasures that
   * were, and URIs that last answered before `logouts` (epoch milliseconds). True when there is more to forget.
   */
  forget(before: { attempts: number; logouts: number }, limit: number): Promise<boolean>
}

/** Where an OP keeps what must not be lost: `lockstep/op/sqlite` for one process, `lockstep/op/postgres` for many. */
export interface OpStore {
  /** The same store, seen by one issuer: issuers never see each other's rows (T20). */
  forIssuer(issuer: string, runtime: Pick<Runtime, 'now' | 'random'>): OpIssuerStore
  close(): Promise<void>
}
