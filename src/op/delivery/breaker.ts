import { hour, second } from '../../runtime/milliseconds.ts'
import { createLatest } from '../latest.ts'
import { createRates } from './rates.ts'

/** Failures in a row, with no answer that helps in between, after which an RP counts as down. */
const failuresToOpen = 3

/** Probes a second, of all RPs that are down together: where more are down, each is asked less often. */
const probesPerSecond = 50

/**
 * How an attempt failed: nobody listens (`silent`; finding that out is cheap), the RP or its gateway is `overloaded`, or the
 * RP answered with an `error`, which may be about this one delivery.
 */
export type Trouble = 'silent' | 'overloaded' | 'error'

interface Breaker {
  failures: number
  /** The delivery that failed last. */
  deliveryId: string
  /** Epoch milliseconds. */
  openedAt: number
  probeAt: number
  /** Until when the RP wants to be left alone. */
  notBefore?: number
}

/** The circuit breakers of a worker, one per RP that is in trouble. Times are epoch milliseconds. */
export interface Breakers {
  /** While open, an RP gets nothing but probes. */
  isOpen(clientId: string): boolean
  /** Counts a failure; true when the breaker opens by it. Errors about one and the same delivery count once. */
  failed(clientId: string, failure: { deliveryId: string; trouble: Trouble; notBefore?: number }, now: number): boolean
  /** The RP answered, be it with a refusal; true when its breaker closes by it. */
  answered(clientId: string): boolean
  /** RPs to be probed now, those that wait longest first; each has its next turn set as if this probe will fail. */
  takeProbes(now: number): readonly string[]
  /** How many are open. */
  countOpen(): number
  /** The RP, or all that are down, are to be probed now. */
  probeNow(now: number, clientId?: string): void
  /** When there is somebody to probe, and room for a probe. */
  nextProbeAt(now: number): number | undefined
  /** Puts the next probe of an RP off until then. */
  putOff(clientId: string, until: number): void
  /** The RP is owed nothing any more. */
  forget(clientId: string): void
  /** The clock was set back: RPs that are down are down since now at the latest, and may be probed now. */
  startOver(now: number): void
}

/**
 * Keeps a down RP from costing the others anything, and finds out fast that it is back.
 *
 * A single delivery backs off to 15 minutes between attempts, which would leave users signed in for minutes after their
 * app is back. So while the breaker is open, the RP is asked with one delivery at a time instead, after each 1 % of the
 * outage so far: that it is over is noticed within 1 % of its length. Where nothing listens a probe costs one refused
 * connection, so it comes every 2 to 15 seconds in the first hour, and every minute at the latest after that. An RP that
 * hangs or answers with errors is asked every 15 seconds at most: there, each probe is work. RPs that went down together
 * are not asked together: a part of each interval is left to chance.
 *
 * @param chance A random number in [0, 1).
 */
export function createBreakers(chance: () => number): Breakers {
  /** RPs that count as down. */
  const open = new Map<string, Breaker>()
  /** RPs that have failed since their last answer, and count as up. */
  let failing = createLatest<Breaker>()
  let rate = createRates(probesPerSecond)
  const next = (trouble: Trouble, outage: number): number =>
    Math.round(probeInterval(trouble, outage) * (1 - chance() / 5))
  return {
    isOpen: (clientId) => open.has(clientId),

    failed(clientId, { deliveryId, trouble, notBefore }, now) {
      const isOpen = open.has(clientId)
      const fresh: Breaker = { failures: 0, deliveryId: '', openedAt: now, probeAt: now }
      const breaker = open.get(clientId) ?? failing.get(clientId) ?? fresh
      if (trouble !== 'error' || breaker.deliveryId !== deliveryId) breaker.failures += 1
      breaker.deliveryId = deliveryId
      if (notBefore !== undefined) breaker.notBefore = Math.max(breaker.notBefore ?? notBefore, notBefore)
      if (breaker.failures < failuresToOpen) {
        failing.set(clientId, breaker)
        return false
      }
      if (!isOpen) {
        breaker.openedAt = now
        failing.delete(clientId)
        open.set(clientId, breaker)
      }
      breaker.probeAt = Math.max(now + next(trouble, now - breaker.openedAt), breaker.notBefore ?? now)
      return !isOpen
    },

    answered(clientId) {
      failing.delete(clientId)
      return open.delete(clientId)
    },

    takeProbes(now) {
      const due = [...open]
        .filter(([, { probeAt }]) => probeAt <= now)
        .sort(([, one], [, other]) => one.probeAt - other.probeAt)
        .slice(0, rate.room(all, now))
      for (const [, breaker] of due) {
        rate.take(all, now)
        breaker.probeAt = now + next('overloaded', now - breaker.openedAt)
      }
      return due.map(([clientId]) => clientId)
    },

    countOpen: () => open.size,

    putOff(clientId, until) {
      const breaker = open.get(clientId)
      if (breaker) breaker.probeAt = Math.max(breaker.probeAt, until)
    },

    probeNow(now, clientId) {
      const named = clientId === undefined ? undefined : open.get(clientId)
      if (named) named.probeAt = 0 // before all others
      if (clientId !== undefined) return
      for (const breaker of open.values()) breaker.probeAt = Math.min(breaker.probeAt, now)
    },

    nextProbeAt(now) {
      let first = Number.POSITIVE_INFINITY
      for (const { probeAt } of open.values()) first = Math.min(first, probeAt)
      return first === Number.POSITIVE_INFINITY ? undefined : Math.max(first, rate.nextAt(all, now))
    },

    forget: (clientId) => void open.delete(clientId),

    startOver(now) {
      failing = createLatest()
      rate = createRates(probesPerSecond)
      for (const breaker of open.values()) {
        breaker.openedAt = Math.min(breaker.openedAt, now)
        breaker.probeAt = Math.min(breaker.probeAt, now)
        delete breaker.notBefore
      }
    },
  }
}

/** The rate of probes is one for all RPs. */
const all = 'all'

/** At most so many milliseconds to the next probe of an RP that has been down for `outage` milliseconds. */
function probeInterval(trouble: Trouble, outage: number): number {
  const [least, most] = trouble === 'silent' ? [2, outage < hour ? 15 : 60] : [15, 60]
  return Math.round(Math.min(Math.max(outage / 100, least * second), most * second))
}
