import type { AttemptFailure, AttemptOutcome, EndCause } from './store/contract.ts'

/** Which delivery something is about: names that mean nothing outside the OP, never a `sub`, a `sid` or a token. */
export interface AboutDelivery {
  readonly deliveryId: string
  readonly logoutId: string
  readonly clientId: string
  /** Attempts finished, this one included. */
  readonly attempts: number
}

/** How an attempt failed. `code` is the network's (`CERT_HAS_EXPIRED`, say). */
export interface AboutFailure extends Omit<AttemptFailure, 'why' | 'errorDescription'> {
  readonly failed?: AttemptFailure['why']
  readonly code?: string
}

/** What an operator should see, one line each. */
export type OpLogEvent =
  /** An RP has been told. */
  | (AboutDelivery & { readonly event: 'delivery_delivered' } & Omit<
        Extract<AttemptOutcome, { state: 'delivered' }>,
        'state'
      >)
  /** The fourth attempt failed; the next is at `retryAt` (epoch ms). Said once for each horizon. */
  | (AboutDelivery & AboutFailure & { readonly event: 'delivery_failing'; readonly retryAt: number })
  /** An RP refused its Logout Tokens for good; also after an operator's one more try. */
  | (AboutDelivery & AboutFailure & { readonly event: 'delivery_refused' })
  /**
   * An RP was never told: it was down for longer than the horizon, it is not registered (for this) any more, or an
   * operator's one more try of a dropped delivery failed.
   */
  | (AboutDelivery &
      AboutFailure & {
        readonly event: 'delivery_dead'
        readonly why: Extract<AttemptOutcome, { state: 'dead' }>['why']
      })
  /** An operator had deliveries tried once more, or gave them a new horizon. */
  | {
      readonly event: 'deliveries_retried' | 'deliveries_rescheduled'
      readonly count: number
      readonly actor?: string
    }
  /** An operator gave deliveries up. */
  | { readonly event: 'deliveries_dropped'; readonly count: number; readonly actor: string }
  /** For an hour nothing but failures has come from an RP, since `since` (epoch ms); said once until it answers. */
  | { readonly event: 'client_unreachable'; readonly clientId: string; readonly since: number }
  /** The egress policy refuses an RP's URL; said once per client. */
  | { readonly event: 'egress_refused'; readonly clientId: string; readonly message: string }
  /** An RP does not answer; it is asked now and then whether it is back. */
  | { readonly event: 'rp_down'; readonly clientId: string }
  /** An RP answers again; what it is owed follows. */
  | { readonly event: 'rp_back'; readonly clientId: string }
  /** A client that registered itself has never answered, and gets few attempts until it has (T8); said once. `until` is epoch ms. */
  | { readonly event: 'rp_held'; readonly clientId: string; readonly until: number }
  /** All OP sessions of a scope that `endAll` named have ended; those that ended otherwise meanwhile are not in `ended`. */
  | {
      readonly event: 'end_job_done'
      readonly jobId: string
      readonly cause: EndCause
      readonly ended: number
      readonly total: number
    }
  /** A client in the store is refused by a rule of Lockstep's: nobody signs in at it. Said at the start, of 20 clients at most. */
  | { readonly event: 'client_refused'; readonly clientId: string; readonly message: string }
  /** So many clients in the store are refused; said when they are more than `client_refused` names. */
  | { readonly event: 'clients_refused'; readonly count: number }
  /** Nothing names an account any more that `accounts.erase` was called for; its logouts have the pseudonym. */
  | { readonly event: 'account_erased'; readonly erasureId: string; readonly pseudonym: string }
  /** Something of our own failed; it is tried again. */
  | { readonly event: 'op_failed'; readonly task: string; readonly clientId?: string; readonly message: string }

/** Receives what an operator should see. */
export type OpLog = (event: OpLogEvent) => void
