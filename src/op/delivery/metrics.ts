import type { BatchObservableResult, Counter, Histogram, Meter } from '@opentelemetry/api'
import type { OpenTelemetry } from '../../runtime/opentelemetry.ts'
import type { AttemptOutcome, EndCause, OpIssuerStore, OutboxCounts } from '../store/contract.ts'

/** What the gauges read when they are asked. */
export interface OutboxReading {
  readonly rows: OutboxCounts
  /** Seconds for which the delivery that is due longest has been due; 0 when none is. */
  readonly oldestDue: number
  readonly openBreakers: number
}

/** Deliveries of a state that are counted at most: what that costs must not grow with the backlog. */
const mostCounted = 100_000

/** Reads the outbox at a time (epoch milliseconds). */
export async function readOutbox(
  store: Pick<OpIssuerStore, 'countDeliveries' | 'nextDueAt'>,
  now: number,
  openBreakers: number,
): Promise<OutboxReading> {
  const rows = await store.countDeliveries(mostCounted)
  const dueAt = (await store.nextDueAt()) ?? now
  return { rows, oldestDue: Math.max(now - dueAt, 0) / 1000, openBreakers }
}

/** The instruments of an OP. */
export interface Metrics {
  logouts(cause: EndCause, count: number): void
  attempt(outcome: AttemptOutcome, seconds: number): void
  propagation(seconds: number): void
  /** True when somebody measures. */
  isOn(): boolean
  close(): void
}

interface Instruments {
  readonly meter: Meter
  readonly logouts: Counter
  readonly attempts: Counter
  readonly duration: Histogram
  readonly propagation: Histogram
  close(): void
}

/** Seconds: an RP's answer, and what a user waits until every app has confirmed, which may be a weekend. */
const answers = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]
const confirmations = [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 300, 1800, 3600, 14_400, 86_400, 259_200]

/**
 * Makes the instruments, of whatever MeterProvider the application has registered at the time. Their attributes have few
 * values: the issuer, a cause, an outcome, a state; never a client, an account or a `sid`.
 */
export function metricsOf(api: OpenTelemetry, issuer: string, read: () => Promise<OutboxReading>): Metrics {
  let provider: unknown
  let made: Instruments | undefined

  /** Those of the present provider: an SDK may be registered after the OP was made. */
  function instruments(): Instruments {
    const present = api.metrics.getMeterProvider()
    if (made && present === provider) return made
    made?.close()
    provider = present
    made = create(api.metrics.getMeter('lockstep'), issuer, read)
    return made
  }

  instruments()
  return {
    logouts: (cause, count) => instruments().logouts.add(count, { issuer, cause }),
    attempt(outcome, seconds) {
      const { attempts, duration } = instruments()
      const attributes = { issuer, outcome: outcome.state === 'due' ? outcome.why : outcome.state }
      attempts.add(1, attributes)
      duration.record(seconds, attributes)
    },
    propagation: (seconds) => instruments().propagation.record(seconds, { issuer }),
    isOn: () => instruments().meter !== api.createNoopMeter(),
    close: () => made?.close(),
  }
}

function create(meter: Meter, issuer: string, read: () => Promise<OutboxReading>): Instruments {
  const rows = meter.createObservableGauge('lockstep.outbox.rows', {
    description: 'Deliveries by state, each counted up to 100,000; without those that were delivered or dropped.',
  })
  const oldestDue = meter.createObservableGauge('lockstep.outbox.oldest_due', {
    unit: 's',
    description: 'How long the delivery that is due longest has been due.',
  })
  const openBreakers = meter.createObservableGauge('lockstep.breaker.open', {
    description: 'RPs that this node takes for down.',
  })
  const observed = [rows, oldestDue, openBreakers]
  const observe = async (result: BatchObservableResult): Promise<void> => {
    const reading = await read()
    for (const [state, count] of Object.entries(reading.rows)) result.observe(rows, count, { issuer, state })
    result.observe(oldestDue, reading.oldestDue, { issuer })
    result.observe(openBreakers, reading.openBreakers, { issuer })
  }
  meter.addBatchObservableCallback(observe, observed)
  return {
    meter,
    logouts: meter.createCounter('lockstep.logouts', { description: 'OP sessions that ended, by cause.' }),
    attempts: meter.createCounter('lockstep.delivery.attempts', {
      description: 'Attempts at telling an RP, by outcome.',
    }),
    duration: meter.createHistogram('lockstep.delivery.duration', {
      unit: 's',
      description: 'From the start of an attempt to its outcome.',
      advice: { explicitBucketBoundaries: answers },
    }),
    propagation: meter.createHistogram('lockstep.logout.propagation', {
      unit: 's',
      description: 'From the commit of a logout to the confirmation of the last RP.',
      advice: { explicitBucketBoundaries: confirmations },
    }),
    close: () => meter.removeBatchObservableCallback(observe, observed),
  }
}
