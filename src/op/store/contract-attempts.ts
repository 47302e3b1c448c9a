/** How an attempt failed, where the delivery is given up with it. */
export interface AttemptFailure {
  readonly why: 'refusal' | 'status' | 'timeout' | 'network' | 'egress' | 'internal'
  readonly status?: number
  /** A code of OAuth or OpenID, or `other`. */
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

/** Whether a delivery that was dropped while it was in flight is dropped for good by this outcome; what was given back has one try more. */
export function endsDropped(outcome: AttemptOutcome): boolean {
  const isLastWord = outcome.state === 'dead' && outcome.why === 'dropped' // that of an operator's one try more
  return isAttempted(outcome) && outcome.state !== 'delivered' && !isLastWord
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
