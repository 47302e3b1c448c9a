import type { JWTPayload } from 'jose'
import type { Page, UserAgent } from './user-agent.ts'

interface App {
  readonly client_id: string
  readonly client_secret: string
  readonly redirect_uris?: readonly string[] | undefined
}

export interface OpFlow {
  readonly issuer: string
}

/** What an RP got back at its redirect URI. */
export interface AuthorizationAnswer {
  readonly page: Page
  readonly params: URLSearchParams
  /** Throws when there is none. */
  readonly code: string
  readonly sessionState: string
}

/** What the token endpoint gave for a code. */
export interface Tokens {
  readonly id_token: string
  readonly access_token: string
  readonly refresh_token?: string
}

/** The URL of an authorization request. */
export function authorizationUrl({ issuer }: OpFlow, app: App, params: Readonly<Record<string, string>> = {}): string {
  const query = new URLSearchParams({
    client_id: app.client_id,
    response_type: 'code',
    scope: 'openid',
    redirect_uri: app.redirect_uris?.[0] ?? '',
    state: 'xyz',
    nonce: 'n-0S6',
    ...params,
  })
  return `${issuer}/auth?${query}`
}

/** Reads an authorization answer off the page a browser ended up on: from its query or its fragment. */
export function answerOn(page: Page): AuthorizationAnswer {
  const url = new URL(page.url)
  const params = new URLSearchParams(url.hash === '' ? url.search : url.hash.slice(1))
  const get = (name: string): string => {
    const value = params.get(name)
    if (value === null) throw new Error(`no ${name} at ${page.url} (${page.status}): ${page.body.slice(0, 500)}`)
    return value
  }
  return {
    page,
    params,
    get code() {
      return get('code')
    },
    get sessionState() {
      return get('session_state')
    },
  }
}

/** Navigates to the OP and comes back with its answer, logged in where `params` do not forbid to ask. */
export async function authorize(
  browser: UserAgent,
  op: OpFlow,
  app: App,
  params: Readonly<Record<string, string>> = {},
): Promise<AuthorizationAnswer> {
  return answerOn(await browser.open(authorizationUrl(op, app, params)))
}

/** What one POST of an RP's backend to the token endpoint is answered. */
export async function askForTokens(
  { issuer }: OpFlow,
  app: App,
  params: Readonly<Record<string, string>>,
): Promise<{ status: number; body: Record<string, unknown> }> {
  const response = await fetch(`${issuer}/token`, {
    method: 'POST',
    body: new URLSearchParams({ client_id: app.client_id, client_secret: app.client_secret, ...params }),
  })
  return { status: response.status, body: (await response.json()) as Record<string, unknown> }
}

/** Redeems a code; throws when the OP refuses. */
export async function redeem(op: OpFlow, app: App, code: string): Promise<Tokens> {
  const { status, body } = await askForTokens(op, app, {
    grant_type: 'authorization_code',
    code,
    redirect_uri: app.redirect_uris?.[0] ?? '',
  })
  if (status !== 200) throw new Error(`the token endpoint answered ${status}: ${JSON.stringify(body)}`)
  return body as Record<string, unknown> & Tokens
}

/** Logs in at an RP and redeems the code. */
export async function logIn(
  browser: UserAgent,
  op: OpFlow,
  app: App,
  params: Readonly<Record<string, string>> = {},
): Promise<AuthorizationAnswer & { readonly tokens: Tokens }> {
  const answer = await authorize(browser, op, app, params)
  return Object.assign(answer, { tokens: await redeem(op, app, answer.code) })
}

/** The claims of a JWT, unverified. */
export function claimsOf(jwt: string): JWTPayload & { readonly sid?: string } {
  return JSON.parse(Buffer.from(jwt.split('.')[1] ?? '', 'base64url').toString()) as JWTPayload
}

/** The URL of a logout request. */
export function logoutUrl({ issuer }: OpFlow, params: Readonly<Record<string, string>> = {}): string {
  const query = new URLSearchParams(params).toString()
  return `${issuer}/session/end${query === '' ? '' : `?${query}`}`
}

/** Whether this browser is still signed in at the OP: what prompt=none says. */
export async function isSignedIn(browser: UserAgent, op: OpFlow, app: App): Promise<boolean> {
  const { params } = await authorize(browser, op, app, { prompt: 'none' })
  if (params.has('code')) return true
  if (params.get('error') === 'login_required') return false
  throw new Error(`prompt=none answered ${params}`)
}
