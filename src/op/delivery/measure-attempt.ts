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
  const underWay = new Map<string, { attempts: number; readonly confirmed: Set<string> }>()

  async function measurePropagation(logoutId: string, confirmed: ReadonlySet<string>): Promise<void> {
    const last = await store.lastConfirmation(logoutId)
    if (last && confirmed.has(last.deliveryId))
      telemetry?.metrics?.propagation((last.confirmedAt - last.plannedAt) / 1000)
  }

  return (delivery, startedAt) => {
    const { id: logoutId } = delivery.logout
    const logout = underWay.get(logoutId) ?? { attempts: 0, confirmed: new Set() }
    underWay.set(logoutId, logout)
    logout.attempts += 1
    const span = telemetry?.traces?.attempt(delivery, startedAt)
    return {
      ...(span?.traceparent !== undefined && { traceparent: span.traceparent }),
      async end(attempt, finishedAt, isWritten) {
        logout.attempts -= 1
        if (logout.attempts === 0) underWay.delete(logoutId)
        span?.end(attempt, finishedAt)
        const { outcome } = attempt
        if (!isAttempted(outcome)) return
        telemetry?.metrics?.attempt(outcome, (finishedAt - startedAt) / 1000)
        // Of answers in one millisecond the last that is written need not be the last by the store's order.
        if (isWritten && outcome.state === 'delivered') logout.confirmed.add(delivery.id)
        if (logout.attempts > 0 || logout.confirmed.size === 0 || !telemetry?.metrics?.isOn()) return
        await measurePropagation(logoutId, logout.confirmed)
      },
    }
  }
}
