import { LockstepError } from '../protocol/errors.ts'
import { whyPostFailed } from '../runtime/post-failure.ts'
import type { Runtime } from '../runtime/runtime.ts'
import type { BackchannelOptions } from './delivery/backchannel-options.ts'
import { type Admission, type Budgets, OverBudgetError } from './delivery/budgets.ts'
import { type AttemptContext, judgeAnswer, judgeFailure, waitAskedFor } from './delivery/judge-answer.ts'
import type { AttemptOutcome, AttemptRecord, ClaimedDelivery } from './store/contract.ts'

/** Where an RP listens for Logout Tokens. */
export interface BackchannelReceiver {
  readonly url: string
  /** True for a client that registered itself: nobody vouches for its URL (T8). */
  readonly isRegistered: boolean
  /** True when the operator marked it as their own: it may learn the trace id of the POST (T13). */
  readonly isFirstParty?: boolean
}

/** What an attempt works with. */
export interface DeliveryParts {
  readonly runtime: Runtime
  readonly options: Required<BackchannelOptions>
  readonly budgets: Pick<Budgets, 'admissionOf'>
  /** The RP as it is registered now; `undefined` when it is gone or has no `backchannel_logout_uri` any more. */
  findReceiver(clientId: string): Promise<BackchannelReceiver | undefined>
  /** Signs a Logout Token of this delivery for one attempt: each has its own `jti`, `iat` and `exp`. */
  mint(delivery: ClaimedDelivery): Promise<string>
}

/** How an attempt ended, with the error behind it where there was one. */
export interface Attempt extends Pick<AttemptRecord, 'connectedAt' | 'answeredAt'> {
  readonly outcome: AttemptOutcome
  /** Epoch milliseconds until which the RP asked to be left alone. */
  readonly notBefore?: number
  readonly cause?: unknown
  /** Where the RP had to be admitted. */
  readonly admission?: Admission | undefined
}

/**
 * Makes one attempt at telling one RP that a session ended: mints a Logout Token, sends it, judges the answer.
 *
 * The token is fresh for each attempt, since it lives two minutes and an RP that checks for replay refuses a `jti` it has
 * seen. A reused connection that turns out to be closed gets one second try at once.
 *
 * @see {@link https://openid.net/specs/openid-connect-backchannel-1_0.html#BCRequest | Back-Channel Logout 1.0 §2.5}
 *
 * @param signal Gives the delivery back unfinished; it may have reached the RP all the same.
 * @param traceparent The trace of this attempt, told to a first-party RP only.
 */
export async function deliverLogoutToken(
  delivery: ClaimedDelivery,
  { runtime, options, budgets, findReceiver, mint }: DeliveryParts,
  signal: AbortSignal,
  traceparent?: string,
): Promise<Attempt> {
  const context = (): AttemptContext => contextOf(delivery, runtime, options)
  for (let isSecondTry = false; ; isSecondTry = true) {
    let url: string
    let token: string
    let admission: Admission | undefined
    let traced: { traceparent?: string } = {}
    try {
      const receiver = await findReceiver(delivery.clientId)
      if (!receiver) return { outcome: { state: 'dead', why: 'client_gone' } }
      url = receiver.url
      admission = budgets.admissionOf(delivery.clientId, receiver)
      if (receiver.isFirstParty && traceparent !== undefined) traced = { traceparent }
      token = await mint(delivery)
    } catch (cause) {
      return { outcome: judgeFailure('internal', context()), cause }
    }

    const times: { connectedAt?: number; answeredAt?: number } = {}
    try {
      const answer = await runtime.post({
        url,
        headers: { 'content-type': 'application/x-www-form-urlencoded', accept: 'application/json', ...traced },
        body: new URLSearchParams({ logout_token: token }).toString(),
        timeout: options.timeout * 1000,
        signal,
        pool: delivery.clientId,
        admit: admission && ((addresses) => admission.admit(addresses)),
        onConnected: () => {
          times.connectedAt = runtime.now()
        },
        onAnswered: () => {
          times.answeredAt = runtime.now()
        },
      })
      const wait = waitAskedFor(answer, runtime.now())
      const outcome = judgeAnswer(answer, context())
      const isFirst = delivery.fence === 1 && !isSecondTry
      return {
        ...times,
        outcome: isFirst ? flagged(outcome) : outcome,
        ...(wait !== undefined && { notBefore: runtime.now() + wait }),
        admission,
      }
    } catch (cause) {
      if (signal.aborted) return { outcome: { state: 'due', retryAt: runtime.now(), why: 'released' } }
      if (cause instanceof OverBudgetError) {
        return { outcome: { state: 'due', retryAt: cause.retryAt, why: 'budget' } }
      }
      if (cause instanceof LockstepError && cause.code === 'store_failed') {
        return { outcome: judgeFailure('internal', context()), cause }
      }
      const why = whyPostFailed(cause)
      if (why === 'stale' && !isSecondTry) continue
      return { ...times, outcome: judgeFailure(why === 'stale' ? 'network' : why, context()), cause }
    }
  }
}

/** Marks a success that ended nothing, where no earlier attempt may have ended it (T28). */
function flagged(outcome: AttemptOutcome): AttemptOutcome {
  return outcome.state === 'delivered' && outcome.sessionsEnded === 0 ? { ...outcome, endedNothing: true } : outcome
}

function contextOf(
  {
    createdAt,
    scheduledAt = createdAt,
    attempts,
    attemptsBefore = 0,
    refusals,
    refusedSince,
    lastOutcome,
  }: ClaimedDelivery,
  runtime: Runtime,
  { horizon }: Required<BackchannelOptions>,
): AttemptContext {
  const [high = 0, low = 0] = runtime.random(2)
  return {
    now: runtime.now(),
    createdAt: scheduledAt,
    attempts: attempts - attemptsBefore,
    refusals,
    ...(refusedSince !== undefined && { refusedSince }),
    horizon: horizon * 1000,
    chance: (high * 256 + low) / 65_536,
    ...((lastOutcome?.state === 'refused' || lastOutcome?.state === 'dead') && { lastWord: lastOutcome }),
  }
}
