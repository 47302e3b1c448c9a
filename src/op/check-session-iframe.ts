import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import type { Provider as OidcProvider } from 'oidc-provider'
import { html, raw } from '../runtime/html.ts'
import { type Answer, type HttpRequest, TooLarge } from './http.ts'

/** Seconds a browser may keep the OP iframe; it holds nothing about the user. */
const CACHE = 3600

/** Bytes of the OP iframe's question. */
const BODY_LIMIT = 4096

const SITES: ReadonlySet<string> = new Set(['same-origin', 'same-site', 'cross-site'])

/**
 * The page at `check_session_iframe`: it reads the browser-state cookie and answers an RP's frame with `unchanged`,
 * `changed` or `error`.
 *
 * The server knows for certain whether the page is framed by the same site (`Sec-Fetch-Site`) and writes it into the
 * page, since `document.hasStorageAccess()` alone is wrong in some engines. Nothing is set inside the frame.
 *
 * @see {@link https://openid.net/specs/openid-connect-session-1_0.html#OPiframe | Session Management 1.0 §3.2}
 */
export function checkSessionIframe(request: HttpRequest, settings: { cookie: string; path: string }): Answer {
  const site = request.header('sec-fetch-site') ?? ''
  const { script, csp } = opIframeScript()
  const page = html`<!doctype html><html data-site="${SITES.has(site) ? site : 'unknown'}" data-cookie="${settings.cookie}" data-check="${settings.path}"><meta charset="utf-8"><title>OP iframe</title><script type="module">${raw(script)}</script>`
  return {
    status: 200,
    headers: {
      'content-type': 'text/html; charset=utf-8',
      'content-security-policy': csp,
      'cache-control': `private, max-age=${CACHE}`,
      vary: 'Sec-Fetch-Site',
      'referrer-policy': 'no-referrer',
      'x-content-type-options': 'nosniff',
    },
    body: page.html,
  }
}

let cached: { script: string; csp: string } | undefined

function opIframeScript(): { script: string; csp: string } {
  if (!cached) {
    const file = createRequire(import.meta.url).resolve('#served/op-iframe.js')
    const script = readFileSync(file, 'utf8').trim()
    const hash = createHash('sha256').update(script).digest('base64')
    cached = { script, csp: `default-src 'none'; script-src 'sha256-${hash}'; connect-src 'self'; base-uri 'none'` }
  }
  return cached
}

/**
 * Answers the OP iframe's question whether an origin may ask about a client: 204 for the origins of its redirect URIs, 403
 * for all others (Session §3.2, §6: only expected origins).
 */
export async function checkOrigin(request: HttpRequest, provider: OidcProvider): Promise<Answer> {
  let asked: unknown
  try {
    asked = await request.json(BODY_LIMIT)
  } catch (error) {
    if (error instanceof TooLarge) return { status: 413, headers: NO_STORE, body: '' }
    throw error
  }
  const { client_id: clientId, origin } = (asked ?? {}) as { client_id?: unknown; origin?: unknown }
  if (typeof clientId !== 'string' || typeof origin !== 'string') return { status: 400, headers: NO_STORE, body: '' }
  const client = await provider.Client.find(clientId)
  // "null" is the origin of every native app's scheme, and of every sandboxed page of anybody
  const expected = origin !== 'null' && client?.redirectUris?.some((uri) => new URL(uri).origin === origin)
  return { status: expected ? 204 : 403, headers: NO_STORE, body: '' }
}

const NO_STORE = { 'cache-control': 'no-store' } as const
