import { messageOf } from '../../runtime/message-of.ts'
import { type Attempt, deliverLogoutToken } from '../backchannel.ts'
import type { AttemptOutcome, AttemptRecord, ClaimedDelivery } from '../store/contract.ts'
import type { Breakers, Trouble } from './breaker.ts'
import type { Budgets, Turn } from './budgets.ts'
import { attemptMeasure } from './measure-attempt.ts'
import type { OutboxParts } from './outbox.ts'
import { createGiveUp, isHeldBack } from './overdue.ts'
import type { Places } from './places.ts'
import { attemptReporter } from './report-attempt.ts'
import { troubleWatch } from './trouble.ts'

/** What the attempts of a worker share. */
export interface AttemptParts extends OutboxParts {
  readonly breakers: Breakers
  readonly budgets: Budgets
  readonly places: Pick<Places, 'watched'>
  /** Aborts when the worker begins to stop: what follows from an attempt is then left for the next start. */
  readonly stopping: AbortSignal
  /** Aborts when the worker waits no longer: what is under way is given back. */
  readonly giveUp: AbortSignal
}

/**
 * Makes the function that makes one attempt: tells the RP, writes what came of it, and then does what follows. It never throws;
 * whatever of ours fails is logged, and an outcome that cannot be written is made again when its lease runs out.
 */
export function attemptsOf(parts: AttemptParts): (delivery: ClaimedDelivery, turn: Turn) => Promise<void> {
  const { store, runtime, options, log, tell = () => {}, breakers, budgets, places, stopping, giveUp } = parts
  const report = attemptReporter(log, tell)
  const measure = attemptMeasure(store, parts.telemetry)
  const watch = troubleWatch({ store, log, tell, horizon: options.horizon })
  const giveUpOverdue = createGiveUp({ store, log, tell }, () => stopping.aborted)

  async function guard(task: string, clientId: string, work: () => Promise<unknown>): Promise<void> {
    try {
      await work()
    } catch (error) {
      log({ event: 'op_failed', task, clientId, message: messageOf(error) })
    }
  }

  async function attempt(delivery: ClaimedDelivery, { admissionOf }: Turn): Promise<void> {
    const { clientId } = delivery
    const startedAt = runtime.now()
    const measured = measure(delivery, startedAt)
    const attemptParts = { ...parts, admissionOf, runtime: places.watched(runtime, delivery) }
    const made = await deliverLogoutToken(delivery, attemptParts, giveUp, measured.traceparent)
    const finishedAt = runtime.now()
    const isBack = learn(delivery, made)
    let isWritten = false
    await guard('settle', clientId, async () => {
      isWritten = await store.settle(delivery, recordOf(delivery, made, { startedAt, finishedAt }))
      if (isWritten) report(delivery, made)
    })
    await guard('measure', clientId, () => measured.end(made, finishedAt, isWritten))
    let failsSince = Number.POSITIVE_INFINITY
    await guard('trouble', clientId, async () => {
      failsSince = (await watch(clientId, made.outcome)) ?? failsSince
    })
    const begun = finishedAt - options.horizon * 1000
    if (isHeldBack(made, breakers.isOpen(clientId) && failsSince <= begun)) {
      await guard('give_up', clientId, () => giveUpOverdue(clientId, begun))
    }
    await guard('hasten', clientId, async () => {
      if (await isFree(delivery, made, isBack)) await store.hasten({ clientId }, options.ratePerRp, stopping)
    })
  }

  /** True when what an RP is owed need not wait any longer: it is back, or it has answered for the first time. */
  async function isFree({ clientId }: ClaimedDelivery, made: Attempt, isBack: boolean): Promise<boolean> {
    const { outcome, admission } = made
    const isProven = outcome.state === 'delivered' && (await admission?.answered()) === true
    if (isBack || isProven) budgets.ramp(clientId)
    // it may have answered another attempt while this delivery was put off
    const isLate = outcome.state === 'due' && outcome.why === 'budget' && budgets.heldUntil(clientId) === undefined
    return isBack || isProven || isLate
  }

  /** Learns from an attempt about the RP as a whole; true when the RP turns out to be back. */
  function learn({ id: deliveryId, clientId }: ClaimedDelivery, { outcome, notBefore }: Attempt): boolean {
    const health = healthOf(outcome)
    if (health === 'unknown') return false
    if (health === 'well') {
      const isBack = breakers.answered(clientId)
      if (isBack) log({ event: 'rp_back', clientId })
      return isBack
    }
    const failure = { deliveryId, trouble: health, ...(notBefore !== undefined && { notBefore }) }
    if (breakers.failed(clientId, failure, runtime.now())) log({ event: 'rp_down', clientId })
    return false
  }

  return (delivery, turn) => guard('attempt', delivery.clientId, () => attempt(delivery, turn))
}

function recordOf(
  { wasDueAt }: ClaimedDelivery,
  { connectedAt, answeredAt, outcome }: Attempt,
  times: Pick<AttemptRecord, 'startedAt' | 'finishedAt'>,
): AttemptRecord {
  return {
    dueAt: wasDueAt,
    ...times,
    ...(connectedAt !== undefined && { connectedAt }),
    ...(answeredAt !== undefined && { answeredAt }),
    outcome,
  }
}

/** Statuses by which an RP, or the gateway before it, says that it cannot take any request now. */
const overloaded: ReadonlySet<number | undefined> = new Set([429, 502, 503, 504])

/** What an outcome says about the RP: a refusal is an answer; what never reached the RP says nothing. */
function healthOf(outcome: AttemptOutcome): Trouble | 'well' | 'unknown' {
  if (outcome.state === 'delivered') return 'well'
  const failure = outcome.state === 'due' ? outcome : outcome.failure
  switch (failure?.why ?? outcome.state) {
    case 'refused':
    case 'refusal':
      return 'well'
    case 'network':
      return 'silent'
    case 'timeout':
      return 'overloaded'
    case 'status':
      return overloaded.has(failure?.status) ? 'overloaded' : 'error'
    default:
      return 'unknown'
  }
}
