import type { Context, Link, Span, SpanContext } from '@opentelemetry/api'
import type { OpenTelemetry } from '../../runtime/opentelemetry.ts'
import type { Attempt } from '../backchannel.ts'
import type { ClaimedDelivery, EndCause } from '../store/contract.ts'

/** The span of one attempt. */
export interface AttemptSpan {
  /** What a first-party RP may be told, and no other. */
  readonly traceparent?: string
  end(attempt: Attempt, finishedAt: number): void
}

/** The span in which OP sessions end. */
export interface LogoutSpan {
  /** Names it, to be kept with the facts. */
  readonly trace?: string
  end(isFailed: boolean): void
}

/** The spans of an OP. */
export interface Traces {
  /** Begins the span in which OP sessions end. */
  logout(cause: EndCause): LogoutSpan
  /** Begins the span of an attempt, the first of a trace of its own. */
  attempt(delivery: ClaimedDelivery, startedAt: number): AttemptSpan
  /** Runs what sends requests to RPs so that no instrumentation of the HTTP client adds a trace id to them (T13). */
  untraced<Result>(work: () => Result): Result
}

/** The name under which OpenTelemetry's SDK and its instrumentations look whether to stay silent. */
const suppressed = 'OpenTelemetry SDK Context Key SUPPRESS_TRACING'

/**
 * Makes the spans of an OP. A logout's span is a child of what is active where it happens; each POST's is the root of a trace
 * of its own, so that what one RP is told links it to no other, and has a link to the logout's: from here inside, the two are found
 * together (T13). Times are epoch milliseconds.
 */
export function tracesOf(api: OpenTelemetry): Traces {
  const tracer = () => api.trace.getTracer('lockstep')
  const silent = (context: Context): Context => context.setValue(api.createContextKey(suppressed), true)
  return {
    logout(cause) {
      const span = tracer().startSpan('lockstep.logout', { attributes: { 'lockstep.logout.cause': cause } })
      const trace = traceparentOf(api, span)
      return {
        ...(trace !== undefined && { trace }),
        end(isFailed) {
          if (isFailed) span.setStatus({ code: api.SpanStatusCode.ERROR })
          span.end()
        },
      }
    },

    attempt({ id, logout, clientId, attempts }, startedAt) {
      const span = tracer().startSpan('lockstep.delivery', {
        root: true,
        kind: api.SpanKind.CLIENT,
        startTime: startedAt,
        links: linksTo(logout.trace),
        attributes: {
          'lockstep.delivery.id': id,
          'lockstep.logout.id': logout.id,
          'lockstep.client_id': clientId,
          'lockstep.delivery.attempt': attempts + 1,
        },
      })
      const traceparent = traceparentOf(api, span)
      return {
        ...(traceparent !== undefined && { traceparent }),
        end({ outcome, connectedAt, answeredAt }, finishedAt) {
          if (connectedAt !== undefined) span.addEvent('connected', connectedAt)
          if (answeredAt !== undefined) span.addEvent('answered', answeredAt)
          const why = outcome.state === 'due' ? outcome.why : outcome.state
          span.setAttribute('lockstep.delivery.outcome', why)
          if ('status' in outcome && outcome.status !== undefined) {
            span.setAttribute('http.response.status_code', outcome.status)
          }
          if (outcome.state !== 'delivered') span.setStatus({ code: api.SpanStatusCode.ERROR })
          span.end(finishedAt)
        },
      }
    },

    untraced: (work) => api.context.with(silent(api.context.active()), work),
  }
}

/** A span as a `traceparent` (W3C Trace Context §3.2.2); of a span that nobody records there is none. */
function traceparentOf({ isSpanContextValid }: OpenTelemetry, span: Span): string | undefined {
  const { traceId, spanId, traceFlags } = span.spanContext()
  if (!isSpanContextValid({ traceId, spanId, traceFlags })) return undefined
  return `00-${traceId}-${spanId}-${(traceFlags & 1) === 1 ? '01' : '00'}`
}

function linksTo(trace: string | undefined): Link[] {
  const [, traceId, spanId, flags] = /^00-([\da-f]{32})-([\da-f]{16})-(0[01])$/.exec(trace ?? '') ?? []
  if (traceId === undefined || spanId === undefined) return []
  const context: SpanContext = { traceId, spanId, traceFlags: Number(flags) }
  return [{ context }]
}
