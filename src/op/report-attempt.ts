import { messageOf } from '../runtime/message-of.ts'
import type { Attempt } from './backchannel.ts'
import type { OpLog } from './log.ts'
import { type ClaimedDelivery, isAttempted } from './store/contract.ts'

/**
 * Makes the function that writes a line for each final outcome and for the first failure of a delivery; what happens in
 * between is in the store. That the egress policy refuses an RP is the operator's to cure, and said once per RP.
 */
export function attemptReporter(log: OpLog): (delivery: ClaimedDelivery, attempt: Attempt) => void {
  const refusedByEgress = new Set<string>()
  return (delivery, { outcome, cause }) => {
    const { id: deliveryId, logout, clientId } = delivery
    const about = { deliveryId, logoutId: logout.id, clientId, attempts: delivery.attempts + 1 }
    switch (outcome.state) {
      case 'delivered': {
        const { state: _, ...how } = outcome
        return log({ event: 'delivery_delivered', ...about, ...how })
      }
      case 'refused': {
        const { state: _, ...how } = outcome
        return log({ event: 'delivery_refused', ...about, ...how })
      }
      case 'dead':
        return log({ event: 'delivery_dead', ...about, why: outcome.why })
      case 'due': {
        const { state: _, ...how } = outcome
        if (!isAttempted(outcome)) return
        if (how.why === 'internal') log({ event: 'op_failed', task: 'mint', clientId, message: messageOf(cause) })
        if (how.why === 'egress' && !refusedByEgress.has(clientId)) {
          refusedByEgress.add(clientId)
          log({ event: 'egress_refused', clientId, message: messageOf(cause) })
        }
        if (delivery.attempts === 0) {
          const code = codeOf(cause)
          log({ event: 'delivery_failing', ...about, ...how, ...(code !== undefined && { code }) })
        }
      }
    }
  }
}

function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined
}
