import { messageOf } from '../../runtime/message-of.ts'
import type { Attempt } from '../backchannel.ts'
import { createLatest } from '../latest.ts'
import type { AboutFailure, OpLog } from '../log.ts'
import type { AttemptFailure, AttemptOutcome, ClaimedDelivery, Delivery } from '../store/contract.ts'
import type { Tell } from './events.ts'

/** Failed attempts after which a delivery is said to be failing: about half a minute, when a restart is over. */
const failuresToTell = 4

/**
 * Makes the function that tells what an attempt means, once its outcome is written: a line for each final outcome, and the
 * events of a delivery's episode. Only the worker under whose fence the outcome was written calls it, and what came before is
 * in the row, so each is told once. That the egress policy refuses an RP is the operator's to cure, and said once per RP.
 */
export function attemptReporter(log: OpLog, tell: Tell): (delivery: ClaimedDelivery, attempt: Attempt) => void {
  const refusedByEgress = createLatest<true>()
  return (delivery, { outcome, cause, failedAt }) => {
    const { id: deliveryId, logout, clientId, lastOutcome, scheduledAt, attemptsBefore = 0 } = delivery
    const about = { deliveryId, logoutId: logout.id, clientId, attempts: delivery.attempts + 1 }
    const wasGivenUp = lastOutcome?.state === 'refused' || lastOutcome?.state === 'dead'
    const wasTold = wasGivenUp || scheduledAt !== undefined || delivery.attempts >= failuresToTell
    switch (outcome.state) {
      case 'delivered': {
        const { state: _, ...how } = outcome
        log({ event: 'delivery_delivered', ...about, ...how })
        if (wasTold) tell('lockstep.delivery.recovered', { ...about, status: how.status })
        return
      }
      case 'refused': {
        const { status, error, failure = { why: 'refusal', status, ...(error !== undefined && { error }) } } = outcome
        const told = { ...about, ...flat(failure, cause) }
        log({ event: 'delivery_refused', ...told })
        if (!wasGivenUp) tell('lockstep.delivery.dead', { ...told, why: 'refused' })
        return
      }
      case 'dead': {
        const told = { ...about, why: outcome.why, ...(outcome.failure && flat(outcome.failure, cause)) }
        log({ event: 'delivery_dead', ...told })
        if (!wasGivenUp) tell('lockstep.delivery.dead', told)
        return
      }
      case 'due': {
        const { why, retryAt, status, error } = outcome
        if (why === 'released' || why === 'budget') return
        if (failedAt !== undefined) log({ event: 'op_failed', task: failedAt, clientId, message: messageOf(cause) })
        if (why === 'egress' && !refusedByEgress.get(clientId)) {
          refusedByEgress.set(clientId, true)
          log({ event: 'egress_refused', clientId, message: messageOf(cause) })
        }
        if (about.attempts - attemptsBefore !== failuresToTell) return
        const failure = { why, ...(status !== undefined && { status }), ...(error !== undefined && { error }) }
        const told = { ...about, ...flat(failure, cause), retryAt }
        log({ event: 'delivery_failing', ...told })
        tell('lockstep.delivery.failing', told)
      }
    }
  }
}

/** Tells of a delivery that was given up without an attempt of its own, since its horizon is over and its RP is down. */
export function reportGivenUp(
  log: OpLog,
  tell: Tell,
  { id: deliveryId, logout, clientId, attempts, lastOutcome }: Delivery,
): void {
  const failure = lastOutcome?.state === 'dead' ? lastOutcome.failure : undefined
  const about = { deliveryId, logoutId: logout.id, clientId, attempts, why: 'horizon' as const }
  const told = { ...about, ...(failure && flat(failure, undefined)) }
  log({ event: 'delivery_dead', ...told })
  tell('lockstep.delivery.dead', told)
}

/** What an outcome says of whether the RP can be reached; of what failed here it says nothing. */
export function reachOf(outcome: AttemptOutcome): 'reached' | 'not reached' | 'unknown' {
  if (outcome.state === 'delivered') return 'reached'
  const why = outcome.state === 'due' ? outcome.why : (outcome.failure?.why ?? outcome.state)
  if (why === 'refused' || why === 'refusal') return 'reached'
  return why === 'released' || why === 'budget' || why === 'internal' || why === 'dead' ? 'unknown' : 'not reached'
}

/** Without `errorDescription`, which is text of the RP's: it might echo what it was sent. */
function flat({ why, status, error }: AttemptFailure, cause: unknown): AboutFailure {
  const code = codeOf(cause)
  return {
    failed: why,
    ...(status !== undefined && { status }),
    ...(error !== undefined && { error }),
    ...(code !== undefined && { code }),
  }
}

function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined
}
