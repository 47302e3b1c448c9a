/** Failures in a row, with no answer that helps in between, after which an RP counts as down. */
const failuresToOpen = 3

const second = 1000
const hour = 3_600_000

/**
 * How an attempt failed: nobody listens (`silent`; finding that out is cheap), the RP or its gateway is `overloaded`, or the
 * RP answered with an `error`, which may be about this one delivery.
 */
export type Trouble = 'silent' | 'overloaded' | 'error'

interface Breaker {
  failures: number
  /** The delivery that failed last. */
  deliveryId: string
  /** Epoch milliseconds; absent while the RP still counts as up. */
  openedAt?: number
  probeAt: number
}

/** The circuit breakers of a worker, one per RP that is in trouble. Times are epoch milliseconds. */
export interface Breakers {
  /** While open, an RP gets nothing but probes. */
  isOpen(clientId: string): boolean
  /** Counts a failure; true when the breaker opens by it. Errors about one and the same delivery count once. */
  failed(clientId: string, failure: { deliveryId: string; trouble: Trouble; notBefore?: number }, now: number): boolean
  /** The RP answered, be it with a refusal; true when its breaker closes by it. */
  answered(clientId: string): boolean
  /** RPs to be probed now; each has its next turn set as if this probe will fail. */
  takeProbes(now: number): readonly string[]
  /** How many are open. */
  countOpen(): number
  /** The RP, or all that are down, are to be probed now. */
  probeNow(now: number, clientId?: string): void
  nextProbeAt(): number | undefined
  /** Puts the next probe of an RP off until then. */
  putOff(clientId: string, until: number): void
  /** The RP is owed nothing any more. */
  forget(clientId: string): void
}

/**
 * Keeps a down RP from costing the others anything, and finds out fast that it is back.
 *
 * A single delivery backs off to 15 minutes between attempts, which would leave users signed in for minutes after their
 * app is back. So while the breaker is open, the RP is asked with one delivery at a time instead, after each 1 % of the
 * outage so far: that it is over is noticed within 1 % of its length. Where nothing listens a probe costs one refused
 * connection, so it comes every 2 to 15 seconds in the first hour, and every minute at the latest after that. An RP that
 * hangs or answers with errors is asked every 15 seconds at most: there, each probe is work.
 */
export function createBreakers(): Breakers {
  const breakers = new Map<string, Breaker>()
  return {
    isOpen: (clientId) => breakers.get(clientId)?.openedAt !== undefined,

    failed(clientId, { deliveryId, trouble, notBefore }, now) {
      const breaker = breakers.get(clientId) ?? { failures: 0, deliveryId: '', probeAt: now }
      breakers.set(clientId, breaker)
      if (trouble !== 'error' || breaker.deliveryId !== deliveryId) breaker.failures += 1
      breaker.deliveryId = deliveryId
      const opens = breaker.openedAt === undefined && breaker.failures >= failuresToOpen
      if (opens) breaker.openedAt = now
      if (breaker.openedAt === undefined) return false
      breaker.probeAt = Math.max(now + probeInterval(trouble, now - breaker.openedAt), notBefore ?? now)
      return opens
    },

    answered(clientId) {
      const wasOpen = breakers.get(clientId)?.openedAt !== undefined
      breakers.delete(clientId)
      return wasOpen
    },

    takeProbes(now) {
      const due = [...breakers].filter(([, { openedAt, probeAt }]) => openedAt !== undefined && probeAt <= now)
      for (const [, breaker] of due)
        breaker.probeAt = now + probeInterval('overloaded', now - (breaker.openedAt ?? now))
      return due.map(([clientId]) => clientId)
    },

    countOpen: () => [...breakers.values()].filter(({ openedAt }) => openedAt !== undefined).length,

    putOff(clientId, until) {
      const breaker = breakers.get(clientId)
      if (breaker) breaker.probeAt = Math.max(breaker.probeAt, until)
    },

    probeNow(now, clientId) {
      for (const [id, breaker] of breakers) if (clientId === undefined || clientId === id) breaker.probeAt = now
    },

    nextProbeAt() {
      const times = [...breakers.values()].flatMap(({ openedAt, probeAt }) => (openedAt === undefined ? [] : [probeAt]))
      return times.length === 0 ? undefined : Math.min(...times)
    },

    forget: (clientId) => void breakers.delete(clientId),
  }
}

/** Milliseconds to the next probe of an RP that has been down for `outage` milliseconds. */
function probeInterval(trouble: Trouble, outage: number): number {
  const [least, most] = trouble === 'silent' ? [2, outage < hour ? 15 : 60] : [15, 60]
  return Math.round(Math.min(Math.max(outage / 100, least * second), most * second))
}
