import type { SilentAnswer } from './spa-monitor.ts'
import { messageFrom, PATIENCE } from './wait.ts'
import { type BrowserCrypto, type BrowserWorld, browserCrypto, browserWorld } from './world.ts'

/** Options of {@link promptNone}. */
export interface PromptNoneOptions {
  /** The OP's metadata, of which these are used. */
  readonly metadata: {
    readonly issuer: string
    readonly authorization_endpoint: string
    readonly token_endpoint: string
  }
  readonly clientId: string
  /**
   * A registered redirect URI of this origin whose page has only one line of script:
   * `parent.postMessage(location.href, location.origin)`. keycloak-js' `silent-check-sso.html` is such a page.
   */
  readonly redirectUri: string
  /** Default `openid`. */
  readonly scope?: string
}

/** The browser kept the frame from saying anything, or the OP said something else than who is signed in. */
export class SilentCheckError extends Error {
  override readonly name = 'SilentCheckError'
  /** What the OP said (`consent_required`, say), `timeout` when nothing came back, `invalid_response` otherwise. */
  readonly code: string

  constructor(code: string, message: string) {
    super(message)
    this.code = code
  }
}

/**
 * Makes a silent check for {@link startSpaMonitor}: prompt=none in a hidden iframe, code flow with PKCE.
 *
 * The answer's code is redeemed only to learn the `sub`; the tokens are dropped. The ID Token comes straight from the
 * Token Endpoint, so TLS vouches for it (Core §3.1.3.7 (6)).
 *
 * @returns What resolves to who is signed in, to `undefined` on `login_required`, and else rejects.
 */
export function promptNone(
  { metadata, clientId, redirectUri, scope = 'openid' }: PromptNoneOptions,
  world: BrowserWorld = browserWorld(),
  crypto: BrowserCrypto = browserCrypto(),
): (signal: AbortSignal) => Promise<SilentAnswer | undefined> {
  const redirect = new URL(redirectUri, world.document.baseURI)

  return async (signal) => {
    const [state, nonce, verifier] = [crypto.randomText(), crypto.randomText(), crypto.randomText()]
    const request = new URL(metadata.authorization_endpoint)
    for (const [name, value] of Object.entries({
      client_id: clientId,
      redirect_uri: redirect.href,
      response_type: 'code',
      scope,
      prompt: 'none',
      state,
      nonce,
      code_challenge: await crypto.challenge(verifier),
      code_challenge_method: 'S256',
    })) {
      request.searchParams.set(name, value)
    }

    const frame = world.openFrame(request.href)
    const read = (data: unknown) => readResponse(data, redirect, state)
    const response = await messageFrom(world, frame, redirect.origin, read, signal)
    frame.remove()
    // An OP that shows a login page never comes back.
    if (!response) throw new SilentCheckError('timeout', 'no answer to prompt=none came back to the page')
    const error = response.get('error')
    if (error === 'login_required') return undefined
    if (error) throw new SilentCheckError(error, 'the OP answered prompt=none with an error')
    // RFC 9207
    if ((response.get('iss') ?? metadata.issuer) !== metadata.issuer) throw invalid('iss')

    const claims = readIdToken(await redeem(response.get('code') ?? '', verifier, signal))
    if (claims.iss !== metadata.issuer) throw invalid('iss')
    if (![claims.aud].flat().includes(clientId)) throw invalid('aud')
    if (claims.nonce !== nonce) throw invalid('nonce')
    if (typeof claims.sub !== 'string') throw invalid('sub')
    return { sub: claims.sub, sessionState: response.get('session_state') ?? undefined }
  }

  async function redeem(code: string, verifier: string, signal: AbortSignal): Promise<TokenAnswer> {
    const over = new AbortController()
    const late = new SilentCheckError('timeout', 'the Token Endpoint does not answer')
    const callOff = world.after(PATIENCE, () => over.abort(late))
    const abort = () => over.abort(signal.reason)
    signal.addEventListener('abort', abort, over)
    try {
      signal.throwIfAborted()
      const answer = await world.fetch(metadata.token_endpoint, {
        method: 'POST',
        credentials: 'omit',
        redirect: 'error',
        body: new URLSearchParams({
          grant_type: 'authorization_code',
          client_id: clientId,
          redirect_uri: redirect.href,
          code,
          code_verifier: verifier,
        }),
        signal: over.signal,
      })
      return (await answer.json()) as TokenAnswer
    } finally {
      callOff()
      over.abort()
    }
  }
}

/** The parameters of the answer to this very request, in the query or the fragment. */
function readResponse(data: unknown, redirect: URL, state: string): URLSearchParams | undefined {
  if (typeof data !== 'string' || !data.startsWith(`${redirect.origin}/`)) return undefined
  const { pathname, search, hash } = new URL(data)
  const answers = [search, hash].map((text) => new URLSearchParams(text.slice(1)))
  const answer = answers.find((parameters) => parameters.get('state') === state)
  return pathname === redirect.pathname ? answer : undefined
}

/** What matters here of a Token Response. */
interface TokenAnswer {
  readonly id_token?: unknown
}

function readIdToken(answer: TokenAnswer): Partial<Record<string, unknown>> {
  const [, payload = ''] = typeof answer?.id_token === 'string' ? answer.id_token.split('.') : []
  try {
    const bytes = Uint8Array.from(atob(payload.replaceAll('-', '+').replaceAll('_', '/')), (char) => char.charCodeAt(0))
    return JSON.parse(new TextDecoder().decode(bytes)) ?? {}
  } catch (cause) {
    throw Object.assign(invalid('id_token'), { cause })
  }
}

function invalid(what: string): SilentCheckError {
  return new SilentCheckError('invalid_response', `the OP's answer to prompt=none has a wrong ${what}`)
}
