import { messageOf } from '../../runtime/message-of.ts'
import { loadOpenTelemetry } from '../../runtime/opentelemetry.ts'
import type { OpLog } from '../log.ts'
import type { EndCause } from '../store/contract.ts'
import { harmlessly, harmlessMetrics, harmlessTraces } from './harmless.ts'
import { type Metrics, metricsOf, type OutboxReading } from './metrics.ts'
import { type Traces, tracesOf } from './traces.ts'

/** What the OP tells OpenTelemetry; where that is not installed, nobody. What an SDK throws reaches nobody but the log. */
export interface Telemetry {
  /** Resolves when it is known whether OpenTelemetry is there. */
  readonly ready: Promise<void>
  readonly metrics: Metrics | undefined
  readonly traces: Traces | undefined
  /** Runs what ends OP sessions, in a span, and counts them; `trace` is to be kept with the facts. */
  logouts<Result>(
    cause: EndCause,
    work: (trace: { readonly trace?: string }) => Promise<Result>,
    count: (result: Result) => number,
  ): Promise<Result>
  /** Runs what sends requests to RPs: no trace id goes with them but ours (T13). */
  untraced<Result>(work: () => Result): Result
  close(): void
}

/** Nobody measures. */
export const noTelemetry: Pick<Telemetry, 'logouts'> = { logouts: (_cause, work) => work({}) }

/** Opens the way to OpenTelemetry. Its API is an optional peer dependency, looked for once. */
export function openTelemetry(issuer: string, log: OpLog, read: () => Promise<OutboxReading>): Telemetry {
  let metrics: Metrics | undefined
  let traces: Traces | undefined
  let isClosed = false
  const harmless = harmlessly(log)

  async function load(): Promise<void> {
    try {
      const api = await loadOpenTelemetry()
      if (!api || isClosed) return
      traces = harmlessTraces(tracesOf(api), harmless)
      metrics = harmlessMetrics(metricsOf(api, issuer, read), harmless)
    } catch (error) {
      log({ event: 'op_failed', task: 'telemetry', message: messageOf(error) })
    }
  }

  return {
    ready: load(),
    get metrics() {
      return metrics
    },
    get traces() {
      return traces
    },
    async logouts(cause, work, count) {
      const span = traces?.logout(cause)
      let isFailed = true
      try {
        const result = await work(span?.trace === undefined ? {} : { trace: span.trace })
        isFailed = false
        const ended = count(result)
        if (ended > 0) metrics?.logouts(cause, ended)
        return result
      } finally {
        span?.end(isFailed)
      }
    },
    untraced: (work) => (traces ? traces.untraced(work) : work()),
    close() {
      isClosed = true
      metrics?.close()
    },
  }
}
