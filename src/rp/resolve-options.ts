import { createHash } from 'node:crypto'
import { world } from '../runtime/runtime.ts'
import type { DecryptionKey } from './decrypt-token.ts'
import { logToStderr } from './log.ts'
import type { AppOptions, OpAllowances, RelyingPartyOptions, ResolvedAppOptions, ResolvedRpOptions } from './options.ts'

const algorithms = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519']
export const appOptionNames: readonly string[] = [
  'issuer',
  'clientId',
  'appUrl',
  'prefix',
  'store',
  'idTokenSignedResponseAlg',
  'decryptionKeys',
  'allow',
  'dangerouslyAllowHttp',
  'log',
  'runtime',
]
const known: ReadonlySet<string> = new Set([
  ...appOptionNames,
  'clientSecret',
  'tokenEndpointAuthMethod',
  'mapSession',
  'scope',
  'authorizationParams',
  'cookieSuffix',
  'sessionLifetime',
  'secret',
  'onSessionStarted',
  'onSessionEnded',
  'endDownstream',
])

/** Checks the options and fills in the defaults. @throws TypeError naming the option. */
export function resolveRpOptions<Data>(options: RelyingPartyOptions<Data>): ResolvedRpOptions<Data> {
  refuseUnknown(options, known, 'createRelyingParty')
  const app = resolveAppOptions(options)
  refuseUnlessFunctions(options, ['mapSession', 'onSessionStarted', 'onSessionEnded', 'endDownstream'])
  const { clientSecret, scope = 'openid profile' } = options
  if (clientSecret !== undefined && (typeof clientSecret !== 'string' || clientSecret === '')) {
    throw new TypeError('clientSecret must be a non-empty string; leave it out for a public client')
  }
  if (typeof scope !== 'string' || !scope.split(' ').includes('openid')) {
    throw new TypeError('scope must be a string that contains openid')
  }
  const { protocol, hostname } = new URL(app.origin)
  const secureCookies = protocol === 'https:' || isLoopback(hostname)
  const suffix = options.cookieSuffix ?? suffixOf(new URL(app.issuer), app.clientId)
  return {
    ...app,
    clientSecret,
    tokenEndpointAuthMethod: checkAuthMethod(options.tokenEndpointAuthMethod ?? 'client_secret_basic'),
    mapSession: options.mapSession ?? keepNothing,
    wantsClaims: options.mapSession !== undefined,
    scope,
    ...checkAuthorizationParams(options.authorizationParams),
    cookieName: `${secureCookies ? '__Host-' : ''}lockstep-${checkSuffix(suffix)}`,
    secureCookies,
    lifetime: checkLifetime(options.sessionLifetime),
    secrets: checkSecrets(options.secret, clientSecret),
    onSessionStarted: options.onSessionStarted ?? (() => undefined),
    onSessionEnded: options.onSessionEnded ?? (() => undefined),
    endDownstream: options.endDownstream,
  }
}

export function refuseUnknown(options: object, names: ReadonlySet<string>, of: string): void {
  const unknown = Object.keys(options).find((key) => !names.has(key))
  if (unknown !== undefined) throw new TypeError(`${unknown} is not an option of ${of}`)
}

export function refuseUnlessFunctions<Options>(options: Options, names: readonly (keyof Options & string)[]): void {
  const wrong = names.find((name) => options[name] !== undefined && typeof options[name] !== 'function')
  if (wrong !== undefined) throw new TypeError(`${wrong} must be a function`)
}

/** A lifetime goes into a cookie, which knows whole seconds only. @throws TypeError naming the option. */
export function checkSeconds(option: string, value: unknown): void {
  if (!Number.isSafeInteger(value) || !(Number(value) > 0)) {
    throw new TypeError(`${option} must be a whole number of seconds, at least 1`)
  }
}

/** Checks what does not depend on how the app keeps its sessions. @throws TypeError naming the option. */
export function resolveAppOptions(options: AppOptions): ResolvedAppOptions {
  const { clientId, dangerouslyAllowHttp: allowHttp = false, store } = options
  refuseUnlessFunctions(options, ['log'])
  if (typeof allowHttp !== 'boolean') throw new TypeError('dangerouslyAllowHttp must be true or false')
  const issuer = checkUrl('issuer', options.issuer, allowHttp)
  if (issuer.search !== '' || issuer.pathname.includes('/.well-known/')) {
    throw new TypeError('issuer must be what the OP calls itself, without a query, not the URL of its metadata')
  }
  const app = checkUrl('appUrl', options.appUrl, allowHttp)
  if (app.search !== '') throw new TypeError('appUrl must not have a query')
  if (typeof clientId !== 'string' || clientId === '') throw new TypeError('clientId must be a non-empty string')
  if (typeof store?.forClient !== 'function') {
    throw new TypeError("store must be an RP store, such as sqliteStore('app.db') from lockstep/rp/sqlite")
  }
  const prefix = options.prefix ?? '/auth'
  if (typeof prefix !== 'string' || !/^(\/[\w.~-]+)+$/.test(prefix))
    throw new TypeError('prefix must be a path such as /auth, with no slash at its end')
  const alg = options.idTokenSignedResponseAlg ?? 'RS256'
  if (!algorithms.includes(alg)) {
    throw new TypeError(`idTokenSignedResponseAlg must be one of ${algorithms.join(', ')}`)
  }
  return {
    issuer: options.issuer,
    clientId,
    origin: app.origin,
    home: app.pathname,
    base: app.pathname.replace(/\/$/, '') + prefix,
    store,
    alg,
    decryptionKeys: checkDecryptionKeys(options.decryptionKeys),
    allow: checkAllowances(options.allow),
    allowHttp: issuer.protocol === 'http:',
    log: options.log ?? logToStderr,
    runtime: options.runtime ?? world,
  }
}

// Data is `unknown` when mapSession is absent, and `undefined` fits that; TypeScript cannot see the two go together.
function keepNothing<Data>(): Data {
  return undefined as Data
}

function checkUrl(option: 'issuer' | 'appUrl', value: unknown, allowHttp: boolean): URL {
  if (typeof value !== 'string' || !URL.canParse(value)) throw new TypeError(`${option} must be an absolute URL`)
  const url = new URL(value)
  if (url.username !== '' || url.password !== '' || url.hash !== '') {
    throw new TypeError(`${option} must not have credentials or a fragment`)
  }
  if (url.protocol === 'http:' && !allowHttp && !isLoopback(url.hostname)) {
    throw new TypeError(`${option} must be https; http is only for this machine (or set dangerouslyAllowHttp)`)
  }
  if (url.protocol !== 'https:' && url.protocol !== 'http:') throw new TypeError(`${option} must be an https URL`)
  return url
}

function isLoopback(hostname: string): boolean {
  return /^(localhost|.+\.localhost|127(\.\d+){3}|\[::1\])$/.test(hostname)
}

/** Ports share cookies, so that two apps on one host need different names (T21). */
function suffixOf(issuer: URL, clientId: string): string {
  return createHash('sha256')
    .update(JSON.stringify([issuer.href, clientId]))
    .digest('base64url')
    .slice(0, 8)
}

function checkSuffix(suffix: string): string {
  if (typeof suffix !== 'string' || !/^[\w-]{1,40}$/.test(suffix)) {
    throw new TypeError('cookieSuffix must be 1 to 40 letters, digits, "-" or "_"')
  }
  return suffix
}

// A day lets somebody come back tomorrow morning; a week bounds what a stolen cookie is worth.
export const DEFAULT_ABSOLUTE_LIFETIME: number = 604_800

function checkLifetime(lifetime: { idle?: number; absolute?: number } = {}) {
  const { idle = 86_400, absolute = DEFAULT_ABSOLUTE_LIFETIME, ...others } = lifetime
  const [unknown] = Object.keys(others)
  if (unknown !== undefined) throw new TypeError(`sessionLifetime.${unknown} is not an option of createRelyingParty`)
  checkSeconds('sessionLifetime.idle', idle)
  checkSeconds('sessionLifetime.absolute', absolute)
  if (absolute < idle) throw new TypeError('sessionLifetime.absolute must be at least sessionLifetime.idle')
  return { idle, absolute }
}

function checkAuthMethod(method: 'client_secret_basic' | 'client_secret_post') {
  if (method !== 'client_secret_basic' && method !== 'client_secret_post') {
    throw new TypeError('tokenEndpointAuthMethod must be client_secret_basic or client_secret_post')
  }
  return method
}

const notToSet: ReadonlySet<string> = new Set([
  'client_id',
  'redirect_uri',
  'response_type',
  'response_mode', // the callback takes a query
  'scope',
  'state',
  'nonce',
  'code_challenge',
  'code_challenge_method',
  'request', // holds all of these
  'request_uri',
])

/** A `max_age` is held against the ID Token, so that it is kept apart from what only the OP reads. */
function checkAuthorizationParams(params: Readonly<Record<string, string>> = {}) {
  for (const [name, value] of Object.entries(params)) {
    if (notToSet.has(name)) throw new TypeError(`authorizationParams.${name} must be left out: Lockstep sets it itself`)
    if (typeof value !== 'string') throw new TypeError(`authorizationParams.${name} must be a string`)
  }
  const { max_age: maxAge, ...authorizationParams } = params
  if (maxAge !== undefined && !/^\d{1,9}$/.test(maxAge)) {
    throw new TypeError('authorizationParams.max_age must be a number of seconds, as a string')
  }
  return { authorizationParams, maxAge: maxAge === undefined ? undefined : Number(maxAge) }
}

function checkDecryptionKeys(keys: readonly DecryptionKey[] = []): readonly DecryptionKey[] {
  const isPrivate = ({ key, alg }: DecryptionKey) =>
    key instanceof CryptoKey && key.type === 'private' && typeof alg === 'string'
  if (!Array.isArray(keys) || !keys.every(isPrivate)) {
    throw new TypeError('decryptionKeys must be a list of { key, alg } with private CryptoKeys')
  }
  return keys
}

function checkAllowances(allow: OpAllowances = {}): Required<OpAllowances> {
  const defaults = { logoutTokenWithoutExp: false, logoutTokenWithoutTyp: true, sidReused: false }
  for (const [name, value] of Object.entries(allow)) {
    if (!Object.hasOwn(defaults, name)) throw new TypeError(`allow.${name} is not an option of createRelyingParty`)
    if (typeof value !== 'boolean') throw new TypeError(`allow.${name} must be true or false`)
  }
  return { ...defaults, ...allow }
}

function checkSecrets(
  secret: string | readonly string[] | undefined,
  clientSecret: string | undefined,
): readonly string[] {
  if (secret === undefined) {
    if (clientSecret === undefined) throw new TypeError('secret is needed for a client without clientSecret')
    return [clientSecret]
  }
  const secrets = typeof secret === 'string' ? [secret] : secret
  if (
    !Array.isArray(secrets) ||
    secrets.length === 0 ||
    secrets.some((one) => typeof one !== 'string' || one.length < 32)
  ) {
    throw new TypeError('secret must be a string of at least 32 characters, or a list of such')
  }
  return secrets
}
