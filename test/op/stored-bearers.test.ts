import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { jwtVerify } from 'jose'
import type { Configuration } from 'oidc-provider'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { OpStore } from '../../src/op.ts'
import { sqliteStore } from '../../src/op-sqlite.ts'
import { authorize, logIn, redeem } from '../support/op-flow.ts'
import { type RpSite, startRpSite } from '../support/rp-site.ts'
import { startTestOp, type TestOp } from '../support/test-op.ts'
import { createUserAgent, type UserAgent } from '../support/user-agent.ts'

const [oldKey, newKey] = [new Uint8Array(32).fill(1), new Uint8Array(32).fill(2)]
const features: NonNullable<Configuration['features']> = {
  devInteractions: { enabled: false },
  registration: { enabled: true, initialAccessToken: true },
  registrationManagement: { enabled: true, rotateRegistrationAccessToken: false },
}
const port = 0
let folder: string
let store: OpStore
let rps: RpSite
let browser: UserAgent
let op: TestOp

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lockstep-bearers-'))
  store = sqliteStore(join(folder, 'op.db'))
  rps = await startRpSite()
  browser = createUserAgent()
  op = await start([oldKey])
})
afterEach(async () => {
  await op.close()
  await store.close()
  await browser.close()
  await rps.close()
  await rm(folder, { recursive: true })
})

function start(encryptionKeys: Uint8Array[], at = port): Promise<TestOp> {
  const enabledJWA = { idTokenSigningAlgValues: ['RS256' as const, 'HS256' as const] }
  return startTestOp({
    clients: [],
    store,
    port: at,
    configuration: { features, enabledJWA },
    options: { encryptionKeys },
  })
}

/** The same OP, as after a restart with these keys. */
async function restart(encryptionKeys: Uint8Array[]): Promise<void> {
  const { port: same } = op
  await op.close()
  op = await start(encryptionKeys, same)
}

interface Registered {
  readonly client_id: string
  readonly client_secret: string
  readonly redirect_uris: string[]
  readonly registration_access_token: string
  readonly registration_client_uri: string
}

async function register(metadata: object = {}): Promise<{ app: Registered; initialToken: string }> {
  const initialToken = await new op.provider.InitialAccessToken({}).save()
  const { redirect_uris } = rps.client('wiki')
  const response = await fetch(`${op.issuer}/reg`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${initialToken}` },
    body: JSON.stringify({ redirect_uris, token_endpoint_auth_method: 'client_secret_post', ...metadata }),
  })
  expect(response.status).toBe(201)
  return { app: (await response.json()) as Registered, initialToken }
}

/** Every byte of the database's files: deleted rows and the write-ahead log too. */
async function dump(): Promise<string> {
  const files = await readdir(folder)
  return (await Promise.all(files.map((file) => readFile(join(folder, file), 'latin1')))).join('\n')
}

describe('a client that registered itself', () => {
  it('leaves neither its secret nor a token of its registration in the database, and logs in [T6]', async () => {
    const { app, initialToken } = await register()
    const { tokens } = await logIn(browser, op, app)
    const read = await fetch(app.registration_client_uri, {
      headers: { authorization: `Bearer ${app.registration_access_token}` },
    })
    expect(await read.json()).toMatchObject({ client_id: app.client_id, client_secret: app.client_secret })

    const bytes = await dump()
    expect(bytes).toContain(app.client_id) // it is the right file
    for (const secret of [app.client_secret, app.registration_access_token, initialToken, tokens.access_token]) {
      expect(secret.length).toBeGreaterThan(20)
      expect(bytes.includes(secret)).toBe(false)
    }
  })

  it('is authenticated by its secret in the header too, and by no other secret [T6]', async () => {
    const { app } = await register({ token_endpoint_auth_method: 'client_secret_basic' })
    const { code } = await authorize(browser, op, app)
    const ask = async (secret: string) => {
      const response = await fetch(`${op.issuer}/token`, {
        method: 'POST',
        headers: { authorization: `Basic ${Buffer.from(`${app.client_id}:${secret}`).toString('base64')}` },
        body: new URLSearchParams({ grant_type: 'authorization_code', code, redirect_uri: app.redirect_uris[0] ?? '' }),
      })
      return response.status
    }
    expect(await ask('another secret')).toBe(401)
    expect(await ask(app.client_secret)).toBe(200)
  })

  it('verifies an ID Token by its secret, after a restart too [T6]', async () => {
    const { app } = await register({ id_token_signed_response_alg: 'HS256' })
    await restart([oldKey])
    const { tokens } = await logIn(browser, op, app)
    const { payload } = await jwtVerify(tokens.id_token, new TextEncoder().encode(app.client_secret))
    expect(payload).toMatchObject({ iss: op.issuer, aud: app.client_id })
  })

  it('outlives the key its secret is encrypted under: the new one in front once, then alone [T6]', async () => {
    const { app } = await register()
    await restart([newKey, oldKey])
    await op.provider.ready()
    await restart([newKey])
    const { code } = await authorize(browser, op, app)
    expect(await redeem(op, app, code)).toHaveProperty('id_token')

    await restart([oldKey])
    await expect(op.provider.ready()).rejects.toMatchObject({ code: 'secrets_unreadable' })
    expect((await authorize(browser, op, app)).page.status).toBe(500)
    await restart([newKey])
    await op.provider.ready()
  })

  it('keeps the new secret it gets with an update out of the database [T6]', async () => {
    const { app } = await register({ token_endpoint_auth_method: 'none' })
    const { registration_access_token, registration_client_uri, redirect_uris, client_id } = app
    expect(app.client_secret).toBeUndefined()
    const response = await fetch(registration_client_uri, {
      method: 'PUT',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${registration_access_token}` },
      body: JSON.stringify({ client_id, redirect_uris, token_endpoint_auth_method: 'client_secret_post' }),
    })
    const { client_secret } = (await response.json()) as Registered
    expect(client_secret.length).toBeGreaterThan(20)
    expect((await dump()).includes(client_secret)).toBe(false)
    expect(await logIn(browser, op, { ...app, client_secret })).toHaveProperty('tokens')
  })
})

describe('an OP without encryption keys', () => {
  it('stores no client that has a secret, however it comes [T6]', async () => {
    const plain = await startTestOp({ clients: [], store })
    try {
      const { adapter } = plain.provider.Client as unknown as {
        adapter: { upsert(id: string, metadata: object): Promise<void> }
      }
      await expect(adapter.upsert('wiki', { client_id: 'wiki', client_secret: 'in clear' })).rejects.toThrow(
        'encryptionKeys are missing',
      )
      expect(await dump()).not.toContain('in clear')
    } finally {
      await plain.close()
    }
  })
})

describe('a CIBA request of a client that wants to be called back', () => {
  it('keeps the token for the call out of the database, and has it for the call [T6]', async () => {
    const phone = rps.client('phone', {
      grant_types: ['urn:openid:params:grant-type:ciba', 'refresh_token'],
      response_types: [],
      redirect_uris: [],
      backchannel_token_delivery_mode: 'ping',
      backchannel_client_notification_endpoint: 'https://phone.example/ping',
    })
    const flows = await startTestOp({
      clients: [phone],
      store,
      options: { encryptionKeys: [oldKey] },
      configuration: {
        features: {
          devInteractions: { enabled: false },
          ciba: {
            enabled: true,
            deliveryModes: ['ping'],
            processLoginHint: async (_ctx, hint) => hint,
            validateBindingMessage: async () => {},
            validateRequestContext: async () => {},
            verifyUserCode: async () => {},
            triggerAuthenticationDevice: async () => {},
          },
        },
      },
    })
    try {
      const { client_id, client_secret } = phone
      const client_notification_token = 'a-token-for-the-call-back-0123456789'
      const response = await fetch(`${flows.issuer}/backchannel`, {
        method: 'POST',
        body: new URLSearchParams({
          client_id,
          client_secret,
          client_notification_token,
          scope: 'openid',
          login_hint: 'ada',
        }),
      })
      const body = (await response.json()) as { auth_req_id: string }
      expect(response.status, JSON.stringify(body)).toBe(200)
      const bytes = await dump()
      expect(bytes.includes(client_notification_token)).toBe(false)
      expect(bytes.includes(body.auth_req_id)).toBe(false)
      const kept = await flows.provider.BackchannelAuthenticationRequest.find(body.auth_req_id)
      expect(kept?.params).toMatchObject({ client_notification_token })
    } finally {
      await flows.close()
    }
  })
})
