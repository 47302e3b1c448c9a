import { createHash } from 'node:crypto'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { OpStore } from '../../src/op.ts'
import { sqliteStore } from '../../src/op-sqlite.ts'
import { askForTokens, authorizationUrl, authorize, isSignedIn, logIn } from '../support/op-flow.ts'
import { type RpSite, startRpSite } from '../support/rp-site.ts'
import { signIn, startTestOp, type TestOp } from '../support/test-op.ts'
import { createUserAgent, type UserAgent } from '../support/user-agent.ts'

let folder: string
let rps: RpSite
let op: TestOp
let browser: UserAgent
let notes: ReturnType<RpSite['client']>
let store: OpStore
let beforeEnd: () => Promise<void>
const handles = new Map<string, string>()

beforeEach(async () => {
  handles.clear()
  beforeEnd = async () => {}
  folder = await mkdtemp(join(tmpdir(), 'lockstep-handles-'))
  rps = await startRpSite()
  browser = createUserAgent()
  notes = rps.client('notes')
  const sqlite = sqliteStore(join(folder, 'op.db'))
  store = {
    forIssuer: (issuer, runtime) => {
      const inner = sqlite.forIssuer(issuer, runtime)
      return { ...inner, endOpSession: async (...end) => beforeEnd().then(() => inner.endOpSession(...end)) }
    },
    close: () => sqlite.close(),
  }
  let interactions = 0
  op = await startTestOp({
    clients: [notes],
    store,
    configuration: {
      features: {
        devInteractions: { enabled: false },
        pushedAuthorizationRequests: { enabled: true },
        revocation: { enabled: true },
      },
    },
    interact: (interaction) => {
      handles.set(`interaction ${++interactions}`, interaction.uid)
      keepCookies(`at interaction ${interactions}`)
      return signIn(interaction)
    },
  })
})
afterEach(async () => {
  await op.close()
  await store.close()
  await browser.close()
  await rps.close()
  await rm(folder, { recursive: true })
})

function keepCookies(when: string): void {
  for (const { name, value } of browser.cookies(op.issuer)) {
    if (!name.startsWith('__Host-op_state')) handles.set(`${name} ${when}`, value)
  }
}

/** Every byte of the database's files: deleted rows and the write-ahead log too. */
async function dump(): Promise<string> {
  const files = await readdir(folder)
  expect(files).toContain('op.db')
  return (await Promise.all(files.map((file) => readFile(join(folder, file), 'latin1')))).join('\n')
}

function expectNoHandles(bytes: string): void {
  expect(bytes).toContain('ada') // it is the right file
  for (const [name, value] of handles) {
    expect(value.length, name).toBeGreaterThan(20)
    expect(bytes.includes(value), `${name} is in the database`).toBe(false)
  }
}

describe('a stolen database', () => {
  it('holds none of the handles that a login, a refresh and a silent check issued [T6]', async () => {
    const { code, tokens } = await logIn(browser, op, notes, { scope: 'openid offline_access', prompt: 'consent' })
    handles.set('code', code)
    handles.set('access token', tokens.access_token)
    handles.set('refresh token', tokens.refresh_token ?? '')
    keepCookies('after the login')
    const refreshed = await askForTokens(op, notes, {
      grant_type: 'refresh_token',
      refresh_token: tokens.refresh_token ?? '',
    })
    handles.set('refreshed access token', String(refreshed.body.access_token))
    handles.set('rotated refresh token', String(refreshed.body.refresh_token))
    handles.set('unused code', (await authorize(browser, op, notes, { prompt: 'none' })).code)
    await logIn(browser, op, notes, { prompt: 'login' })
    keepCookies('after signing in again')

    expect([...handles.keys()].filter((name) => name.startsWith('interaction'))).toHaveLength(3)
    expect([...handles.keys()].filter((name) => name.startsWith(op.provider.cookieName('session')))).not.toEqual([])
    expectNoHandles(await dump())
  })

  it('holds no handle of an interaction that is under way [T6]', async () => {
    await logIn(browser, op, notes)
    const answer = await fetch(authorizationUrl(op, notes), { redirect: 'manual' })
    const uid = answer.headers.get('location')?.split('/').at(-1) ?? ''
    handles.set('open interaction', uid)
    expectNoHandles(await dump())
  })

  it('holds no pushed authorization request [T6]', async () => {
    await logIn(browser, op, notes)
    const response = await fetch(`${op.issuer}/request`, {
      method: 'POST',
      body: new URLSearchParams({
        client_id: notes.client_id,
        client_secret: notes.client_secret,
        response_type: 'code',
        scope: 'openid',
        redirect_uri: notes.redirect_uris?.[0] ?? '',
      }),
    })
    const { request_uri } = (await response.json()) as { request_uri: string }
    handles.set('pushed request', request_uri.split(':').at(-1) ?? '')
    expectNoHandles(await dump())
    const page = await browser.open(`${op.issuer}/auth?client_id=notes&request_uri=${encodeURIComponent(request_uri)}`)
    expect(new URL(page.url).searchParams.has('code')).toBe(true)
  })

  it('holds no pushed request and no device, user or CIBA code of a login that is under way, and it goes on [T6]', async () => {
    const tv = rps.client('tv', {
      grant_types: [
        'urn:ietf:params:oauth:grant-type:device_code',
        'urn:openid:params:grant-type:ciba',
        'refresh_token',
        'authorization_code',
      ],
      backchannel_token_delivery_mode: 'poll',
    })
    const requests: string[] = []
    const flows = await startTestOp({
      clients: [notes, tv],
      store,
      configuration: {
        features: {
          devInteractions: { enabled: false },
          pushedAuthorizationRequests: { enabled: true },
          deviceFlow: { enabled: true },
          ciba: {
            enabled: true,
            deliveryModes: ['poll'],
            processLoginHint: async (_ctx, hint) => hint,
            validateBindingMessage: async () => {},
            validateRequestContext: async () => {},
            verifyUserCode: async () => {},
            triggerAuthenticationDevice: async (_ctx, request) => void requests.push(request.jti),
          },
          clientCredentials: { enabled: true },
        },
      },
      interact: (interaction) => {
        handles.set(`interaction ${interaction.uid.slice(0, 4)}`, interaction.uid)
        return dump().then((bytes) => {
          expectNoHandles(bytes)
          return signIn(interaction)
        })
      },
    })
    const post = async (path: string, client: typeof tv, params: Record<string, string>) => {
      const { client_id, client_secret } = client
      const body = new URLSearchParams({ client_id, client_secret, ...params })
      return (await (await fetch(flows.issuer + path, { method: 'POST', body })).json()) as Record<string, string>
    }
    try {
      const pushed = await post('/request', notes, {
        response_type: 'code',
        scope: 'openid',
        redirect_uri: notes.redirect_uris?.[0] ?? '',
      })
      handles.set('pushed request', pushed.request_uri?.split(':').at(-1) ?? '')
      const device = await post('/device/auth', tv, { scope: 'openid' })
      handles.set('device code', device.device_code ?? '')
      const userCode = (device.user_code ?? '').replace('-', '')
      const ciba = await post('/backchannel', tv, { scope: 'openid', login_hint: 'ada' })
      handles.set('auth_req_id', ciba.auth_req_id ?? '')
      expect(requests).toEqual([ciba.auth_req_id])

      const url = `${flows.issuer}/auth?client_id=notes&request_uri=${encodeURIComponent(pushed.request_uri ?? '')}`
      expect(new URL((await browser.open(url)).url).searchParams.has('code')).toBe(true)

      const other = createUserAgent()
      try {
        const typed = await other.open(`${flows.issuer}/device?user_code=${device.user_code}`)
        const confirm = typed.body.includes('name="confirm"') ? typed : await other.submit(typed)
        await other.submit(confirm)
      } finally {
        await other.close()
      }
      const grant_type = 'urn:ietf:params:oauth:grant-type:device_code'
      const tokens = await post('/token', tv, { grant_type, device_code: device.device_code ?? '' })
      handles.set('access token', tokens.access_token ?? '')

      const bytes = await dump()
      expectNoHandles(bytes)
      expect(bytes.includes(userCode), 'the user code is in the database').toBe(false)
    } finally {
      await flows.close()
    }
  })

  it('holds no handle in the middle of a user switch either [T6]', async () => {
    await logIn(browser, op, notes)
    keepCookies('before the switch')
    const dumps: string[] = []
    beforeEnd = async () => {
      dumps.push(await dump())
    }
    await logIn(browser, op, notes, { login_hint: 'bob', prompt: 'login' })
    keepCookies('after the switch')
    dumps.push(await dump())
    expect(dumps).toHaveLength(2)
    for (const bytes of dumps) expectNoHandles(bytes)
  })

  it('opens nothing: a hash of it is no cookie, code or token [T6]', async () => {
    const { tokens } = await logIn(browser, op, notes, { scope: 'openid offline_access', prompt: 'consent' })
    const { code } = await authorize(browser, op, notes, { prompt: 'none' })
    const db = new Database(join(folder, 'op.db'), { readonly: true })
    const stolen = [
      ...db.prepare<[], { handle: string }>('SELECT handle FROM op_session_handle').all(),
      ...db.prepare<[], { handle: string }>('SELECT handle FROM model').all(),
    ].map(({ handle }) => handle)
    db.close()
    const hash = (value: string) => createHash('sha256').update(value).digest('base64url')
    expect(stolen).toEqual(expect.arrayContaining([hash(code), hash(tokens.refresh_token ?? '')]))

    const { provider } = op
    for (const handle of stolen.flatMap((each) => [each, `~${each}`])) {
      expect(await provider.Session.find(handle)).toBeUndefined()
      expect(await provider.Interaction.find(handle)).toBeUndefined()
      expect(await provider.AuthorizationCode.find(handle)).toBeUndefined()
      expect(await provider.AccessToken.find(handle)).toBeUndefined()
      expect(await provider.RefreshToken.find(handle)).toBeUndefined()
    }
    expect(await isSignedIn(browser, op, notes)).toBe(true)
  })

  it('opens nothing by the name it gives an OP session inside [T6]', async () => {
    await logIn(browser, op, notes)
    const {
      sessions: [found],
    } = await op.provider.opSessions.list({ accountId: 'ada' })
    const session = await op.provider.Session.findByUid(found?.uid ?? '')
    expect(session?.accountId).toBe('ada')
    expect(await op.provider.Session.find(session?.jti ?? '')).toBeUndefined()
    expect(await op.provider.Session.find(session?.uid ?? '')).toBeUndefined()
  })
})
