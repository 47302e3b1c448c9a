import { type ClientMetadata, errors } from 'oidc-provider'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { checkLogoutMetadata } from '../../../src/op/clients/logout-metadata.ts'
import { startRpSite } from '../../support/rp-site.ts'
import { startTestOp, type TestOp } from '../../support/test-op.ts'

const app = { redirect_uris: ['https://app.example/cb', 'https://app.example:8443/cb', 'https://[::1]/cb'] }
const operators = { issuer: 'https://op.example', registersItself: false, allowsForeignLogoutUri: false }
const own = { ...operators, registersItself: true }
const development = { ...own, issuer: 'http://localhost:4000', allowsForeignLogoutUri: true }

function check(metadata: object, registration = operators): ClientMetadata {
  const whole: ClientMetadata = {
    client_id: 'app',
    ...app,
    token_endpoint_auth_method: 'client_secret_basic',
    ...metadata,
  }
  checkLogoutMetadata(whole, registration)
  return whole
}

/** The rule by which a client is refused. */
function rule(metadata: object, registration = operators): string | undefined {
  try {
    check(metadata, registration)
    return undefined
  } catch (error) {
    return error instanceof errors.InvalidClientMetadata ? error.error_description : String(error)
  }
}

describe('a frontchannel_logout_uri', () => {
  it.each([
    'https://app.example/out',
    'https://app.example/out?tenant=7&x=%20',
    'https://APP.example:443/out',
    'https://app.example:8443/out',
  ])('is taken when it shares scheme, host and port with a redirect URI: %s [FCL-2-a] [FCL-2-b]', (uri) => {
    expect(check({ frontchannel_logout_uri: uri }).frontchannel_logout_uri).toBe(uri)
    expect(() => check({ frontchannel_logout_uri: uri }, own)).not.toThrow()
  })

  it.each<[string, unknown]>([
    ['of another host', 'https://other.example/out'],
    ['of a host below', 'https://logout.app.example/out'],
    ['of another port', 'https://app.example:444/out'],
    ['of another scheme', 'http://app.example/out'],
    ['with a fragment', 'https://app.example/out#top'],
    ['with an empty fragment', 'https://app.example/out#'],
    ['at an IPv6 address', 'https://[::1]/out'],
    ['with a user name and a password', 'https://mallory:pw@app.example/out'],
    ['with a user name', 'https://mallory@app.example/out'],
    ['with a password', 'https://:pw@app.example/out'],
    ['that is relative', '/out'],
    ['without a scheme', '//app.example/out'],
    ['that is a script', 'javascript:alert(1)'],
    ['that is data', 'data:text/html,hello'],
    ['that is no string', 42],
    ['that is null', null],
    ['that is empty', ''],
  ])('%s is refused [FCL-2-a] [FCL-2-b] [E13]', (_what, uri) => {
    expect(() => check({ frontchannel_logout_uri: uri })).toThrow(errors.InvalidClientMetadata)
  })

  it('with a host that would widen the page’s Content-Security-Policy is refused [T15]', () => {
    const redirect_uris = ['https://*.example/cb']
    expect(rule({ redirect_uris, frontchannel_logout_uri: 'https://*.example/out' })).toContain('one host')
  })

  it('takes http only for a confidential client of an http OP: an https page cannot frame it [FCL-2-i] [E13]', () => {
    const plain = { redirect_uris: ['http://app.localhost/cb'], frontchannel_logout_uri: 'http://app.localhost/out' }
    expect(() => check(plain, development)).not.toThrow()
    expect(rule(plain, operators)).toContain('must be https')
    expect(rule({ ...plain, token_endpoint_auth_method: 'none' }, development)).toContain('must be https')
  })
})

describe('frontchannel_logout_session_required', () => {
  it('is false unless it is said [FCL-2-j]', () => {
    expect(check({}).frontchannel_logout_session_required).toBe(false)
    expect(check({ frontchannel_logout_session_required: true }).frontchannel_logout_session_required).toBe(true)
  })

  it.each(['true', 1, null, {}])('that is no boolean is refused: %j [FCL-2-j]', (value) => {
    expect(() => check({ frontchannel_logout_session_required: value })).toThrow(errors.InvalidClientMetadata)
  })
})

describe('a backchannel_logout_uri', () => {
  it.each<[string, unknown]>([
    ['with a fragment', 'https://app.example/out#x'],
    ['that is relative', '/out'],
    ['that is a script', 'javascript:alert(1)'],
    ['with a user name and a password', 'https://mallory:pw@app.example/out'],
    ['with a user name', 'https://mallory@app.example/out'],
  ])('%s is refused [BCL-2.2-a] [E13]', (_what, uri) => {
    expect(() => check({ backchannel_logout_uri: uri })).toThrow(errors.InvalidClientMetadata)
  })

  it('may be on any host, and http for a confidential client that the operator wrote down [BCL-2.2-a]', () => {
    expect(() => check({ backchannel_logout_uri: 'https://elsewhere.example/out' })).not.toThrow()
    expect(() => check({ backchannel_logout_uri: 'http://10.0.0.7/out' })).not.toThrow()
  })

  it('shares scheme, host and port with a redirect URI of a client that registers itself [T8]', () => {
    expect(() => check({ backchannel_logout_uri: 'https://app.example/out?x' }, own)).not.toThrow()
    expect(() => check({ backchannel_logout_uri: 'https://app.example:8443/out' }, own)).not.toThrow()
    for (const victim of ['https://victim.example/', 'https://logout.app.example/', 'https://app.example:444/out']) {
      expect(rule({ backchannel_logout_uri: victim }, own)).toContain('share scheme, host and port')
      expect(rule({ backchannel_logout_uri: victim, redirect_uris: ['com.example.app:/cb'] }, own)).toContain('share')
      expect(() => check({ backchannel_logout_uri: victim }, { ...own, allowsForeignLogoutUri: true })).not.toThrow()
    }
  })

  it('is https for public clients, and for all that register themselves [E13] [T24]', () => {
    const plain = { backchannel_logout_uri: 'http://10.0.0.7/out' }
    expect(rule({ ...plain, token_endpoint_auth_method: 'none' })).toContain('must be https')
    expect(rule(plain, own)).toContain('must be https')
    expect(() => check(plain, development)).not.toThrow()
  })
})

describe('Dynamic Client Registration', () => {
  let op: TestOp
  beforeAll(async () => {
    const registration = { enabled: true, initialAccessToken: 'who-may-register' }
    op = await startTestOp({
      clients: [],
      options: { encryptionKeys: [new Uint8Array(32).fill(1)] },
      configuration: {
        features: {
          devInteractions: { enabled: false },
          registration,
          registrationManagement: { enabled: true },
        },
      },
    })
  })
  afterAll(() => op.close())

  const register = async (metadata: object) => {
    const response = await fetch(`${op.issuer}/reg`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: 'Bearer who-may-register' },
      body: JSON.stringify({ ...app, ...metadata }),
    })
    return { status: response.status, body: (await response.json()) as Record<string, unknown> }
  }

  it('takes nobody without the initial access token [T8]', async () => {
    const response = await fetch(`${op.issuer}/reg`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(app),
    })
    expect(response.status).toBe(401)
    expect(await response.json()).not.toHaveProperty('client_id')
  })

  it('holds a client to the same rules when it changes its registration [T8]', async () => {
    const { body } = await register({ backchannel_logout_uri: 'https://app.example/out' })
    const { registration_access_token: token, registration_client_uri: uri, ...metadata } = body
    for (const gone of ['client_secret_expires_at', 'client_id_issued_at']) delete metadata[gone]
    const response = await fetch(String(uri), {
      method: 'PUT',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${token}` },
      body: JSON.stringify({ ...metadata, backchannel_logout_uri: 'https://victim.example/' }),
    })
    expect(response.status).toBe(400)
    expect(await response.json()).toMatchObject({ error: 'invalid_client_metadata' })
  })

  it('repeats what was registered, also when it is read again [FCL-2-j]', async () => {
    const metadata = { frontchannel_logout_uri: 'https://app.example/out', frontchannel_logout_session_required: true }
    const { status, body } = await register(metadata)
    expect(status).toBe(201)
    expect(body).toMatchObject(metadata)
    const again = await fetch(String(body.registration_client_uri), {
      headers: { authorization: `Bearer ${body.registration_access_token}` },
    })
    expect(await again.json()).toMatchObject(metadata)
  })

  it.each([
    { frontchannel_logout_uri: 'https://other.example/out' },
    { frontchannel_logout_uri: 'https://app.example/out#x' },
    { frontchannel_logout_uri: '/out' },
    { frontchannel_logout_uri: 'https://mallory:pw@app.example/out' },
    { backchannel_logout_uri: 'https://mallory:pw@app.example/out' },
    { frontchannel_logout_session_required: 'yes' },
    { backchannel_logout_uri: 'https://app.example/out#x' },
    { backchannel_logout_uri: 'https://victim.example/' },
    { backchannel_logout_uri: 'http://app.example/out', token_endpoint_auth_method: 'none' },
    { initiate_login_uri: 'http://app.example/start' },
  ])('answers %j with 400 invalid_client_metadata [E13] [T8] [oidcc-3rd_party-init-login-nohttps]', async (metadata) => {
    expect(await register(metadata)).toMatchObject({ status: 400, body: { error: 'invalid_client_metadata' } })
  })

  it('repeats an https initiate_login_uri, also when it is read again [CORE-4-a] [oidcc-3rd_party-init-login]', async () => {
    const metadata = { initiate_login_uri: 'https://app.example/start?tenant=7' }
    const { status, body } = await register(metadata)
    expect(status).toBe(201)
    expect(body).toMatchObject(metadata)
    const again = await fetch(String(body.registration_client_uri), {
      headers: { authorization: `Bearer ${body.registration_access_token}` },
    })
    expect(again.status).toBe(200)
    expect(await again.json()).toMatchObject(metadata)
  })
})

describe('a client that the operator wrote down', () => {
  it('is held to the same rules [E13]', async () => {
    const rps = await startRpSite()
    const named = (uri: string) => uri.replace('://', '://mallory:pw@')
    const wrong = [
      { frontchannel_logout_uri: 'http://elsewhere.localhost/out' },
      { frontchannel_logout_uri: named(`${rps.origin('app1')}/out`) },
      { backchannel_logout_uri: named(`${rps.origin('app2')}/out`) },
    ]
    const op = await startTestOp({ clients: wrong.map((metadata, i) => rps.client(`app${i}`, metadata)) })
    for (const i of wrong.keys()) {
      await expect(op.provider.Client.find(`app${i}`)).rejects.toThrow(errors.InvalidClientMetadata)
    }
    await op.close()
    await rps.close()
  })
})
