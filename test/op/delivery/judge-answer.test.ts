import { describe, expect, it } from 'vitest'
import { type AttemptContext, judgeAnswer, judgeFailure, waitAskedFor } from '../../../src/op/delivery/judge-answer.ts'
import { hour, minute, second } from '../../../src/runtime/milliseconds.ts'

const now = Date.parse('2026-11-22T12:00:00Z')

const context = (over: Partial<AttemptContext> = {}): AttemptContext => ({
  now,
  createdAt: now,
  attempts: 0,
  refusals: 0,
  horizon: 72 * hour,
  chance: 0,
  ...over,
})

const answer = (
  status: number,
  headers: Record<string, string> = {},
  body = '',
): Parameters<typeof judgeAnswer>[0] => ({
  status,
  headers,
  body,
})
const says = (error: string): string => JSON.stringify({ error })

describe('success', () => {
  it.each([200, 204])('takes %i for success [BC §2.8]', (status) => {
    expect(judgeAnswer(answer(status), context())).toEqual({ state: 'delivered', status })
  })

  it.each([201, 202, 206, 299])('takes %i for success, marked as suspicious', (status) => {
    expect(judgeAnswer(answer(status), context())).toEqual({ state: 'delivered', status, suspicious: true })
  })

  it.each(['text/html', 'Text/HTML; charset=utf-8', ' text/html'])('marks a page (%s) as suspicious', (type) => {
    expect(judgeAnswer(answer(200, { 'content-type': type }, '<p>'), context())).toMatchObject({ suspicious: true })
  })

  it.each([
    ['0', 0],
    ['3', 3],
    ['999999999', 999_999_999],
  ])('keeps how many sessions the RP says it ended (%s)', (header, sessionsEnded) => {
    expect(judgeAnswer(answer(200, { 'logout-sessions-ended': header }), context())).toMatchObject({ sessionsEnded })
  })

  it.each(['', '-1', '1.5', '1e3', 'many', '9999999999'])('keeps no count that is none (%s)', (header) => {
    expect(judgeAnswer(answer(200, { 'logout-sessions-ended': header }), context())).toEqual({
      state: 'delivered',
      status: 200,
    })
  })
})

describe('a refusal', () => {
  it.each([
    ['400 invalid_request', answer(400, {}, says('invalid_request'))],
    ['410', answer(410)],
    ['501', answer(501)],
  ])('%s is believed at the fifth try, 15 minutes after the first', (_, refusal) => {
    let at = now
    let refusals = 0
    let refusedSince: number | undefined
    const waits: number[] = []
    for (;;) {
      const outcome = judgeAnswer(
        refusal,
        context({ now: at, refusals, ...(refusedSince !== undefined && { refusedSince }) }),
      )
      if (outcome.state !== 'due') {
        expect(outcome).toMatchObject({ state: 'refused', status: refusal.status })
        break
      }
      expect(outcome.why).toBe('refusal')
      refusals += 1
      refusedSince ??= at
      waits.push((outcome.retryAt - at) / minute)
      at = outcome.retryAt
    }
    expect(waits).toEqual([1, 2, 4, 8])
  })

  it('is not believed earlier, however many tries there were', () => {
    const outcome = judgeAnswer(answer(410), context({ now: now + minute, refusals: 20, refusedSince: now }))
    expect(outcome).toEqual({ state: 'due', retryAt: now + 15 * minute, why: 'refusal', status: 410 })
  })

  it('keeps the error the RP gave', () => {
    const outcome = judgeAnswer(
      answer(400, {}, says('invalid_request')),
      context({ now: now + hour, refusals: 4, refusedSince: now }),
    )
    expect(outcome).toEqual({ state: 'refused', status: 400, error: 'invalid_request' })
  })
})

describe('temporary failures', () => {
  it.each([
    ['a redirect', answer(302, { location: '/login' })],
    ['400 with another error [BC §2.8]', answer(400, {}, says('temporarily_unavailable'))],
    ['400 without a body', answer(400)],
    ['400 with a body that is not JSON', answer(400, {}, 'invalid_request')],
    ['400 with an error that is not text', answer(400, {}, '{"error":{"invalid_request":1}}')],
    ['400 with an inherited error', answer(400, {}, '{"__proto__":{"error":"invalid_request"}}')],
    ['401', answer(401)],
    ['403', answer(403)],
    ['404', answer(404)],
    ['405', answer(405)],
    ['413', answer(413)],
    ['429', answer(429)],
    ['500', answer(500)],
    ['502', answer(502)],
    ['503', answer(503)],
  ])('%s is tried again', (_, given) => {
    expect(judgeAnswer(given, context())).toMatchObject({ state: 'due', why: 'status', status: given.status })
  })

  it.each(['network', 'timeout', 'egress', 'internal'] as const)('no answer (%s) is tried again', (why) => {
    expect(judgeFailure(why, context())).toMatchObject({ state: 'due', why })
  })

  it('backs off with full jitter from a second to 15 minutes', () => {
    const waits = (chance: number): number[] =>
      Array.from({ length: 12 }, (_, attempts) => {
        const outcome = judgeFailure('network', context({ attempts, chance }))
        return outcome.state === 'due' ? (outcome.retryAt - now) / second : Number.NaN
      })
    expect(waits(0)).toEqual(Array.from({ length: 12 }, () => 1))
    expect(waits(0.999_999)).toEqual(
      [2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900].map((wait) => expect.closeTo(wait, 1)),
    )
  })

  it.each([
    ['seconds', 503, '30', 30 * second],
    ['fewer seconds than the backoff', 503, '0', second],
    ['a day', 503, '86400', hour],
    ['absurdly many seconds', 503, '9999999999', hour],
    ['a date', 503, 'Sun, 22 Nov 2026 12:10:00 GMT', 10 * minute],
    ['a date in the past', 503, 'Sun, 22 Nov 2026 11:00:00 GMT', second],
    ['a date too far away', 503, 'Sun, 22 Nov 2027 12:00:00 GMT', hour],
    ['nonsense', 503, 'soon', second],
    ['a negative number', 503, '-5', second],
    ['a fraction', 503, '1.5', second],
    ['nothing', 503, undefined, second],
    ['nothing after 429', 429, undefined, minute],
    ['less than a minute after 429', 429, '5', minute],
    ['more than a minute after 429', 429, '90', 90 * second],
  ])('honours Retry-After: %s', (_, status, header, wait) => {
    const given = answer(status, header === undefined ? {} : { 'retry-after': header })
    expect(judgeAnswer(given, context())).toMatchObject({ state: 'due', retryAt: now + wait })
  })

  it('never waits less than its own backoff because of Retry-After', () => {
    const outcome = judgeAnswer(answer(503, { 'retry-after': '1' }), context({ attempts: 9, chance: 0.5 }))
    expect(outcome.state === 'due' && outcome.retryAt - now).toBeGreaterThan(7 * minute)
  })

  it('waits a minute at least after a time-out', () => {
    expect(judgeFailure('timeout', context())).toMatchObject({ retryAt: now + minute })
    expect(judgeFailure('network', context())).toMatchObject({ retryAt: now + second })
  })

  it('knows how long an RP asked to be left alone, apart from the backoff', () => {
    expect(waitAskedFor(answer(503, { 'retry-after': '5' }), now)).toBe(5 * second)
    expect(waitAskedFor(answer(429), now)).toBe(minute)
    expect(waitAskedFor(answer(503), now)).toBeUndefined()
    expect(waitAskedFor(answer(200, { 'retry-after': '5' }), now)).toBeUndefined()
  })
})

describe('the horizon', () => {
  it('brings the last attempt to the horizon, not past it', () => {
    const outcome = judgeAnswer(answer(503, { 'retry-after': '3600' }), context({ now: now + 72 * hour - minute }))
    expect(outcome).toMatchObject({ state: 'due', retryAt: now + 72 * hour })
  })

  it('gives up at the horizon, whatever went wrong', () => {
    const late = context({ now: now + 72 * hour })
    const dead = { state: 'dead', why: 'horizon' }
    expect(judgeAnswer(answer(503), late)).toEqual({ ...dead, failure: { why: 'status', status: 503 } })
    expect(judgeAnswer(answer(410), late)).toEqual({ ...dead, failure: { why: 'refusal', status: 410 } })
    expect(judgeFailure('egress', late)).toEqual({ ...dead, failure: { why: 'egress' } })
  })

  it('still takes a success after the horizon', () => {
    expect(judgeAnswer(answer(200), context({ now: now + 100 * hour }))).toMatchObject({ state: 'delivered' })
  })
})

describe('text from RPs', () => {
  it.each([
    ['with control characters', 'evil\u001b[2J\r\n\u0000\u202e'],
    ['that is a sentence', 'no such session'],
    ['that echoes a Logout Token', 'eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl'],
    ['without an end', 'x'.repeat(65)],
    ['that is a sub', 'alice'],
  ])('is no error code %s, and becomes other, since codes are logged [T24]', (_what, hostile) => {
    expect(judgeAnswer(answer(403, {}, says(hostile)), context())).toHaveProperty('error', 'other')
    expect(judgeAnswer(answer(403, {}, says('access_denied')), context())).toHaveProperty('error', 'access_denied')
  })

  it('keeps error_description beside error, likewise cut, and nothing else of a body [T24]', () => {
    const body = { error: 'invalid_request', error_description: `no\u001b[1m\n${'y'.repeat(300)}`, sub: 'ada', x: [1] }
    const wanted = { status: 400, error: 'invalid_request', errorDescription: `no[1m${'y'.repeat(195)}` }
    expect(judgeAnswer(answer(400, {}, JSON.stringify(body)), context())).toEqual({
      state: 'due',
      retryAt: now + minute,
      why: 'refusal',
      ...wanted,
    })
    const late = context({ now: now + hour, refusals: 4, refusedSince: now })
    expect(judgeAnswer(answer(400, {}, JSON.stringify(body)), late)).toEqual({ state: 'refused', ...wanted })
  })

  it.each([
    '[]',
    'null',
    '"text"',
    '{"error_description":7}',
    '{"error_description":null}',
    'x'.repeat(4096),
  ])('keeps nothing where there is nothing to keep: %s [T24]', (body) => {
    expect(judgeAnswer(answer(500, {}, body), context())).toEqual({
      state: 'due',
      retryAt: now + second,
      why: 'status',
      status: 500,
    })
  })
})

describe('one try more of what was given up', () => {
  const refused = { state: 'refused', status: 400, error: 'invalid_request' } as const
  const dead = { state: 'dead', why: 'horizon', failure: { why: 'network' } } as const

  it('goes back to its last word when it fails, before the horizon and after it', () => {
    for (const at of [now, now + 100 * hour]) {
      const failure = { why: 'status', status: 503 }
      expect(judgeAnswer(answer(503), context({ now: at, lastWord: refused }))).toEqual({ ...refused, failure })
      expect(judgeAnswer(answer(503), context({ now: at, lastWord: dead }))).toEqual({ ...dead, failure })
      expect(judgeFailure('timeout', context({ now: at, lastWord: dead }))).toEqual({
        ...dead,
        failure: { why: 'timeout' },
      })
    }
  })

  it('is delivered like any other when the RP takes it', () => {
    expect(judgeAnswer(answer(200), context({ now: now + 100 * hour, lastWord: dead }))).toEqual({
      state: 'delivered',
      status: 200,
    })
  })
})
