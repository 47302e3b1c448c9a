import { hour, minute, second } from '../../runtime/milliseconds.ts'
import type { PostFailure } from '../../runtime/post-failure.ts'
import type { PostAnswer } from '../../runtime/runtime.ts'
import type { AttemptFailure, AttemptOutcome } from '../store/contract.ts'

/** What is known of a delivery when its attempt is judged. Times are epoch milliseconds. */
export interface AttemptContext {
  readonly now: number
  /** When the horizon began. */
  readonly createdAt: number
  /** Attempts of this horizon finished before this one. */
  readonly attempts: number
  /** Refusals in a row before this one, and the first of them. */
  readonly refusals: number
  readonly refusedSince?: number
  /** Milliseconds to keep trying. */
  readonly horizon: number
  /** A random number in [0, 1). */
  readonly chance: number
  /** Of a delivery that was given up, and that an operator has tried once more: the outcome it goes back to. */
  readonly lastWord?: Extract<AttemptOutcome, { state: 'refused' | 'dead' }>
}

/** Refusals in a row after which an RP is believed, and how long the first of them must be past. */
const refusalsToBelieve = 5
const refusedFor = 15 * minute

/**
 * Judges an RP's answer to a Logout Token.
 *
 * 200 and 204 are success. A refusal (400 `invalid_request`, 410, 501) is believed only after five tries over 15 minutes:
 * a stale JWKS or a skewed clock heals in that time. Everything else is temporary, since Back-Channel §2.8 makes an RP
 * whose store is down answer 400 as well, and §2.5 allows sending again.
 *
 * @see {@link https://openid.net/specs/openid-connect-backchannel-1_0.html#BCResponse | Back-Channel Logout 1.0 §2.8}
 */
export function judgeAnswer(answer: PostAnswer, context: AttemptContext): AttemptOutcome {
  const { status, headers, body } = answer
  if (status >= 200 && status < 300) {
    const ended = headers['logout-sessions-ended']
    // A page instead of an empty answer, or an unusual 2xx: something in front of the RP may have answered for it.
    const suspicious = (status !== 200 && status !== 204) || /^\s*text\/html\b/i.test(headers['content-type'] ?? '')
    return {
      state: 'delivered',
      status,
      ...(ended !== undefined && /^\d{1,9}$/.test(ended) && { sessionsEnded: Number(ended) }),
      ...(suspicious && { suspicious }),
    }
  }

  const { error, ...described } = wordsOf(body)
  const said = { status, ...(error !== undefined && { error }), ...described }
  if ((status === 400 && error === 'invalid_request') || status === 410 || status === 501) {
    const since = context.refusedSince ?? context.now
    const refusals = context.refusals + 1
    if (refusals >= refusalsToBelieve && context.now - since >= refusedFor) return { state: 'refused', ...said }
    // 1, 2, 4 and 8 minutes: the fifth try is the one 15 minutes after the first.
    const wait = minute * 2 ** Math.min(context.refusals, 3)
    return again(
      context,
      refusals >= refusalsToBelieve ? Math.max(since + refusedFor - context.now, minute) : wait,
      'refusal',
      said,
    )
  }

  const asked = waitAskedFor(answer, context.now) ?? 0
  return again(context, Math.max(backoffOf(context), asked), 'status', said)
}

/** Milliseconds an RP that cannot take a token now wants to be left alone for: an hour at most, after 429 a minute at least. */
export function waitAskedFor({ status, headers }: PostAnswer, now: number): number | undefined {
  if (status < 300) return undefined
  const asked = retryAfter(headers['retry-after'], now)
  if (asked === undefined && status !== 429) return undefined
  return Math.min(Math.max(asked ?? 0, status === 429 ? minute : 0), hour)
}

/** Judges an attempt that got no answer; never final before the horizon. */
export function judgeFailure(why: Exclude<PostFailure, 'stale'> | 'internal', context: AttemptContext): AttemptOutcome {
  return again(context, Math.max(backoffOf(context), why === 'timeout' ? minute : 0), why)
}

function again(
  { now, createdAt, horizon, lastWord }: AttemptContext,
  wait: number,
  why: AttemptFailure['why'],
  said: { status?: number; error?: string; errorDescription?: string } = {},
): AttemptOutcome {
  const failure = { why, ...said }
  if (lastWord) return { ...lastWord, failure }
  const end = createdAt + horizon
  if (now >= end) return { state: 'dead', why: 'horizon', failure }
  return { state: 'due', retryAt: Math.min(now + Math.round(wait), end), ...failure }
}

/** Full jitter: anything from one second up to a ceiling that doubles from 2 seconds to 15 minutes. */
function backoffOf({ attempts, chance }: AttemptContext): number {
  const ceiling = Math.min(second * 2 ** Math.min(attempts + 1, 10), 15 * minute)
  return second + chance * (ceiling - second)
}

/** Milliseconds an RP asks to be left alone for: whole seconds, or a date (RFC 9110 §10.2.3). */
function retryAfter(value: string | undefined, now: number): number | undefined {
  if (value === undefined) return undefined
  if (/^\d{1,10}$/.test(value)) return Number(value) * second
  const date = /^[A-Z][a-z]{2,8},? /.test(value) ? Date.parse(value) : Number.NaN
  return Number.isNaN(date) ? undefined : Math.max(date - now, 0)
}

/** The error codes of OAuth and OpenID that an RP may say. Any other word might be what it was sent, a `sub` say, and codes are logged. */
const errorCodes: ReadonlySet<string> = new Set([
  'invalid_request',
  'invalid_client',
  'invalid_grant',
  'invalid_scope',
  'invalid_token',
  'insufficient_scope',
  'unauthorized_client',
  'unsupported_grant_type',
  'unsupported_response_type',
  'unsupported_token_type',
  'access_denied',
  'server_error',
  'temporarily_unavailable',
])

/** The two members of an error body that are kept; of `error` only that there was one, where it is no known code. */
function wordsOf(body: string): { error?: string; errorDescription?: string } {
  let parsed: unknown
  try {
    parsed = JSON.parse(body)
  } catch {
    return {} // not JSON: there is nothing to keep
  }
  const said = textOf(parsed, 'error')
  const error = said !== undefined && !errorCodes.has(said) ? 'other' : said
  const errorDescription = textOf(parsed, 'error_description')
  return { ...(error !== undefined && { error }), ...(errorDescription !== undefined && { errorDescription }) }
}

/** Hostile text, so cut and without control or direction characters (T24). */
function textOf(parsed: unknown, name: string): string | undefined {
  if (typeof parsed !== 'object' || parsed === null || !Object.hasOwn(parsed, name)) return undefined
  const value: unknown = (parsed as Record<string, unknown>)[name]
  return typeof value === 'string' ? value.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, '').slice(0, 200) : undefined
}
