import { channel } from 'node:diagnostics_channel'
import { type ContextManager, context, metrics, ROOT_CONTEXT, trace } from '@opentelemetry/api'
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks'
import { type Histogram, MeterProvider, MetricReader } from '@opentelemetry/sdk-metrics'
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  type ReadableSpan,
  SimpleSpanProcessor,
  type SpanProcessor,
} from '@opentelemetry/sdk-trace-base'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { OpLogEvent } from '../../src/op/log.ts'
import { logIn } from '../support/op-flow.ts'
import { type RpSite, startRpSite } from '../support/rp-site.ts'
import { startTestOp, type TestOp } from '../support/test-op.ts'
import { createUserAgent, type UserAgent } from '../support/user-agent.ts'

// The real SDK of OpenTelemetry, a real OP, real RPs.

class OnDemand extends MetricReader {
  protected override async onForceFlush(): Promise<void> {}
  protected override async onShutdown(): Promise<void> {}
}

const exporter = new InMemorySpanExporter()
let reader: OnDemand
let rps: RpSite
let browser: UserAgent
let op: TestOp
const opened: { close(): Promise<unknown> }[] = []

beforeAll(() => {
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable())
  trace.setGlobalTracerProvider(new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] }))
})
afterAll(() => {
  trace.disable()
  context.disable()
})
beforeEach(async () => {
  exporter.reset()
  rps = await startRpSite()
  browser = createUserAgent()
  opened.push(rps, browser)
})
afterEach(async () => {
  for (const each of opened.splice(0).reverse()) await each.close()
  metrics.disable()
})

function measure(): void {
  reader = new OnDemand()
  metrics.setGlobalMeterProvider(new MeterProvider({ readers: [reader] }))
}

async function start(...apps: ReturnType<RpSite['client']>[]): Promise<void> {
  op = await startTestOp({ clients: apps })
  opened.push(op)
  await op.provider.ready()
  for (const app of apps) await logIn(browser, op, app)
}

interface Point {
  readonly attributes: Readonly<Record<string, unknown>>
  readonly value: unknown
}

async function points(name: string): Promise<Point[]> {
  const { resourceMetrics, errors } = await reader.collect()
  expect(errors).toEqual([])
  return resourceMetrics.scopeMetrics
    .flatMap(({ metrics }) => metrics)
    .filter(({ descriptor }) => descriptor.name === name)
    .flatMap(({ dataPoints }) => dataPoints.map(({ attributes, value }) => ({ attributes, value })))
}

async function valuesOf(name: string, label?: string): Promise<Record<string, unknown>> {
  const found = await points(name)
  return Object.fromEntries(found.map(({ attributes, value }) => [String(attributes[label ?? 'issuer']), value]))
}

const endEverything = async (cause: 'admin' | 'password_change' = 'admin'): Promise<string> => {
  const { sessions } = await op.provider.opSessions.list('everyone')
  return (await op.provider.opSessions.end(sessions[0]?.uid ?? '', { cause })) ?? expect.unreachable()
}

const settled = (logoutId: string) =>
  expect.poll(async () => {
    const { deliveries } = await op.provider.deliveries.list({ logoutId })
    return deliveries.map(({ clientId, state }) => `${clientId} ${state}`).sort()
  })

describe('metrics', () => {
  it('count logouts by cause and attempts by outcome, and time attempts and the whole logout', async () => {
    measure()
    await start(rps.client('notes'), rps.client('mail'))
    const logoutId = await endEverything('password_change')
    await settled(logoutId).toEqual(['mail delivered', 'notes delivered'])
    expect(await valuesOf('lockstep.logouts', 'cause')).toEqual({ password_change: 1 })
    expect(await valuesOf('lockstep.delivery.attempts', 'outcome')).toEqual({ delivered: 2 })
    const [duration] = await points('lockstep.delivery.duration')
    expect(duration?.attributes).toEqual({ issuer: op.issuer, outcome: 'delivered' })
    expect(duration?.value).toMatchObject({ count: 2 })
    await expect.poll(() => points('lockstep.logout.propagation')).toHaveLength(1)
    const [propagation] = await points('lockstep.logout.propagation')
    const { count, sum = Number.NaN } = (propagation ?? expect.unreachable()).value as Histogram
    const { deliveries } = await op.provider.deliveries.list({ logoutId })
    const last = Math.max(...deliveries.map(({ finalAt = 0 }) => finalAt))
    expect(count).toBe(1)
    expect(sum).toBeCloseTo((last - (deliveries[0]?.plannedAt ?? 0)) / 1000, 6)
  })

  it('gauge the outbox while an RP does not answer well, and say no propagation before it has', async () => {
    measure()
    rps.answer('mail', (response) => response.writeHead(503).end())
    await start(rps.client('notes'), rps.client('mail'))
    const logoutId = await endEverything()
    await settled(logoutId).toEqual(['mail due', 'notes delivered'])
    expect(await valuesOf('lockstep.outbox.rows', 'state')).toEqual({ due: 1, 'in-flight': 0, refused: 0, dead: 0 })
    expect(await valuesOf('lockstep.outbox.oldest_due')).toEqual({ [op.issuer]: expect.any(Number) })
    expect(await valuesOf('lockstep.delivery.attempts', 'outcome')).toMatchObject({ delivered: 1, status: 1 })
    expect(await points('lockstep.logout.propagation')).toEqual([])
    await expect.poll(() => valuesOf('lockstep.breaker.open'), { timeout: 30_000 }).toEqual({ [op.issuer]: 1 })
    await op.provider.deliveries.drop({ logoutId }, { actor: 'eve' })
    await expect
      .poll(() => valuesOf('lockstep.outbox.rows', 'state'))
      .toEqual({ due: 0, 'in-flight': 0, refused: 0, dead: 0 })
  })

  it('have labels of few values: no client, no account, no sid', async () => {
    measure()
    await start(rps.client('notes'), rps.client('mail'))
    const logoutId = await endEverything()
    await settled(logoutId).toEqual(['mail delivered', 'notes delivered'])
    const { resourceMetrics } = await reader.collect()
    const found = resourceMetrics.scopeMetrics.flatMap((scope) => scope.metrics)
    expect(found.map(({ descriptor }) => descriptor.name).sort()).toEqual([
      'lockstep.breaker.open',
      'lockstep.delivery.attempts',
      'lockstep.delivery.duration',
      'lockstep.logout.propagation',
      'lockstep.logouts',
      'lockstep.outbox.oldest_due',
      'lockstep.outbox.rows',
    ])
    const labels = new Set(
      found.flatMap(({ dataPoints }) => dataPoints.flatMap((point) => Object.keys(point.attributes))),
    )
    expect([...labels].sort()).toEqual(['cause', 'issuer', 'outcome', 'state'])
  })

  it('go to an SDK that is registered after the OP was made, and end with the OP', async () => {
    await start(rps.client('notes'))
    measure()
    await settled(await endEverything()).toEqual(['notes delivered'])
    expect(await valuesOf('lockstep.logouts', 'cause')).toEqual({ admin: 1 })
    expect(await valuesOf('lockstep.breaker.open')).toEqual({ [op.issuer]: 0 })
    await opened.pop()?.close() // with its store, which nobody must ask any more
    expect((await reader.collect()).errors).toEqual([])
  })
})

/** Waits for as many spans of attempts. */
async function spans(attempts: number): Promise<{ logout: ReadableSpan; posts: ReadableSpan[] }> {
  const named = (name: string) => exporter.getFinishedSpans().filter((span) => span.name === name)
  await expect.poll(() => named('lockstep.delivery')).toHaveLength(attempts)
  const [logout] = named('lockstep.logout')
  return { logout: logout ?? expect.unreachable(), posts: named('lockstep.delivery') }
}

describe('traces', () => {
  it('of POSTs are their own, linked to the logout inside, and told to first-party RPs only [T13]', async () => {
    const chat = rps.client('chat', { lockstep_first_party: true })
    await start(rps.client('notes', { lockstep_first_party: true }), rps.client('mail'), chat)
    await endEverything()
    await rps.received(3)
    const { logout, posts } = await spans(3)
    const { traceId, spanId } = logout.spanContext()
    for (const post of posts) {
      expect(post.links.map((link) => link.context)).toMatchObject([{ traceId, spanId }])
      expect(post.parentSpanContext).toBeUndefined()
    }
    expect(new Set([traceId, ...posts.map((post) => post.spanContext().traceId)]).size).toBe(4)
    for (const { app, traceparent } of rps.logouts) {
      const post = posts.find(({ attributes }) => attributes['lockstep.client_id'] === app)
      const own = `00-${post?.spanContext().traceId}-${post?.spanContext().spanId}-01`
      expect([app, traceparent]).toEqual([app, app === 'mail' ? undefined : own])
    }
  })

  it('say how each attempt went, with the delivery id of lists and logs, and nothing of who it was', async () => {
    rps.answer('notes', (response) => response.writeHead(rps.logouts.length < 2 ? 503 : 200).end())
    await start(rps.client('notes'))
    const logoutId = await endEverything()
    await spans(1)
    expect((await op.provider.deliveries.retry({ logoutId })).count).toBe(1)
    const { logout, posts } = await spans(2)
    const [delivery] = (await op.provider.deliveries.list({ logoutId })).deliveries
    expect(posts.map(({ attributes }) => attributes)).toEqual([
      {
        'lockstep.delivery.id': delivery?.deliveryId,
        'lockstep.logout.id': logoutId,
        'lockstep.client_id': 'notes',
        'lockstep.delivery.attempt': 1,
        'lockstep.delivery.outcome': 'status',
        'http.response.status_code': 503,
      },
      expect.objectContaining({ 'lockstep.delivery.attempt': 2, 'lockstep.delivery.outcome': 'delivered' }),
    ])
    for (const { events } of posts) expect(events.map(({ name }) => name)).toEqual(['connected', 'answered'])
    expect(logout.attributes).toEqual({ 'lockstep.logout.cause': 'admin' })
    const text = JSON.stringify([logout, ...posts].map(({ attributes, events }) => [attributes, events]))
    expect(text).not.toContain('ada')
  })

  it('of a logout are a part of what was active where it happened', async () => {
    await start(rps.client('notes'))
    const request = trace.getTracer('test').startSpan('a request')
    await context.with(trace.setSpan(context.active(), request), () => endEverything())
    const { logout } = await spans(1)
    expect(logout.parentSpanContext?.spanId).toBe(request.spanContext().spanId)
    request.end()
  })

  it('are not told to an RP by an instrumentation of the HTTP client either [T13]', async () => {
    let asked = 0
    const instrument = (message: unknown): void => {
      const { request } = message as { request: { addHeader(name: string, value: string): void } }
      asked += 1
      const { traceId, spanId } = trace.getTracer('instrumentation').startSpan('POST').spanContext()
      if (!/^0+$/.test(traceId)) request.addHeader('traceparent', `00-${traceId}-${spanId}-01`)
    }
    const created = channel('undici:request:create')
    await start(rps.client('notes'), rps.client('mail', { lockstep_first_party: true }))
    created.subscribe(instrument)
    try {
      await fetch(rps.client('probe').backchannel_logout_uri as string, { method: 'POST' })
      expect(rps.logouts[0]?.traceparent).toBeDefined() // it does reach what is not ours
      await endEverything()
      await rps.received(3)
    } finally {
      created.unsubscribe(instrument)
    }
    expect(asked).toBe(3)
    const { posts } = await spans(2)
    const mail = posts.find(({ attributes }) => attributes['lockstep.client_id'] === 'mail')?.spanContext()
    const told = Object.fromEntries(rps.logouts.map(({ app, traceparent }) => [app, traceparent]))
    expect(told.notes).toBeUndefined()
    expect(told.mail).toBe(`00-${mail?.traceId}-${mail?.spanId}-01`)
  })
})

describe('an SDK that throws', () => {
  const fail = (): never => {
    throw new Error('the exporter is broken')
  }
  const broken = [
    [
      'when a span starts',
      () => trace.setGlobalTracerProvider({ getTracer: () => ({ startSpan: fail, startActiveSpan: fail }) }),
    ],
    [
      'when a span ends',
      () => {
        const onEnd: SpanProcessor = {
          onStart: () => {},
          onEnd: fail,
          forceFlush: async () => {},
          shutdown: async () => {},
        }
        trace.setGlobalTracerProvider(new BasicTracerProvider({ spanProcessors: [onEnd] }))
      },
    ],
    ['when something is measured', () => metrics.setGlobalMeterProvider({ getMeter: fail })],
    ['when a context is entered', () => context.setGlobalContextManager(brokenContexts)],
  ] as const
  const brokenContexts: ContextManager = {
    active: () => ROOT_CONTEXT,
    with: fail,
    bind: (_, target) => target,
    enable: () => brokenContexts,
    disable: () => brokenContexts,
  }
  afterEach(() => {
    trace.disable()
    context.disable()
    context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable())
    trace.setGlobalTracerProvider(new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] }))
  })

  it.each(broken)('%s stops no logout and no delivery, and that is said once', async (_, breakIt) => {
    const log: OpLogEvent[] = []
    op = await startTestOp({ clients: [rps.client('notes')], options: { log: (event) => log.push(event) } })
    opened.push(op)
    await op.provider.ready()
    for (let i = 0; i < 2; i++) await logIn(browser, op, rps.client('notes'))
    trace.disable()
    context.disable()
    breakIt()
    const logoutId = await endEverything()
    await settled(logoutId).toEqual(['notes delivered'])
    const [delivery] = (await op.provider.deliveries.list({ logoutId })).deliveries
    expect(delivery?.attempts).toBe(1)
    expect(rps.logouts).toHaveLength(1)
    expect(log.filter(({ event }) => event === 'op_failed')).toEqual([
      { event: 'op_failed', task: 'telemetry', message: 'the exporter is broken' },
    ])
  })
})
