import { type CryptoKey, calculateJwkThumbprint, exportJWK, generateKeyPair, SignJWT } from 'jose'
import { type ClientMetadata, type Configuration, errors, type Provider as OidcProvider } from 'oidc-provider'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { authorize, claimsOf } from '../support/op-flow.ts'
import { type RpSite, startRpSite } from '../support/rp-site.ts'
import { slowMemoryAdapter } from '../support/slow-memory-adapter.ts'
import { type RunningOp, startStockOp, startTestOp } from '../support/test-op.ts'
import { createUserAgent } from '../support/user-agent.ts'

/*
 * The same configuration under both imports: in what is not Lockstep's, each answer is the same field by field, header by
 * header. What differs from one run to the next (issuer, random values, times) is put in words before it is compared.
 */

const API = 'https://api.example/'

const configuration: Configuration = {
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    deviceFlow: { enabled: true },
    dPoP: { enabled: true },
    introspection: { enabled: true },
    jwtResponseModes: { enabled: true },
    pushedAuthorizationRequests: { enabled: true },
    registration: { enabled: true, initialAccessToken: 'may register' },
    registrationManagement: { enabled: true },
    revocation: { enabled: true },
    rpInitiatedLogout: { enabled: true },
    backchannelLogout: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_ctx, resource) => {
        if (resource !== API) throw new errors.InvalidTarget()
        return { scope: 'read write', accessTokenFormat: 'jwt', accessTokenTTL: 600 }
      },
      useGrantedResource: () => true,
    },
  },
  enableHttpPostMethods: true,
  scopes: ['openid', 'offline_access', 'profile', 'read', 'write'],
  claims: { openid: ['sub'], profile: ['name'] },
}

const APP = { client_id: 'app', client_secret: 'a secret of the app' }

let ours: RunningOp<OidcProvider>
let stock: RunningOp<OidcProvider>

let rps: RpSite
let callback: string

beforeAll(async () => {
  rps = await startRpSite()
  const app: ClientMetadata = {
    ...rps.client('app'),
    ...APP,
    grant_types: ['authorization_code', 'refresh_token', 'client_credentials'],
  }
  const tv: ClientMetadata = {
    client_id: 'tv',
    token_endpoint_auth_method: 'none',
    grant_types: ['urn:ietf:params:oauth:grant-type:device_code', 'refresh_token'],
    redirect_uris: [],
    response_types: [],
  }
  callback = app.redirect_uris?.[0] ?? ''
  const clients = [app, tv]
  const parts = { clients, configuration }
  ours = await startTestOp({ ...parts, options: { encryptionKeys: [new Uint8Array(32)] } })
  stock = await startStockOp({ ...parts, adapter: slowMemoryAdapter() })
})
afterAll(async () => {
  await rps.close()
  await ours.close()
  await stock.close()
  expect(ours.failures).toEqual([])
  expect(stock.failures).toEqual([])
})

interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: unknown
}

type Op = RunningOp<OidcProvider>
type Params = Readonly<Record<string, string>>

/** Headers that say when and by which connection. */
const OF_THE_MOMENT = ['date', 'connection', 'keep-alive', 'content-length', 'set-cookie', 'transfer-encoding']

async function ask(op: Op, path: string, init: RequestInit = {}): Promise<{ answer: Answer; json: Params }> {
  const response = await fetch(new URL(path, op.issuer), { redirect: 'manual', ...init })
  const text = await response.text()
  const isJson = response.headers.get('content-type')?.includes('json') === true && text !== ''
  const json = isJson ? JSON.parse(text) : {}
  const headers = [...response.headers].filter(([name]) => !OF_THE_MOMENT.includes(name))
  const answer = { status: response.status, headers: Object.fromEntries(headers), body: isJson ? json : text }
  return { answer: inWords(answer, op) as Answer, json }
}

function post(op: Op, path: string, params: Params, headers: Params = {}) {
  return ask(op, path, { method: 'POST', headers, body: new URLSearchParams(params) })
}

/** Says in words what differs from run to run, and nothing else. */
function inWords(value: unknown, op: Op): unknown {
  if (Array.isArray(value)) return value.map((each) => inWords(each, op))
  if (typeof value === 'object' && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, inWords(each, op)]))
  }
  if (typeof value === 'number')
    return Math.abs(value - Date.now() / 1000) < 10 ? 'now' : value > 1e9 ? inTime(value) : value
  if (typeof value !== 'string') return value
  if (/^[\w-]+\.[\w-]+\.[\w-]+$/.test(value)) {
    const [header = ''] = value.split('.')
    const { kid: _ours, ...visible } = JSON.parse(Buffer.from(header, 'base64url').toString()) as { kid?: string }
    return { header: visible, claims: inWords(claimsOf(value), op) }
  }
  return value
    .replaceAll(op.issuer, 'ISSUER')
    .replaceAll(encodeURIComponent(op.issuer), 'ISSUER')
    .replaceAll(/(?<![\w-])[\w-]{43}(?![\w-])/g, 'random 43')
    .replaceAll(/(?<![\w-])[\w-]{21,22}(?![\w-])/g, 'random 21')
    .replaceAll(/\b[B-DF-HJ-NP-TV-XZ]{4}-[B-DF-HJ-NP-TV-XZ]{4}\b/g, 'USER-CODE')
}

/** Seconds from now, to within the time a request takes. */
function inTime(seconds: number): string {
  return `in ${Math.round((seconds - Date.now() / 1000) / 10) * 10} s`
}

/** Both OPs' answers. */
async function both<Result>(flow: (op: Op) => Promise<Result>): Promise<{ ours: Result; stock: Result }> {
  return { ours: await flow(ours), stock: await flow(stock) }
}

async function same(flow: (op: Op) => Promise<unknown>): Promise<void> {
  const found = await both(flow)
  expect(found.ours).toEqual(found.stock)
}

/** The same, but for a member that Lockstep adds, wherever it is. */
function without<Value>(name: string, value: Value): Value {
  return JSON.parse(JSON.stringify(value, (key, each) => (key === name ? undefined : each))) as Value
}

async function codeOf(op: Op, params: Params = {}): Promise<string> {
  const browser = createUserAgent()
  const answer = await authorize(browser, op, { ...APP, redirect_uris: [callback] }, params)
  await browser.close()
  return answer.code
}

const redemption = (code: string) => ({ ...APP, grant_type: 'authorization_code', code, redirect_uri: callback })

describe('a configuration that runs under oidc-provider runs under Lockstep', () => {
  it('discovery differs by what Lockstep adds, and by nothing else', async () => {
    const found = await both(async (op) => (await ask(op, '/.well-known/openid-configuration')).answer)
    const added = {
      check_session_iframe: 'ISSUER/session/check',
      frontchannel_logout_supported: true,
      frontchannel_logout_session_supported: true,
      prompt_values_supported: ['none', 'login', 'consent'],
    }
    expect(found.ours).toEqual({ ...found.stock, body: { ...(found.stock.body as object), ...added } })
  })

  it('keys are of the same kinds', () =>
    same(async (op) => {
      const { keys } = (await ask(op, '/jwks')).json as unknown as { keys: Record<string, string>[] }
      return keys
        .map(({ kid: _kid, n: _n, x: _x, y: _y, ...key }) => key)
        .sort((a, b) => JSON.stringify(a).localeCompare(JSON.stringify(b)))
    }))

  it('client credentials, for a resource and without', () =>
    same(async (op) => [
      (await post(op, '/token', { ...APP, grant_type: 'client_credentials' })).answer,
      (await post(op, '/token', { ...APP, grant_type: 'client_credentials', resource: API, scope: 'read' })).answer,
      (await post(op, '/token', { ...APP, grant_type: 'client_credentials', resource: 'https://other.example/' }))
        .answer,
    ]))

  it('the code flow differs by session_state and sid, and by nothing else', async () => {
    const found = await both(async (op) => {
      const browser = createUserAgent()
      const scope = 'openid profile offline_access'
      const app = { ...APP, redirect_uris: [callback] }
      const { params } = await authorize(browser, op, app, { scope, prompt: 'consent' })
      await browser.close()
      const redirect = inWords(Object.fromEntries(params), op) as Record<string, string>
      const { answer, json } = await post(op, '/token', redemption(params.get('code') ?? ''))
      const authorization = { authorization: `Bearer ${json.access_token}` }
      const userinfo = (await ask(op, '/me', { headers: authorization })).answer
      const refreshing = { ...APP, grant_type: 'refresh_token', refresh_token: json.refresh_token ?? '' }
      const refreshed = (await post(op, '/token', refreshing)).answer
      const again = (await post(op, '/token', redemption(params.get('code') ?? ''))).answer
      const afterwards = (await ask(op, '/me', { headers: authorization })).answer
      return { redirect, answer, userinfo, refreshed, again, afterwards }
    })
    const { session_state: state, ...redirect } = found.ours.redirect
    expect(state).toMatch(/^random 43\.random 21$/)
    expect({ ...without('sid', found.ours), redirect }).toEqual(found.stock)
    for (const { body } of [found.ours.answer, found.ours.refreshed]) {
      expect(body).toMatchObject({ id_token: { claims: { sid: 'random 43' } } })
    }
  })

  it('dPoP-bound tokens, at the token endpoint, at userinfo and, but for sid, at introspection', async () => {
    const { privateKey, publicKey } = await generateKeyPair('ES256', { extractable: true })
    const jwk = await exportJWK(publicKey)
    const thumbprint = await calculateJwkThumbprint(jwk)
    await same(async (op) => {
      const proof = (path: string, method: string, claims = {}) =>
        proofOf(privateKey, jwk, { htm: method, htu: op.issuer + path, ...claims })
      const code = await codeOf(op)
      const { answer, json } = await post(op, '/token', redemption(code), { dpop: await proof('/token', 'POST') })
      const token = json.access_token ?? ''
      const ath = Buffer.from(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(token))).toString(
        'base64url',
      )
      const headers = { authorization: `DPoP ${token}`, dpop: await proof('/me', 'GET', { ath }) }
      const body = answer.body as Record<string, unknown>
      const { id_token: _compared, ...rest } = body
      const introspected = await post(op, '/token/introspection', { ...APP, token })
      expect((introspected.json as { cnf?: unknown }).cnf).toEqual({ jkt: thumbprint })
      return [
        { ...answer, body: rest },
        (await ask(op, '/me', { headers })).answer,
        (await ask(op, '/me', { headers: { authorization: `Bearer ${token}` } })).answer,
        without('sid', introspected.answer),
        (await post(op, '/token', redemption('no code'), { dpop: 'no proof' })).answer,
      ]
    })
  })

  it('introspection, but for sid, and revocation, of what lives, of what was revoked, and of nothing', () =>
    same(async (op) => {
      const { json } = await post(
        op,
        '/token',
        redemption(await codeOf(op, { scope: 'openid offline_access', prompt: 'consent' })),
      )
      const about = async (token = '') =>
        without('sid', (await post(op, '/token/introspection', { ...APP, token })).answer)
      const before = [await about(json.access_token), await about(json.refresh_token)]
      const revoked = (await post(op, '/token/revocation', { ...APP, token: json.refresh_token ?? '' })).answer
      return [before, revoked, await about(json.access_token), await about(json.refresh_token), await about('nothing')]
    }))

  it('pushed authorization requests', () =>
    same(async (op) => {
      const asked = { ...APP, response_type: 'code', redirect_uri: callback, scope: 'openid', state: 'pushed' }
      const { answer, json } = await post(op, '/request', asked)
      const code = await codeOf(op, { request_uri: json.request_uri ?? '' })
      const { answer: redeemed } = await post(op, '/token', redemption(code))
      const wrong = (await post(op, '/request', { ...asked, redirect_uri: 'https://other.example/' })).answer
      expect(redeemed.status).toBe(200)
      return [answer, Object.keys(redeemed.body as object).sort(), wrong]
    }))

  it('the device flow', () =>
    same(async (op) => {
      const { answer, json } = await post(op, '/device/auth', { client_id: 'tv', scope: 'openid' })
      const grant_type = 'urn:ietf:params:oauth:grant-type:device_code'
      const poll = async () =>
        (await post(op, '/token', { client_id: 'tv', grant_type, device_code: json.device_code ?? '' })).answer
      const pending = await poll()
      const browser = createUserAgent()
      const page = await browser.open(json.verification_uri_complete ?? '')
      const asked = await browser.submit(page, {}, '/device')
      const done = asked.body.includes('<form') ? await browser.submit(asked, {}, '/device') : asked
      await browser.close()
      const tokens = await poll()
      expect(tokens.body).toMatchObject({ access_token: 'random 43', scope: 'openid' })
      return [answer, pending, done.status, Object.keys(tokens.body as object).sort(), await poll()]
    }))

  it('registration: what a client registers, reads, changes and deletes', () =>
    same(async (op) => {
      const metadata = { client_name: 'New', redirect_uris: ['https://new.example/cb'] }
      const send = (path: string, method: string, token: string, body?: object) =>
        ask(op, path, {
          method,
          headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
          ...(body && { body: JSON.stringify(body) }),
        })
      const { answer, json } = await send('/reg', 'POST', 'may register', metadata)
      const path = `/reg/${json.client_id}`
      const token = json.registration_access_token ?? ''
      const {
        registration_access_token: _t,
        registration_client_uri: _u,
        client_secret_expires_at: _e,
        client_id_issued_at: _i,
        ...kept
      } = json
      return [
        answer,
        (await send(path, 'GET', token)).answer,
        (await send(path, 'PUT', token, { ...kept, client_name: 'Newer' })).answer,
        (await send('/reg', 'POST', 'may not', metadata)).answer,
        (await send('/reg', 'POST', 'may register', { redirect_uris: ['no uri'] })).answer,
        (await send(path, 'DELETE', token)).answer,
        (await send(path, 'GET', token)).answer,
      ]
    }))

  it.each<[string, (op: Op) => ReturnType<typeof ask>]>([
    ['an unknown path', (op) => ask(op, '/nowhere')],
    [
      'a wrong client secret',
      (op) => post(op, '/token', { ...APP, client_secret: 'wrong', grant_type: 'client_credentials' }),
    ],
    ['a code that never was', (op) => post(op, '/token', redemption('nothing'))],
    ['a grant type that is not supported', (op) => post(op, '/token', { ...APP, grant_type: 'password' })],
    ['a parameter that comes twice', (op) => ask(op, '/auth?client_id=app&client_id=app')],
    ['a client that is not known', (op) => ask(op, '/auth?client_id=nobody&response_type=code&scope=openid')],
    [
      'a redirect URI of somebody else',
      (op) => ask(op, '/auth?client_id=app&response_type=code&redirect_uri=https://x.example/'),
    ],
    ['userinfo without a token', (op) => ask(op, '/me')],
    ['userinfo with a wrong one', (op) => ask(op, '/me', { headers: { authorization: 'Bearer wrong' } })],
    [
      'a CORS preflight',
      (op) =>
        ask(op, '/token', {
          method: 'OPTIONS',
          headers: { origin: 'https://app.example', 'access-control-request-method': 'POST' },
        }),
    ],
    [
      'a JSON body where a form belongs',
      (op) => ask(op, '/token', { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{}' }),
    ],
  ])('the answer to %s', (_name, flow) => same(async (op) => (await flow(op)).answer))
})

function proofOf(key: CryptoKey, jwk: object, claims: Record<string, string>): Promise<string> {
  return new SignJWT({ ...claims, jti: crypto.randomUUID() })
    .setProtectedHeader({ alg: 'ES256', typ: 'dpop+jwt', jwk })
    .setIssuedAt()
    .sign(key)
}
