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
 * has and no other attempt of that logout is under way here, and tells one of the nodes, once.
 */
export function attemptMeasure(
  store: Pick<OpIssuerStore, 'notePropagation'>,
  telemetry: Pick<Telemetry, 'metrics' | 'traces'> | undefined,
): MeasureAttempt {
  const underWay = new Map<string, { attempts: number; isConfirmed: boolean }>()

  async function measurePropagation(logoutId: string): Promise<void> {
    const times = await store.notePropagation(logoutId)
    if (times) telemetry?.metrics?.propagation(Math.max(times.confirmedAt - times.plannedAt, 0) / 1000) // clocks of two nodes
  }

  return (delivery, startedAt) => {
    const { id: logoutId } = delivery.logout
    const logout = underWay.get(logoutId) ?? { attempts: 0, isConfirmed: false }
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
        if (isAttempted(outcome)) telemetry?.metrics?.attempt(outcome, (finishedAt - startedAt) / 1000)
        if (isWritten && outcome.state === 'delivered') logout.isConfirmed = true
        if (logout.attempts > 0 || !logout.isConfirmed || !telemetry?.metrics?.isOn()) return
        await measurePropagation(logoutId)
      },
    }
  }
}
