import { alarm, pause } from '../../runtime/alarm.ts'
import { messageOf } from '../../runtime/message-of.ts'
import { chance, type Runtime } from '../../runtime/runtime.ts'
import { type BackchannelReceiver, longestAttempt } from '../backchannel.ts'
import type { OpLog } from '../log.ts'
import type { ClaimedDelivery, OpIssuerStore } from '../store/contract.ts'
import type { BackchannelOptions } from './backchannel-options.ts'
import { createBreakers } from './breaker.ts'
import { createBudgets } from './budgets.ts'
import type { Tell } from './events.ts'
import { firstAttemptsOf } from './first-attempts.ts'
import { createInFlight } from './in-flight.ts'
import { attemptsOf } from './make-attempt.ts'
import { createPlaces } from './places.ts'
import type { Telemetry } from './telemetry.ts'

/** What the outbox's worker works with. */
export interface OutboxParts {
  readonly store: OpIssuerStore
  readonly runtime: Runtime
  readonly options: Required<BackchannelOptions>
  readonly log: OpLog
  /** Tells who listens to events. Default: nobody does. */
  readonly tell?: Tell
  /** Who measures. Default: nobody does. */
  readonly telemetry?: Pick<Telemetry, 'metrics' | 'traces'>
  /** The RP as it is registered now; `undefined` when it is gone or has no `backchannel_logout_uri` any more. */
  findReceiver(clientId: string): Promise<BackchannelReceiver | undefined>
  /** Signs a fresh Logout Token for one attempt. */
  mint(delivery: ClaimedDelivery): Promise<string>
}

/** The worker that tells RPs. */
export interface Outbox {
  /** Looks for due deliveries now: call it after a commit that planned some. */
  wake(): void
  /**
   * Deliveries came due by an operator's hand: looks for them. One that is named is tried now, although its RP may be down;
   * else the RP, or all, that are down are asked soon whether they are back.
   */
  hurry(those?: { readonly deliveryId?: string; readonly clientId?: string }): void
  /** How many RPs count as down. */
  openBreakers(): number
  /** Resolves when each RP of a logout has been tried once (those known to be down aside), or after `ms` milliseconds. */
  firstAttempts(logoutId: string, ms: number): Promise<void>
  /**
   * Takes no more deliveries, waits `stopTimeout` for attempts under way, gives the rest back, and is over {@link lastWait}
   * milliseconds later, whatever hangs.
   */
  stop(): Promise<void>
}

/** Milliseconds after which the store is asked again although nothing was to be due: clocks jump. */
const longestSleep = 60_000
/** Milliseconds until the store is asked again after it failed. */
const afterFailure = 1_000
/** Milliseconds until rows are asked for again that are due and that nobody here could take: another node holds them. */
const whileOthersHold = 50
/** Milliseconds by which the clock may go back unnoticed. */
const clockSlack = 1_000
/** Milliseconds in which what could not finish is given back. */
const lastWait = 5_000

/**
 * Starts delivering what the outbox owes.
 *
 * One loop leases due deliveries and starts an attempt for each, as many as there is room for; each attempt settles under
 * its own fence. What a crash left in flight is taken over, and all that is owed comes due at once, ramped: an OP that was
 * away may owe users who are still waiting. A delivery whose outcome cannot be written stays leased and is attempted again
 * when its lease runs out: at least once, never lost.
 */
export function startOutbox(parts: OutboxParts): Outbox {
  const { store, runtime, options, log } = parts
  const breakers = createBreakers(() => chance(runtime))
  const budgets = createBudgets(parts)
  const places = createPlaces(options.concurrency)
  const inFlight = createInFlight()
  const bell = alarm(runtime)
  const [stopping, giveUp] = [new AbortController(), new AbortController()]
  const shared = { breakers, budgets, places, stopping: stopping.signal, giveUp: giveUp.signal }
  const attempt = attemptsOf({ ...parts, ...shared })
  // and time to settle and to be late
  const lease = longestAttempt(options) + 20_000
  /** Deliveries that an operator has chosen. */
  const chosen = new Set<string>()
  const failures = saidOnce(log)

  const room = (clientId: string): number =>
    breakers.isOpen(clientId) ? 0 : Math.min(options.concurrencyPerRp - inFlight.at(clientId), budgets.room(clientId))

  async function work(): Promise<void> {
    let isStarted = false
    let seen = runtime.now()
    let sharedSeen = 0
    while (!stopping.signal.aborted) {
      try {
        if (!isStarted) await store.takeOver()
        const shared = (await store.sharedNow?.()) ?? 0
        if (runtime.now() < seen - clockSlack || shared < sharedSeen - clockSlack) startOver()
        else if (!isStarted) inFlight.beside(catchUp)
        isStarted = true
        sharedSeen = shared
        seen = runtime.now()
        const at = seen // one for the turn: a place that comes free between two looks at the clock would be seen by neither
        await tryChosen(at)
        await probe()
        const isAllClaimed = await claim(at)
        const next = await nextTurn(isAllClaimed, at)
        failures.areOver()
        await bell.sleepUntil(Math.min(next, runtime.now() + longestSleep))
      } catch (error) {
        failures.say(error)
        await bell.sleepUntil(runtime.now() + afterFailure)
      }
    }
  }

  /** A clock was set back, ours or that of the store: times that are kept here mean nothing any more, and rows wait for what may be far away. */
  function startOver(): void {
    breakers.startOver(runtime.now())
    budgets.startOver()
    inFlight.beside(catchUp)
  }

  /** Brings forward what waits, beside the claims: a long backlog must not keep what is due already from being sent. */
  async function catchUp(): Promise<void> {
    const ofBacklog = saidOnce(log)
    while (!stopping.signal.aborted) {
      try {
        await store.hasten('all', options.ratePerRp, stopping.signal)
        return bell.ring()
      } catch (error) {
        ofBacklog.say(error)
        await pause(runtime, afterFailure, stopping.signal)
      }
    }
  }

  /** Tries what an operator has chosen, whether its RP is down or not; where it is on a budget, that holds. */
  async function tryChosen(at: number): Promise<void> {
    for (const deliveryId of chosen) {
      if (places.free(at) <= 0) return
      const delivery = await store.claimEarly({ deliveryId }, lease)
      chosen.delete(deliveryId)
      if (delivery) start(delivery)
    }
  }

  /** Tries the RPs that are down with one delivery each. */
  async function probe(): Promise<void> {
    for (const clientId of breakers.takeProbes(runtime.now())) {
      if (inFlight.at(clientId) > 0) continue // it is being asked
      const heldUntil = budgets.heldUntil(clientId)
      if (heldUntil !== undefined) {
        breakers.putOff(clientId, heldUntil)
        continue
      }
      const delivery = await store.claimEarly({ clientId }, lease)
      if (delivery) start(delivery)
      else if (inFlight.at(clientId) === 0 && !(await isOwed(clientId))) breakers.forget(clientId)
    }
  }

  /** True as well while another node has all that the RP is owed in its hands. */
  async function isOwed(clientId: string): Promise<boolean> {
    return (await store.nextDueAt((other) => (other === clientId ? 1 : 0))) !== undefined
  }

  /** Starts as many attempts as there is room for; true when nothing that is due was left. */
  async function claim(at: number): Promise<boolean> {
    const limit = places.free(at)
    if (limit <= 0 || stopping.signal.aborted) return false
    const claimed = await store.claimDue({ limit, lease, room })
    for (const delivery of claimed) start(delivery)
    return claimed.length < limit
  }

  /** When there may be something to do, beside attempts that end: those ring the bell. */
  async function nextTurn(isAllClaimed: boolean, at: number): Promise<number> {
    const now = runtime.now()
    const due = isAllClaimed ? await store.nextDueAt(room) : places.nextFreeAt(at)
    const times = [
      isAllClaimed && due !== undefined ? Math.max(due, now + whileOthersHold) : due,
      chosen.size > 0 ? places.nextFreeAt(at) : undefined,
      breakers.nextProbeAt(now),
      budgets.nextAt(),
    ]
    return Math.min(...times.map((time) => time ?? Number.POSITIVE_INFINITY))
  }

  function start(delivery: ClaimedDelivery): void {
    if (inFlight.has(delivery.id)) {
      inFlight.beside(() => giveBack(delivery))
      return
    }
    const turn = budgets.start(delivery.clientId)
    places.take(delivery)
    inFlight.attempt(delivery, async () => {
      await attempt(delivery, turn)
      turn.end()
      places.leave(delivery)
    })
  }

  /** Its lease ran out while this process stood still, and an attempt of before is still alive: there must not be two. */
  async function giveBack(delivery: ClaimedDelivery): Promise<void> {
    const now = runtime.now()
    const outcome = { state: 'due', retryAt: now + afterFailure, why: 'released' } as const
    try {
      await store.settle(delivery, { dueAt: delivery.wasDueAt, startedAt: now, finishedAt: now, outcome })
      bell.ring()
    } catch (error) {
      failures.say(error)
    }
  }

  /** True when nothing is under way any more; false when that is not so after `ms` milliseconds. */
  async function isIdleWithin(ms: number): Promise<boolean> {
    const early = new AbortController()
    const idle = working.then(() => inFlight.idle()).then(() => true)
    const isIdle = await Promise.race([idle, pause(runtime, ms, early.signal).then(() => false)])
    early.abort()
    return isIdle
  }

  inFlight.onEnd(() => bell.ring())
  const stopListening = store.onWake?.(() => bell.ring())
  const working = work()
  return {
    wake: () => bell.ring(),

    hurry({ deliveryId, clientId } = {}) {
      if (deliveryId === undefined) breakers.probeNow(runtime.now(), clientId)
      else chosen.add(deliveryId)
      bell.ring()
    },

    openBreakers: () => breakers.countOpen(),

    firstAttempts: firstAttemptsOf({
      store,
      runtime,
      log,
      inFlight,
      isWaitedFor: (clientId) => !breakers.isOpen(clientId) && budgets.heldUntil(clientId) === undefined,
    }),

    async stop() {
      stopping.abort()
      stopListening?.()
      bell.ring()
      if (await isIdleWithin(options.stopTimeout * 1000)) return
      giveUp.abort()
      if (await isIdleWithin(lastWait)) return
      log({
        event: 'op_failed',
        task: 'stop',
        message: 'something hangs; what it holds is free when its lease runs out',
      })
    },
  }
}

/** Logs failures of ours, and none a second time while it stays the same. */
function saidOnce(log: OpLog): { say(error: unknown): void; areOver(): void } {
  let last: string | undefined
  return {
    say(error) {
      const message = messageOf(error)
      if (message !== last) log({ event: 'op_failed', task: 'outbox', message })
      last = message
    },
    areOver() {
      last = undefined
    },
  }
}
