import { inTime } from '../runtime/in-time.ts'
import { whyPostFailed } from '../runtime/post-failure.ts'
import { chance, type Runtime } from '../runtime/runtime.ts'
import type { BackchannelOptions } from './delivery/backchannel-options.ts'
import { type Admission, OverBudgetError, type Turn } from './delivery/budgets.ts'
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
export interface DeliveryParts extends Pick<Turn, 'admissionOf'> {
  readonly runtime: Runtime
  readonly options: Required<BackchannelOptions>
  /** The RP as it is registered now; `undefined` when it is gone or has no `backchannel_logout_uri` any more. */
  findReceiver(clientId: string): Promise<BackchannelReceiver | undefined>
  /** Signs a Logout Token of this delivery for one attempt: each has its own `jti`, `iat` and `exp`. */
  mint(delivery: ClaimedDelivery): Promise<string>
}

/** What of ours an attempt goes through, by the name of its task in the log, and in words. */
const ourSteps = {
  client: 'looking the client up',
  budgets: 'asking the budgets',
  mint: 'signing the Logout Token',
} as const
type OurStep = keyof typeof ourSteps

/** How an attempt ended, with the error behind it where there was one. */
export interface Attempt extends Pick<AttemptRecord, 'connectedAt' | 'answeredAt'> {
  readonly outcome: AttemptOutcome
  /** Epoch milliseconds until which the RP asked to be left alone. */
  readonly notBefore?: number
  readonly cause?: unknown
  /** What of ours failed, where it was not the RP. */
  readonly failedAt?: OurStep
  /** Where the RP had to be admitted. */
  readonly admission?: Admission | undefined
}

/**
 * Makes one attempt at telling one RP that a session ended: looks where it listens, mints a Logout Token, sends it, judges the
 * answer.
 *
 * The token is fresh for each attempt, since it lives two minutes and an RP that checks for replay refuses a `jti` it has
 * seen; it is signed once there is room for the POST, and not before. A reused connection that turns out to be closed gets one
 * second try at once. It ends within {@link longestAttempt}, whatever hangs.
 *
 * @see {@link https://openid.net/specs/openid-connect-backchannel-1_0.html#BCRequest | Back-Channel Logout 1.0 §2.5}
 *
 * @param signal Gives the delivery back unfinished; it may have reached the RP all the same.
 * @param traceparent The trace of this attempt, told to a first-party RP only.
 */
export async function deliverLogoutToken(
  delivery: ClaimedDelivery,
  parts: DeliveryParts,
  signal: AbortSignal,
  traceparent?: string,
): Promise<Attempt> {
  const { runtime, options, findReceiver } = parts
  let receiver: BackchannelReceiver | undefined
  try {
    const limit = { ms: options.timeout * 1000, what: tooLong('client'), signal }
    receiver = await inTime(runtime, limit, () => findReceiver(delivery.clientId))
  } catch (cause) {
    return signal.aborted ? released(runtime) : ourFailure(delivery, parts, 'client', cause)
  }
  if (!receiver) return { outcome: { state: 'dead', why: 'client_gone' } }
  const trace = receiver.isFirstParty && traceparent !== undefined ? { traceparent } : {}
  for (let isSecondTry = false; ; isSecondTry = true) {
    const made = await post({ delivery, parts, signal, receiver, trace, isSecondTry })
    if (made !== 'stale') return made
  }
}

/** Milliseconds that an attempt takes at most: a look-up and two POSTs of `timeout` seconds each. */
export function longestAttempt({ timeout }: Pick<Required<BackchannelOptions>, 'timeout'>): number {
  return 3 * timeout * 1000
}

interface Sending {
  readonly delivery: ClaimedDelivery
  readonly parts: DeliveryParts
  readonly signal: AbortSignal
  readonly receiver: BackchannelReceiver
  readonly trace: { readonly traceparent?: string }
  readonly isSecondTry: boolean
}

/** One POST, with what has to come before it; `stale` when the connection for it had been closed, and it can be sent again. */
async function post(sending: Sending): Promise<Attempt | 'stale'> {
  const { delivery, parts, signal, receiver, trace, isSecondTry } = sending
  const { runtime, options, mint } = parts
  const context = (): AttemptContext => contextOf(delivery, runtime, options)
  const times: { connectedAt?: number; answeredAt?: number } = {}
  /** What of ours the POST waits for: what fails or hangs there is no failure of the RP. */
  let waitsFor: OurStep | undefined
  const ours = async <T>(step: OurStep, work: () => Promise<T>): Promise<T> => {
    waitsFor = step
    const done = await work()
    waitsFor = undefined
    return done
  }
  try {
    const admission = parts.admissionOf(receiver)
    const answer = await runtime.post({
      url: receiver.url,
      headers: { 'content-type': 'application/x-www-form-urlencoded', accept: 'application/json', ...trace },
      body: async () => {
        const token = await ours('mint', () => mint(delivery))
        if (isLeaseOver(delivery, runtime)) throw new Error('the lease ran out while this process stood still')
        return new URLSearchParams({ logout_token: token }).toString()
      },
      timeout: options.timeout * 1000,
      signal,
      pool: delivery.clientId,
      admit: admission && ((addresses) => ours('budgets', () => admission.admit(addresses))),
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
    if (signal.aborted || isLeaseOver(delivery, runtime)) return released(runtime)
    if (cause instanceof OverBudgetError) {
      return { outcome: { state: 'due', retryAt: cause.retryAt, why: 'budget' } }
    }
    const why = whyPostFailed(cause)
    if (waitsFor !== undefined) {
      return ourFailure(delivery, parts, waitsFor, why === 'timeout' ? new Error(tooLong(waitsFor), { cause }) : cause)
    }
    if (why === 'stale' && !isSecondTry) return 'stale'
    return { ...times, outcome: judgeFailure(why === 'stale' ? 'network' : why, context()), cause }
  }
}

/** Somebody else may have the delivery by now: it is not sent beside him. */
function isLeaseOver({ dueAt }: ClaimedDelivery, { now }: Pick<Runtime, 'now'>): boolean {
  return now() >= dueAt
}

function released({ now }: Pick<Runtime, 'now'>): Attempt {
  return { outcome: { state: 'due', retryAt: now(), why: 'released' } }
}

function ourFailure(
  delivery: ClaimedDelivery,
  { runtime, options }: DeliveryParts,
  failedAt: OurStep,
  cause: unknown,
): Attempt {
  return { outcome: judgeFailure('internal', contextOf(delivery, runtime, options)), failedAt, cause }
}

function tooLong(step: OurStep): string {
  return `${ourSteps[step]} took longer than backchannel.timeout`
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
  return {
    now: runtime.now(),
    createdAt: scheduledAt,
    attempts: attempts - attemptsBefore,
    refusals,
    ...(refusedSince !== undefined && { refusedSince }),
    horizon: horizon * 1000,
    chance: chance(runtime),
    ...((lastOutcome?.state === 'refused' || lastOutcome?.state === 'dead') && { lastWord: lastOutcome }),
  }
}
