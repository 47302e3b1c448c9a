import { messageOf } from '../../runtime/message-of.ts'
import type { OpLog } from '../log.ts'
import type { Metrics } from './metrics.ts'
import type { Traces } from './traces.ts'

/** Runs a call into an SDK; when that throws, the answer is `otherwise`. */
export type Harmless = <Result>(call: () => Result, otherwise: Result) => Result

/** Makes a {@link Harmless} that says once what it caught: an exporter that is broken must stop no logout and lose no outcome. */
export function harmlessly(log: OpLog): Harmless {
  let isSaid = false
  return (call, otherwise) => {
    try {
      return call()
    } catch (error) {
      if (!isSaid) log({ event: 'op_failed', task: 'telemetry', message: messageOf(error) })
      isSaid = true
      return otherwise
    }
  }
}

/** The same instruments, which never throw. */
export function harmlessMetrics(metrics: Metrics, harmless: Harmless): Metrics {
  return {
    logouts: (...of) => harmless(() => metrics.logouts(...of), undefined),
    attempt: (...of) => harmless(() => metrics.attempt(...of), undefined),
    propagation: (...of) => harmless(() => metrics.propagation(...of), undefined),
    isOn: () => harmless(() => metrics.isOn(), false),
    close: () => harmless(() => metrics.close(), undefined),
  }
}

/** The same spans, which never throw. */
export function harmlessTraces(traces: Traces, harmless: Harmless): Traces {
  return {
    logout(cause) {
      const span = harmless(() => traces.logout(cause), undefined)
      return { ...span, end: (...of) => harmless(() => span?.end(...of), undefined) }
    },
    attempt(...of) {
      const span = harmless(() => traces.attempt(...of), undefined)
      return { ...span, end: (...ended) => harmless(() => span?.end(...ended), undefined) }
    },
    untraced(work) {
      let begun: { readonly result: ReturnType<typeof work> } | undefined
      const begin = (): void => {
        begun = { result: work() }
      }
      harmless(() => traces.untraced(begin), undefined)
      return (begun ?? { result: work() }).result
    },
  }
}
