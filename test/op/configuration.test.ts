import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type Configuration, errors, interactionPolicy } from 'oidc-provider'
import { afterEach, describe, expect, it } from 'vitest'
import { type LockstepOptions, openSecrets, Provider } from '../../src/op.ts'
import { sqliteStore } from '../../src/op-sqlite.ts'
import { authorize } from '../support/op-flow.ts'
import { startRpSite } from '../support/rp-site.ts'
import { startTestOp } from '../support/test-op.ts'
import { createUserAgent } from '../support/user-agent.ts'

const issuer = 'https://op.example'
const encryptionKeys = [new Uint8Array(32).fill(1)]
const keys = { cookies: { keys: ['a key'] } }
const { jwks } = await openSecrets(sqliteStore(':memory:'), issuer)
const opened: { close(): Promise<unknown> }[] = []
afterEach(async () => {
  for (const each of opened.splice(0).reverse()) await each.close()
})

function construct(configuration: Configuration, options: Partial<LockstepOptions> = {}, url = issuer): Provider {
  const store = sqliteStore(':memory:')
  opened.push(store)
  const features = { devInteractions: { enabled: false }, ...configuration.features }
  const provider = new Provider(
    url,
    { jwks: { keys: [...jwks.keys] }, ...configuration, features },
    { store, ...options },
  )
  opened.push(provider)
  return provider
}

async function discoveryOf(provider: Provider): Promise<Record<string, unknown>> {
  const server = createServer(provider.callback())
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const response = await fetch(`http://127.0.0.1:${port}/.well-known/openid-configuration`)
  server.close()
  return (await response.json()) as Record<string, unknown>
}

async function metadata(configuration: Configuration): Promise<Record<string, unknown>> {
  const op = await startTestOp({ clients: [], configuration })
  opened.push(op)
  const response = await fetch(`${op.issuer}/.well-known/openid-configuration`)
  return { issuer: op.issuer, ...((await response.json()) as Record<string, unknown>) }
}

describe('a configuration that contradicts Lockstep', () => {
  it.each<[string, Configuration]>([
    ['adapter', { ...keys, adapter: class {} as never }],
    ['enableHttpPostMethods', { ...keys, enableHttpPostMethods: false }],
    ['cookies.long.sameSite', { cookies: { ...keys.cookies, long: { sameSite: 'strict' } } }],
    ['cookies.long.secure', { cookies: { ...keys.cookies, long: { secure: false } } }],
    ['cookies.keys', {}],
    ['cookies.keys', { cookies: { keys: [] } }],
    ['features.rpInitiatedLogout.enabled', { ...keys, features: { rpInitiatedLogout: { enabled: false } } }],
    ['features.backchannelLogout.enabled', { ...keys, features: { backchannelLogout: { enabled: false } } }],
    [
      'features.clientIdMetadataDocument.enabled',
      { ...keys, features: { clientIdMetadataDocument: { enabled: true, ack: 'draft-02' } } },
    ],
  ])('is refused with a TypeError that names %s [T21]', (key, configuration) => {
    expect(() => construct(configuration)).toThrow(TypeError)
    expect(() => construct(configuration)).toThrow(`configuration.${key} `)
  })

  it('is told why the OP cookie cannot be Strict, and what to do instead [T5]', () => {
    const strict: Configuration = { cookies: { ...keys.cookies, long: { sameSite: 'strict' } } }
    for (const said of ['"none" (the default) or "lax"', 'signed in at the OP', 'docs/mounting.md']) {
      expect(() => construct(strict)).toThrow(said)
    }
  })

  it('is not one that says what Lockstep says', () => {
    const agreeing: Configuration = {
      enableHttpPostMethods: true,
      cookies: { keys: ['a key'], long: { sameSite: 'none', secure: true } },
      features: { rpInitiatedLogout: { enabled: true }, backchannelLogout: { enabled: true } },
    }
    expect(() => construct(agreeing)).not.toThrow()
  })
})

describe('an option of Lockstep', () => {
  it.each<[string, unknown]>([
    ['store', { store: undefined }],
    ['store', { store: {} }],
    ['egress.allow', { egress: { allow: '127.0.0.1' } }],
    ['egress.allow', { egress: { allow: [127] } }],
    ['egress must', { egress: null }],
    ['egress must', { egress: ['127.0.0.1'].join() }],
    ['"egress.alow"', { egress: { alow: [] } }],
    ['backchannel must', { backchannel: null }],
    ['runtime must', { runtime: 5 }],
    ['sessionLifetime', { sessionLifetime: 0 }],
    ['sessionLifetime', { sessionLifetime: Number.NaN }],
    ['sessionLifetime', { sessionLifetime: '3600' }],
    ['sessionLifetime', { sessionLifetime: true }],
    ['egress must', { egress: [] }],
    ['retention must', { retention: 5 }],
    ['retention.attempts', { retention: { attempts: '60' } }],
    ['sweep must', { sweep: null }],
    ['sweep.interval', { sweep: { interval: '60' } }],
    ['sweep.perSecond', { sweep: { perSecond: '250' } }],
    ['logout must', { logout: null }],
    ['logout.pages must', { logout: { pages: null } }],
    ['silentChecks.perSession', { silentChecks: { perSession: '120' } }],
    ['backchannel.timeout', { backchannel: { timeout: '5' } }],
    ['backchannel.horizon', { backchannel: { horizon: '900' } }],
    ['backchannel.ratePerRp', { backchannel: { ratePerRp: '250' } }],
    ['backchannel.stopTimeout', { backchannel: { stopTimeout: '5' } }],
    ['log', { log: 'stderr' }],
    ['"sesionLifetime"', { sesionLifetime: 60 }],
    ['backchannel.timeout', { backchannel: { timeout: 0 } }],
  ])('that is wrong is a TypeError that names %s', (name, options) => {
    expect(() => construct(keys, options as Partial<LockstepOptions>)).toThrow(TypeError)
    expect(() => construct(keys, options as Partial<LockstepOptions>)).toThrow(name)
  })

  it('is missed with a sentence when there are none at all', () => {
    expect(() => Reflect.construct(Provider, [issuer, keys])).toThrow('store is missing')
  })
})

describe('the cookies of an OP', () => {
  const namesOf = (configuration: Configuration, url?: string) =>
    construct({ ...keys, ...configuration }, {}, url).cookieName('session')

  it('carry __Host- and the issuer in their names, so that nobody plants or overwrites them [T21]', () => {
    expect(namesOf({})).toMatch(/^__Host-op_session\.[\w-]{8}$/)
    expect(namesOf({}, 'https://op.example')).not.toBe(namesOf({}, 'https://op.example/tenant'))
    expect(namesOf({}, 'http://localhost:4000')).not.toBe(namesOf({}, 'http://localhost:5000'))
  })

  it('carry __Secure- where they are bound to a path or a domain [T21]', () => {
    expect(namesOf({ cookies: { ...keys.cookies, long: { path: '/oidc' } } })).toMatch(/^__Secure-/)
    expect(namesOf({ cookies: { ...keys.cookies, long: { domain: 'op.example' } } })).toMatch(/^__Secure-/)
  })

  it('keep a name that the operator chose', () => {
    expect(namesOf({ cookies: { ...keys.cookies, names: { session: 'mine' } } })).toBe('mine')
  })
})

describe('the discovery document', () => {
  it('names the OP iframe and the Logout Endpoint, and says that logouts are delivered with sid [SM-3.3-a] [RPI-2.1-a] [BCL-2.1-a]', async () => {
    const document = await metadata({})
    expect(document).toMatchObject({
      check_session_iframe: `${document.issuer}/session/check`,
      end_session_endpoint: `${document.issuer}/session/end`,
      backchannel_logout_supported: true,
      backchannel_logout_session_supported: true,
      authorization_response_iss_parameter_supported: true,
    })
  })

  it('keeps what the operator adds to it', async () => {
    const document = await metadata({ discovery: { service_documentation: 'https://docs.example' } })
    expect(document.service_documentation).toBe('https://docs.example')
    expect(document.check_session_iframe).toBe(`${document.issuer}/session/check`)
  })

  it('joins an issuer with a trailing slash and the path of the OP iframe by one slash', async () => {
    const provider = construct(keys, {}, 'https://op.example/')
    expect(await discoveryOf(provider)).toMatchObject({ check_session_iframe: 'https://op.example/session/check' })
  })
})

describe('lockstep_logout_details', () => {
  it('is granted by the operator in the metadata of a client', async () => {
    const rps = await startRpSite()
    opened.push(rps)
    const op = await startTestOp({
      clients: [rps.client('notes', { lockstep_logout_details: true }), rps.client('mail')],
    })
    opened.push(op)
    expect((await op.provider.Client.find('notes'))?.lockstep_logout_details).toBe(true)
    expect((await op.provider.Client.find('mail'))?.lockstep_logout_details).toBe(false)
  })

  it('that is no boolean makes the client invalid', async () => {
    const rps = await startRpSite()
    opened.push(rps)
    const op = await startTestOp({ clients: [rps.client('notes', { lockstep_logout_details: 'yes' })] })
    opened.push(op)
    await expect(op.provider.Client.find('notes')).rejects.toThrow(errors.InvalidClientMetadata)
  })

  it('cannot be taken by a client that registers itself', async () => {
    const op = await startTestOp({
      clients: [],
      configuration: { features: { devInteractions: { enabled: false }, registration: { enabled: true } } },
      options: { encryptionKeys, egress: { allow: ['127.0.0.1'] }, registration: { dangerouslyAllowAnyone: true } },
    })
    opened.push(op)
    const register = async (more: object) => {
      const response = await fetch(`${op.issuer}/reg`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ redirect_uris: ['https://rp.example/cb'], ...more }),
      })
      return { status: response.status, body: (await response.json()) as Record<string, unknown> }
    }
    expect(await register({ lockstep_logout_details: true })).toMatchObject({
      status: 400,
      body: { error: 'invalid_client_metadata' },
    })
    expect(await register({ lockstep_logout_details: false })).toMatchObject({ status: 201 })
    expect(await register({})).toMatchObject({ status: 201, body: { lockstep_logout_details: false } })
  })

  it('leaves the operator his own client metadata and their validator', async () => {
    const rps = await startRpSite()
    opened.push(rps)
    const extraClientMetadata: Configuration['extraClientMetadata'] = {
      properties: ['tier'],
      validator: (_ctx, key, value) => {
        if (key !== 'tier') throw new Error(`asked about ${key}`)
        if (value !== undefined && value !== 'gold') throw new errors.InvalidClientMetadata('tier must be gold')
      },
    }
    const clients = [rps.client('notes', { tier: 'gold' }), rps.client('mail', { tier: 'tin' })]
    const op = await startTestOp({ clients, configuration: { extraClientMetadata } })
    opened.push(op)
    expect((await op.provider.Client.find('notes'))?.tier).toBe('gold')
    await expect(op.provider.Client.find('mail')).rejects.toThrow(errors.InvalidClientMetadata)
  })
})

describe('lockstep_first_party', () => {
  it('cannot be taken by a client that registers itself, nor by one that updates its registration [T13]', async () => {
    const op = await startTestOp({
      clients: [],
      configuration: {
        features: {
          devInteractions: { enabled: false },
          registration: { enabled: true },
          registrationManagement: { enabled: true },
        },
      },
      options: { encryptionKeys, registration: { dangerouslyAllowAnyone: true } },
    })
    opened.push(op)
    const send = async (url: string, method: string, body: object, token = '') => {
      const headers = { 'content-type': 'application/json', ...(token && { authorization: `Bearer ${token}` }) }
      const response = await fetch(url, { method, headers, body: JSON.stringify(body) })
      return { status: response.status, body: (await response.json()) as Record<string, unknown> }
    }
    const redirect_uris = ['https://rp.example/cb']
    const refused = { status: 400, body: { error: 'invalid_client_metadata' } }
    const reg = `${op.issuer}/reg`
    expect(await send(reg, 'POST', { redirect_uris, lockstep_first_party: true })).toMatchObject(refused)
    const { status, body } = await send(reg, 'POST', { redirect_uris })
    expect([status, body.lockstep_first_party]).toEqual([201, false])
    const { client_id, client_secret, registration_access_token, registration_client_uri } = body
    const update = { client_id, client_secret, redirect_uris, lockstep_first_party: true }
    expect(await send(String(registration_client_uri), 'PUT', update, String(registration_access_token))).toMatchObject(
      refused,
    )
    expect((await op.provider.Client.find(String(client_id)))?.lockstep_first_party).toBe(false)
  })
})

describe('client metadata about the reasons of logouts', () => {
  const granted = { lockstep_ignored_causes: ['expired'], lockstep_logout_reason: true } as const

  it('is granted by the operator [T30]', async () => {
    const rps = await startRpSite()
    opened.push(rps)
    const op = await startTestOp({ clients: [rps.client('notes', granted), rps.client('mail')] })
    opened.push(op)
    expect(await op.provider.Client.find('notes')).toMatchObject(granted)
    const none = { lockstep_ignored_causes: [], lockstep_logout_reason: false, lockstep_revoke_offline_access: false }
    expect(await op.provider.Client.find('mail')).toMatchObject(none)
  })

  it.each([
    { lockstep_ignored_causes: 'expired' },
    { lockstep_ignored_causes: ['boredom'] },
    { lockstep_logout_reason: 'yes' },
    { lockstep_revoke_offline_access: 1 },
  ])('%j makes the client invalid', async (wrong) => {
    const rps = await startRpSite()
    opened.push(rps)
    const op = await startTestOp({ clients: [rps.client('notes', wrong)] })
    opened.push(op)
    await expect(op.provider.Client.find('notes')).rejects.toThrow(errors.InvalidClientMetadata)
  })

  it('cannot be taken by a client that registers itself, which may only ask to hear of revoked tokens [T30]', async () => {
    const op = await startTestOp({
      clients: [],
      configuration: { features: { devInteractions: { enabled: false }, registration: { enabled: true } } },
      options: { encryptionKeys, egress: { allow: ['127.0.0.1'] }, registration: { dangerouslyAllowAnyone: true } },
    })
    opened.push(op)
    const register = async (more: object): Promise<number> => {
      const body = JSON.stringify({ redirect_uris: ['https://rp.example/cb'], ...more })
      const headers = { 'content-type': 'application/json' }
      return (await fetch(`${op.issuer}/reg`, { method: 'POST', headers, body })).status
    }
    expect(await register({ lockstep_ignored_causes: ['expired'] })).toBe(400)
    expect(await register({ lockstep_logout_reason: true })).toBe(400)
    expect(await register({ lockstep_revoke_offline_access: true, lockstep_ignored_causes: [] })).toBe(201)
  })
})

describe('an interaction policy of the operator', () => {
  it('keeps its prompts, and the step that Lockstep adds cannot be asked for [PC §4]', async () => {
    const policy = interactionPolicy.base()
    policy.add(new interactionPolicy.Prompt({ name: 'create', requestable: true }), 0)
    const names = policy.map(({ name }) => name)
    const rps = await startRpSite()
    const browser = createUserAgent()
    opened.push(rps, browser)
    const notes = rps.client('notes')
    const prompts: string[] = []
    const op = await startTestOp({
      clients: [notes],
      configuration: { interactions: { policy, url: (_ctx, { uid }) => `/interaction/${uid}` } },
      interact: ({ prompt }) => {
        prompts.push(prompt.name)
        return { create: {}, login: { accountId: 'ada' } }
      },
    })
    opened.push(op)
    expect(policy.map(({ name }) => name)).toEqual(names)
    expect((await authorize(browser, op, notes, { prompt: 'create' })).code).toMatch(/./)
    expect(prompts).toEqual(['create'])
    const { page } = await authorize(browser, op, notes, { prompt: 'lockstep_record_login' })
    expect(page.status).toBe(400)
    expect(page.body).toContain('invalid_request')
  })
})

describe('Dynamic Client Registration', () => {
  const features = (registration: object) => ({ features: { registration }, ...keys })

  it('is off unless the operator switches it on [T8]', async () => {
    expect(await metadata({})).not.toHaveProperty('registration_endpoint')
  })

  it('wants an initial access token, or the operator to say that anybody may register [T8]', () => {
    const open = features({ enabled: true })
    expect(() => construct(open)).toThrow('features.registration.initialAccessToken')
    expect(() => construct(features({ enabled: true, initialAccessToken: '' }))).toThrow(TypeError)
    expect(() =>
      construct(features({ enabled: true, initialAccessToken: 'a secret' }), { encryptionKeys }),
    ).not.toThrow()
    expect(() => construct(features({ enabled: true, initialAccessToken: true }), { encryptionKeys })).not.toThrow()
    expect(() => construct(open, { encryptionKeys, registration: { dangerouslyAllowAnyone: true } })).not.toThrow()
  })

  it('wants keys to encrypt the secrets of clients under, and so does the CIBA ping mode [T6]', () => {
    const registration = { enabled: true, initialAccessToken: 'a secret' }
    expect(() => construct(features(registration))).toThrow('features.registration needs the option encryptionKeys')
    const ciba = {
      enabled: true,
      deliveryModes: ['poll', 'ping'],
      processLoginHint: async () => 'ada',
      validateRequestContext: async () => {},
      validateBindingMessage: async () => {},
      verifyUserCode: async () => {},
      triggerAuthenticationDevice: async () => {},
    } satisfies NonNullable<Configuration['features']>['ciba']
    expect(() => construct({ features: { ciba }, ...keys })).toThrow('features.ciba.deliveryModes needs the option')
    for (const wrong of [[new Uint8Array(16)], ['a'.repeat(32)], new Uint8Array(32)]) {
      expect(() => construct(keys, { encryptionKeys: wrong as Uint8Array[] })).toThrow('encryptionKeys must be')
    }
  })

  it('takes a logout URI of another origin only where the operator says so [T8]', async () => {
    const elsewhere = { redirect_uris: ['https://rp.example/cb'], backchannel_logout_uri: 'https://victim.example/' }
    for (const [dangerouslyAllowForeignLogoutUri, status] of [
      [false, 400],
      [true, 201],
    ] as const) {
      const op = await startTestOp({
        clients: [],
        configuration: { features: { devInteractions: { enabled: false }, registration: { enabled: true } } },
        options: { encryptionKeys, registration: { dangerouslyAllowAnyone: true, dangerouslyAllowForeignLogoutUri } },
      })
      opened.push(op)
      const headers = { 'content-type': 'application/json' }
      const response = await fetch(`${op.issuer}/reg`, { method: 'POST', headers, body: JSON.stringify(elsewhere) })
      expect(response.status).toBe(status)
    }
  })

  it.each<[string, object]>([
    ['registration.dangerouslyAllowAnybody', { dangerouslyAllowAnybody: true }],
    ['registration.dangerouslyAllowAnyone', { dangerouslyAllowAnyone: 'yes' }],
  ])('names the option that is wrong: %s', (name, registration) => {
    expect(() => construct(keys, { registration })).toThrow(name)
  })
})

describe('egress options', () => {
  it.each<[string, object]>([
    ['egress.allow', { allow: '10.0.0.0/8' }],
    ['egress.allowed', { allowed: [] }],
    ['egress.proxy', { proxy: 'socks5://user:hush@proxy.example' }],
    ['egress.proxy', { proxy: 'http://user:hush@proxy.example/path' }],
    ['egress.proxy', { proxy: 'proxy.example:3128' }],
    ['egress.proxyEnforces', { proxyEnforces: true }],
    ['egress.proxyEnforces', { proxy: 'http://proxy.example', proxyEnforces: 'yes' }],
  ])('name the one that is wrong, and no password: %s', (name, egress) => {
    expect(() => construct(keys, { egress })).toThrow(name)
    expect(() => construct(keys, { egress })).not.toThrow('hush')
  })
})
