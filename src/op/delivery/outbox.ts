import { alarm, pause } from '../../runtime/alarm.ts'
import { messageOf } from '../../runtime/message-of.ts'
import type { Runtime } from '../../runtime/runtime.ts'
import { type Attempt, type BackchannelReceiver, deliverLogoutToken } from '../backchannel.ts'
import type { OpLog } from '../log.ts'
import { createGiveUp, isHeldBack } from '../overdue.ts'
import type { AttemptOutcome, AttemptRecord, ClaimedDelivery, OpIssuerStore } from '../store/contract.ts'
import type { BackchannelOptions } from './backchannel-options.ts'
import { createBreakers, type Trouble } from './breaker.ts'
import { createBudgets } from './budgets.ts'
import type { Tell } from './events.ts'
import { attemptMeasure } from './measure-attempt.ts'
import { createPlaces } from './places.ts'
import { attemptReporter } from './report-attempt.ts'
import type { Telemetry } from './telemetry.ts'
import { troubleWatch } from './trouble.ts'

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
  /** Deliveries came due by an operator's hand: looks for them, and asks the RP (or all) that is down at once whether it is back. */
  hurry(clientId?: string): void
  /** How many RPs count as down. */
  openBreakers(): number
  /** Resolves when each RP of a logout has been tried once (those known to be down aside), or after `ms` milliseconds. */
  firstAttempts(logoutId: string, ms: number): Promise<void>
  /** Takes no more deliveries, waits a bounded time for attempts under way, and gives the rest back. */
  stop(): Promise<void>
}

/** Milliseconds after which the store is asked again although nothing was to be due: clocks jump. */
const longestSleep = 60_000
/** Milliseconds between two looks at deliveries of which other nodes may have taken some. */
const lookAgain = 50
/** Milliseconds until the store is asked again after it failed. */
const afterFailure = 1_000

/**
 * Starts delivering what the outbox owes.
 *
 * One loop leases due deliveries and starts an attempt for each, as many as there is room for; each attempt settles under
 * its own fence. What a crash left in flight is taken over, and all that is owed comes due at once, ramped: an OP that was
 * away may owe users who are still waiting. A delivery whose outcome cannot be written stays leased and is attempted again
 * when its lease runs out: at least once, never lost.
 */
export function startOutbox(parts: OutboxParts): Outbox {
  const { store, runtime, options, log, tell = () => {} } = parts
  const breakers = createBreakers()
  const budgets = createBudgets(parts)
  const report = attemptReporter(log, tell)
  const measure = attemptMeasure(store, parts.telemetry)
  const watch = troubleWatch({ store, runtime, log, tell })
  const inFlight = new Set<Promise<void>>()
  const places = createPlaces(options.concurrency)
  const perRp = new Map<string, number>()
  const attempted = new Set<(deliveryId: string) => void>()
  const bell = alarm(runtime)
  const giveUp = new AbortController()
  // two tries of `timeout` at most, and time to sign, to settle and to be late
  const lease = 2 * options.timeout * 1000 + 20_000
  let stopping = false
  const giveUpOverdue = createGiveUp({ store, log, tell }, () => stopping)

  const room = (clientId: string): number =>
    breakers.isOpen(clientId)
      ? 0
      : Math.min(options.concurrencyPerRp - (perRp.get(clientId) ?? 0), budgets.room(clientId))

  async function work(): Promise<void> {
    let isStarted = false
    let lastFailure: string | undefined
    while (!stopping) {
      try {
        if (!isStarted) {
          await store.takeOver()
          isStarted = true
          inBackground(catchUp())
        }
        await probe()
        const isAllClaimed = await claim()
        const next = await nextTurn(isAllClaimed)
        lastFailure = undefined
        await bell.sleepUntil(Math.min(next, runtime.now() + longestSleep))
      } catch (error) {
        const message = messageOf(error)
        if (message !== lastFailure) log({ event: 'op_failed', task: 'outbox', message })
        lastFailure = message
        await bell.sleepUntil(runtime.now() + afterFailure)
      }
    }
  }

  /** Brings forward what waits, beside the claims: a long backlog must not keep what is due already from being sent. */
  async function catchUp(): Promise<void> {
    let lastFailure: string | undefined
    while (!stopping) {
      try {
        await store.hasten('all', options.ratePerRp)
        return bell.ring()
      } catch (error) {
        const message = messageOf(error)
        if (message !== lastFailure) log({ event: 'op_failed', task: 'outbox', message })
        lastFailure = message
        await pause(runtime, afterFailure, giveUp.signal)
      }
    }
  }

  function inBackground(work: Promise<void>): void {
    const done = work.finally(() => inFlight.delete(done))
    inFlight.add(done)
  }

  /** Tries the RPs that are down with one delivery each. */
  async function probe(): Promise<void> {
    for (const clientId of breakers.takeProbes(runtime.now())) {
      if (perRp.has(clientId)) continue // it is being asked
      const heldUntil = budgets.heldUntil(clientId)
      if (heldUntil !== undefined) {
        breakers.putOff(clientId, heldUntil)
        continue
      }
      const delivery = await store.claimEarly({ clientId }, lease)
      if (delivery) start(delivery)
      else if (!perRp.has(clientId)) breakers.forget(clientId)
    }
  }

  /** Starts as many attempts as there is room for; true when nothing that is due was left. */
  async function claim(): Promise<boolean> {
    const limit = places.free(runtime.now())
    if (limit <= 0 || stopping) return false
    const claimed = await store.claimDue({ limit, lease, room })
    for (const delivery of claimed) start(delivery)
    return claimed.length < limit
  }

  /** When there may be something to do, beside attempts that end: those ring the bell. */
  async function nextTurn(isAllClaimed: boolean): Promise<number> {
    const due = isAllClaimed ? await store.nextDueAt(room) : places.nextFreeAt(runtime.now())
    const times = [due, breakers.nextProbeAt(), budgets.nextAt()]
    return Math.min(...times.map((time) => time ?? Number.POSITIVE_INFINITY))
  }

  function start(delivery: ClaimedDelivery): void {
    const { id, clientId } = delivery
    budgets.started(clientId)
    places.take(delivery)
    perRp.set(clientId, (perRp.get(clientId) ?? 0) + 1)
    const done = guard('attempt', clientId, () => attempt(delivery)).finally(() => {
      inFlight.delete(done)
      places.leave(delivery)
      const left = (perRp.get(clientId) ?? 1) - 1
      if (left > 0) perRp.set(clientId, left)
      else perRp.delete(clientId)
      for (const tell of attempted) tell(id)
      bell.ring()
    })
    inFlight.add(done)
  }

  async function attempt(delivery: ClaimedDelivery): Promise<void> {
    const { clientId } = delivery
    const startedAt = runtime.now()
    const measured = measure(delivery, startedAt)
    const watched = { ...parts, budgets, runtime: places.watched(runtime, delivery) }
    const made = await deliverLogoutToken(delivery, watched, giveUp.signal, measured.traceparent)
    const finishedAt = runtime.now()
    const isBack = learn(delivery, made)
    let isWritten = false
    await guard('settle', clientId, async () => {
      isWritten = await store.settle(delivery, recordOf(delivery, made, { startedAt, finishedAt }))
      if (isWritten) report(delivery, made)
    })
    await guard('measure', clientId, () => measured.end(made, finishedAt, isWritten))
    await guard('trouble', clientId, () => watch(clientId, made.outcome))
    if (isHeldBack(made, breakers.isOpen(clientId))) {
      await guard('give_up', clientId, () => giveUpOverdue(clientId, finishedAt - options.horizon * 1000))
    }
    await guard('hasten', clientId, async () => {
      if (await isFree(delivery, made, isBack)) await store.hasten({ clientId }, options.ratePerRp)
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

  /** A store that fails must not stop the loop: the lease runs out, and the delivery comes again. */
  async function guard(task: string, clientId: string, work: () => Promise<unknown>): Promise<void> {
    try {
      await work()
    } catch (error) {
      log({ event: 'op_failed', task, clientId, message: messageOf(error) })
    }
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

  /** Another node may have made an attempt and has no way to tell: only its row shows it. */
  async function takeOutWhatOthersTried(waiting: Set<string>, logoutId: string): Promise<void> {
    const found = await store.getLogout(logoutId)
    for (const { id, attempts } of found?.deliveries ?? []) if (attempts > 0) waiting.delete(id)
  }

  const stopListening = store.onWake?.(() => bell.ring())
  const working = work()
  return {
    wake: () => bell.ring(),

    hurry(clientId) {
      breakers.probeNow(runtime.now(), clientId)
      bell.ring()
    },

    openBreakers: () => breakers.countOpen(),

    async firstAttempts(logoutId, ms) {
      const until = new AbortController()
      const seen = new Set<string>()
      let waiting: Set<string> | undefined
      const tell = (deliveryId: string): void => {
        seen.add(deliveryId)
        waiting?.delete(deliveryId)
        if (waiting?.size === 0) until.abort()
      }
      attempted.add(tell)
      try {
        const found = await store.getLogout(logoutId)
        const first = found?.deliveries.filter(
          ({ id, attempts, clientId }) =>
            attempts === 0 && !seen.has(id) && !breakers.isOpen(clientId) && !budgets.heldUntil(clientId),
        )
        waiting = new Set(first?.map(({ id }) => id))
        const end = runtime.now() + ms
        for (let left = ms; waiting.size > 0 && left > 0; left = end - runtime.now()) {
          await pause(runtime, store.onWake ? Math.min(left, lookAgain) : left, until.signal)
          if (!store.onWake || until.signal.aborted) break
          await takeOutWhatOthersTried(waiting, logoutId)
        }
      } catch (error) {
        // the logout is committed: that nobody can tell how far it is must not look like a failure
        log({ event: 'op_failed', task: 'first_attempts', message: messageOf(error) })
      } finally {
        attempted.delete(tell)
      }
    },

    async stop() {
      stopping = true
      stopListening?.()
      bell.ring()
      await working
      const all = Promise.all(inFlight)
      const early = new AbortController()
      await Promise.race([all.finally(() => early.abort()), pause(runtime, options.stopTimeout * 1000, early.signal)])
      giveUp.abort()
      await all
    },
  }
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
  if (outcome.state === 'delivered' || outcome.state === 'refused') return 'well'
  if (outcome.state === 'dead') return outcome.why === 'horizon' ? 'silent' : 'unknown'
  switch (outcome.why) {
    case 'refusal':
      return 'well'
    case 'network':
      return 'silent'
    case 'timeout':
      return 'overloaded'
    case 'status':
      return overloaded.has(outcome.status) ? 'overloaded' : 'error'
    default:
      return 'unknown'
  }
}
