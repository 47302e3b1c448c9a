import type { Attempt } from '../backchannel.ts'
import { type ClaimedDelivery, isAttempted, type OpIssuerStore } from '../store/contract.ts'
import type { Telemetry } from './telemetry.ts'

/** One attempt under measurement. */
export interface MeasuredAttempt {
  readonly traceparent?: string
  /** The attempt is over at `finishedAt` (epoch milliseconds); `isWritten` says that its outcome is now the delivery's. */
  end(attempt: Attempt, finishedAt: number, isWritten: boolean): Promise<void>
}

/** Begins to measure an attempt at `startedAt` (epoch milliseconds). */
export type MeasureAttempt = (delivery: ClaimedDelivery, startedAt: number) => MeasuredAttempt

/**
 * Makes the function that measures attempts. A logout has propagated when its last RP has confirmed: the store is asked when an RP
 * has and no other attempt of that logout is under way here, and of several nodes the one with the last confirmation counts it.
 */
export function attemptMeasure(
  store: Pick<OpIssuerStore, 'lastConfirmation'>,
  telemetry: Pick<Telemetry, 'metrics' | 'traces'> | undefined,
): MeasureAttempt {
  const underWay = new Map<string, number>()

  async function measurePropagation({ id, logout }: ClaimedDelivery): Promise<void> {
    const last = await store.lastConfirmation(logout.id)
    if (last?.deliveryId === id) telemetry?.metrics?.propagation((last.confirmedAt - last.plannedAt) / 1000)
  }

  return (delivery, startedAt) => {
    const { id: logoutId } = delivery.logout
    underWay.set(logoutId, (underWay.get(logoutId) ?? 0) + 1)
    const span = telemetry?.traces?.attempt(delivery, startedAt)
    return {
      ...(span?.traceparent !== undefined && { traceparent: span.traceparent }),
      async end(attempt, finishedAt, isWritten) {
        const others = (underWay.get(logoutId) ?? 1) - 1
        if (others > 0) underWay.set(logoutId, others)
        else underWay.delete(logoutId)
        span?.end(attempt, finishedAt)
        const { outcome } = attempt
        if (!isAttempted(outcome)) return
        telemetry?.metrics?.attempt(outcome, (finishedAt - startedAt) / 1000)
        const isLastHere = others === 0 && isWritten && outcome.state === 'delivered'
        if (isLastHere && telemetry?.metrics?.isOn()) await measurePropagation(delivery)
      },
    }
  }
}
