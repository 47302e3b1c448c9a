import type { Html } from '../runtime/html.ts'

/** A request as an adapter hands it over; nothing of a framework in it. */
export interface RpRequest {
  readonly method: string
  /** Path and query as the User Agent sent them. */
  readonly url: string
  /** Value of a header, by lower-case name; several lines are joined as HTTP says. */
  header(name: string): string | undefined
  /** The whole body as text. Rejects with {@link BodyTooLarge} after `limit` bytes. */
  text(limit: number): Promise<string>
  /** Aborts when the other side is gone. */
  readonly signal: AbortSignal
}

/** An answer as an adapter writes it. A body that is iterated is written piece by piece until it ends. */
export interface RpAnswer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly cookies: readonly string[]
  readonly body: string | Uint8Array | AsyncIterable<string>
}

/** The body went over the route's limit; the edge answers 413. */
export class BodyTooLarge extends Error {
  constructor(limit: number) {
    super(`the body is larger than ${limit} bytes`)
    this.name = 'BodyTooLarge'
  }
}

/** Something read the body before it came to us and kept nothing of it; the edge answers 500 and names the fix. */
export class BodyReadBefore extends Error {
  constructor() {
    super('the body was read before it came here: mount auth(rp) before body parsers')
    this.name = 'BodyReadBefore'
  }
}

/** Bodies of forms are short; a Logout Token with a long `sub` and many keys' worth of claims stays far below this. */
export const BODY_LIMIT: number = 64 * 1024

/** Builds an answer that no cache keeps and no other site may read or frame. */
export function answer(
  status: number,
  body: RpAnswer['body'],
  headers: Readonly<Record<string, string>> = {},
  cookies: readonly string[] = [],
): RpAnswer {
  return {
    status,
    headers: { 'cache-control': 'no-store', 'x-content-type-options': 'nosniff', ...headers },
    cookies,
    body,
  }
}

/** A JSON answer. */
export function json(status: number, value: unknown, headers: Readonly<Record<string, string>> = {}): RpAnswer {
  return answer(status, JSON.stringify(value), {
    'content-type': 'application/json',
    'cross-origin-resource-policy': 'same-origin',
    ...headers,
  })
}

/** A JSON error as OAuth spells it. */
export function refusal(
  status: number,
  error: string,
  error_description: string,
  headers: Readonly<Record<string, string>> = {},
): RpAnswer {
  return json(status, { error, error_description }, headers)
}

/** See Other: the next request is a GET, whatever this one was (RFC 9700 §4.12). */
export function redirect(location: string, cookies: readonly string[] = []): RpAnswer {
  return answer(303, '', { location, 'referrer-policy': 'no-referrer' }, cookies)
}

/**
 * A page whose only inline pieces are named by their hashes. Its URL may hold a code, which nobody is told; where it is from
 * it must say: with no-referrer a form's POST says `Origin: null`, and {@link isSameOrigin} may have nothing else to go by.
 */
export function page(status: number, content: Html, csp: string, cookies: readonly string[] = []): RpAnswer {
  return answer(
    status,
    `<!doctype html>\n${content.html}\n`,
    { 'content-type': 'text/html; charset=utf-8', 'content-security-policy': csp, 'referrer-policy': 'strict-origin' },
    cookies,
  )
}

/** What forms are sent as; of any other kind, a body is not looked into. */
export const FORM = 'application/x-www-form-urlencoded'

/** The kind of body a request has, without parameters; `undefined` for one without. */
export function typeOf(request: Pick<RpRequest, 'header'>): string | undefined {
  return request.header('content-type')?.split(';')[0]?.trim().toLowerCase()
}

/**
 * Says whether a state-changing request was made by a page of this very app (T5's rule, on the RP's side).
 *
 * Browsers without Fetch Metadata are judged by `Origin`; a request with neither is refused.
 */
export function isSameOrigin(request: RpRequest, origin: string): boolean {
  const site = request.header('sec-fetch-site')
  return site === undefined ? request.header('origin') === origin : site === 'same-origin'
}

/** Says whether another site made the browser ask (T17). Requests typed by the user or made by old browsers pass. */
export function isForeign(request: RpRequest): boolean {
  const site = request.header('sec-fetch-site')
  return site !== undefined && site !== 'same-origin' && site !== 'none'
}

/** Says whether a browser fetches this only in case somebody will want it; what it gets may never be looked at. */
export function isPrefetch(request: Pick<RpRequest, 'header'>): boolean {
  return ['sec-purpose', 'purpose', 'x-moz'].some((name) => request.header(name)?.includes('prefetch') === true)
}

/** Says whether a browser asks for a whole page: the only time at which a dead cookie is set aside. */
export function isDocument(request: Pick<RpRequest, 'header'>): boolean {
  return request.header('sec-fetch-dest') === 'document'
}
