import * as oidc from 'openid-client'
import { base64url } from '../protocol/session-state.ts'
import { type RpContext, seconds } from './context.ts'
import { clearCookie, readCookies, setCookie } from './cookies.ts'
import type { RpRequest } from './http.ts'

/** What must be remembered between an authorization request and its response. It lives sealed in the browser (T29). */
export interface LoginTransaction {
  /** `silent` is a silent check (prompt=none in an iframe), everything else a login. */
  readonly kind: 'login' | 'silent'
  readonly state: string
  readonly nonce: string
  readonly verifier: string
  /** Epoch milliseconds by the store's clock, before the authorization request was sent (T3). */
  readonly requestedAt: number
  /** Epoch seconds. */
  readonly expiresAt: number
  /** Absolute URL within the app. */
  readonly returnTo: string
  /** True when this login repeats one that a logout had overtaken; it is not repeated a second time. */
  readonly again: boolean
  /** Seconds since the End-User's last authentication that this login allows; the ID Token must prove it. */
  readonly maxAge?: number
  /** What the login was asked to begin with: `prompt` and `login_hint`. */
  readonly asked?: Readonly<Record<string, string>>
  /** Handle of the RP session a silent check asks about. */
  readonly handle?: string
}

type Kind = LoginTransaction['kind']

/** Seconds a user may take at the OP; a page gives a silent check up long before. */
const LIFETIME: Readonly<Record<Kind, number>> = { login: 600, silent: 60 }
/** More than this at once are no user's; the oldest is forgotten. Each kind has its own, so that none pushes out the other. */
const MOST: Readonly<Record<Kind, number>> = { login: 5, silent: 3 }
/**
 * Bytes that the cookies of a kind may take up. A request whose cookies are too long is refused as a whole (431: many
 * proxies take 8 KiB, Node 16), so that logins which any site can begin would lock the browser out of the app.
 */
const ROOM = 4096

/** A state that says what it belongs to even when its cookie is lost, so that an iframe is never shown a whole page. */
const SILENT = 'silent.'

export function isSilentState(state: string | undefined): boolean {
  return state?.startsWith(SILENT) === true
}

/** Begins a transaction; the cookies carry it to the callback. */
export async function beginTransaction<Data>(
  context: RpContext<Data>,
  request: RpRequest,
  about: Pick<LoginTransaction, 'kind' | 'returnTo' | 'again' | 'handle' | 'maxAge' | 'asked'>,
): Promise<{ transaction: LoginTransaction; cookies: readonly string[] }> {
  const { options, sealer, store } = context
  const random = (bytes: number) => base64url(options.runtime.random(bytes))
  const { kind } = about
  const transaction: LoginTransaction = {
    ...about,
    ...(kind === 'login' ? strictest(about.maxAge, options.maxAge) : {}),
    state: (kind === 'silent' ? SILENT : '') + random(16),
    nonce: random(16),
    verifier: random(32),
    requestedAt: await store.now(),
    expiresAt: seconds(context) + LIFETIME[kind],
  }
  const value = `${seconds(context)}.${await sealer.seal('login', transaction)}`
  const name = cookieOf(options.cookieName, transaction.state)
  const cookies = tooOld(request, options.cookieName, kind, sizeOf([name, value])).map((old) =>
    clearCookie(old, options),
  )
  const sameSite = kind === 'silent' ? 'none' : 'lax'
  cookies.push(setCookie(name, value, LIFETIME[kind], options, sameSite))
  return { transaction, cookies }
}

/** Ends the transaction a `state` belongs to. It can be taken once: its cookie goes with the answer. */
export async function takeTransaction<Data>(
  context: RpContext<Data>,
  request: RpRequest,
  state: string,
): Promise<{ transaction: LoginTransaction | undefined; cookies: readonly string[] }> {
  const { options, sealer } = context
  // Nobody else's text becomes the name of a cookie.
  if (!/^(silent\.)?[\w-]{22}$/.test(state)) return { transaction: undefined, cookies: [] }
  const name = cookieOf(options.cookieName, state)
  const value = readCookies(request).get(name)
  if (value === undefined) return { transaction: undefined, cookies: [] }
  const cookies = [clearCookie(name, options)]
  const transaction = (await sealer.open('login', value.slice(value.indexOf('.') + 1))) as LoginTransaction | undefined
  const isOurs = transaction?.state === state && transaction.expiresAt > seconds(context)
  return { transaction: isOurs ? transaction : undefined, cookies }
}

/** The authorization request of a transaction: code flow with PKCE, `state` and `nonce`. */
export async function authorizationUrl<Data>(
  { options, op }: RpContext<Data>,
  transaction: LoginTransaction,
  params: Readonly<Record<string, string>>,
): Promise<string> {
  const isSilent = transaction.kind === 'silent'
  const url = oidc.buildAuthorizationUrl(await op.reachable(), {
    ...(isSilent ? askedOfAnyLogin(options.authorizationParams) : options.authorizationParams),
    ...params,
    ...(transaction.maxAge === undefined ? {} : { max_age: String(transaction.maxAge) }),
    response_type: 'code',
    redirect_uri: `${options.origin}${options.base}/callback`,
    scope: isSilent ? 'openid' : options.scope,
    state: transaction.state,
    nonce: transaction.nonce,
    code_challenge: await oidc.calculatePKCECodeChallenge(transaction.verifier),
    code_challenge_method: 'S256',
  })
  return url.href
}

/**
 * Without what only a login can meet: an authentication that is too old or too weak for one is no logout. Nor does it ask
 * for access to anything: nobody would use the tokens. The `max_age` is the longest that any OP takes, which outdoes a `default_max_age` of this client (Registration §2).
 */
function askedOfAnyLogin(params: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  const { acr_values: _acr, claims: _claims, prompt: _prompt, resource: _resource, ...others } = params
  return { ...others, max_age: '2147483647' }
}

/** The app's own `max_age` holds, whatever a link asks for. */
function strictest(...limits: readonly (number | undefined)[]): { readonly maxAge?: number } {
  const maxAge = Math.min(...limits.filter((one) => one !== undefined))
  return Number.isFinite(maxAge) ? { maxAge } : {}
}

function cookieOf(cookieName: string, state: string): string {
  return prefixOf(cookieName, isSilentState(state) ? 'silent' : 'login') + state.slice(-8)
}

function prefixOf(cookieName: string, kind: Kind): string {
  return `${cookieName}-${kind}-`
}

/** Names of the cookies that must go so that, with a new one of this size, there are at most {@link MOST} in their {@link ROOM}. */
function tooOld(request: RpRequest, cookieName: string, kind: Kind, size: number): string[] {
  const newestFirst = [...readCookies(request)]
    .filter(([name]) => name.startsWith(prefixOf(cookieName, kind)) && /^[\w-]+$/.test(name.slice(-8)))
    .sort(([, a], [, b]) => Number.parseInt(b, 10) - Number.parseInt(a, 10))
  let taken = size
  let kept = 0
  for (const cookie of newestFirst.slice(0, MOST[kind] - 1)) {
    taken += sizeOf(cookie)
    if (taken > ROOM) break
    kept += 1
  }
  return newestFirst.slice(kept).map(([name]) => name)
}

/** What a cookie takes up in a request: `name=value; `. */
function sizeOf([name, value]: readonly [string, string]): number {
  return name.length + value.length + 3
}
