import type { Configuration } from 'oidc-provider'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { sqliteStore } from '../../src/op-sqlite.ts'
import { authorizationUrl, authorize, logIn } from '../support/op-flow.ts'
import { type RpSite, startRpSite } from '../support/rp-site.ts'
import { grantWhatIsAsked, startTestOp, type TestOp } from '../support/test-op.ts'
import { createUserAgent, type UserAgent } from '../support/user-agent.ts'

/* What any page of any site can have a browser send to the OP, in a frame or for an image, while its user looks elsewhere. */

let rps: RpSite
let op: TestOp
let browser: UserAgent
let stored: string[]
let down: string | undefined

beforeEach(async () => {
  stored = []
  down = undefined
  rps = await startRpSite()
  browser = createUserAgent()
  const configuration: Configuration = {
    loadExistingGrant: async (ctx) => {
      if (down === 'grants') throw new Error('the database of grants is down')
      return ctx.oidc.client?.clientId === 'stranger' ? undefined : grantWhatIsAsked(ctx)
    },
    findAccount: async (_ctx, accountId) => {
      if (down === 'users') throw new Error('the database of users is down')
      return { accountId, claims: async () => ({ sub: accountId }) }
    },
    features: { devInteractions: { enabled: false }, deviceFlow: { enabled: true } },
  }
  const inner = sqliteStore(':memory:')
  const store: typeof inner = {
    ...inner,
    forIssuer(...of) {
      const opened = inner.forIssuer(...of)
      return {
        ...opened,
        putModel: (model) => {
          stored.push(model.kind)
          return opened.putModel(model)
        },
        saveOpSession: (session) => {
          stored.push('Session')
          return opened.saveOpSession(session)
        },
      }
    },
  }
  op = await startTestOp({
    clients: [rps.client('notes'), rps.client('mail'), rps.client('stranger')],
    configuration,
    store,
    options: { silentChecks: { perSession: 3 } },
  })
})
afterEach(async () => {
  vi.useRealTimers()
  await browser.close()
  await op.close()
  await op.store.close()
  await rps.close()
})

type Params = Readonly<Record<string, string | undefined>>

/** One request of a page of another site; a parameter that is undefined is left out. */
async function ask(app: string, params: Params, destination: string, as: UserAgent = browser): Promise<string> {
  const url = new URL(authorizationUrl(op, rps.client(app)))
  for (const [name, value] of Object.entries(params)) {
    if (value === undefined) url.searchParams.delete(name)
    else url.searchParams.set(name, value)
  }
  const cookie = as.cookies(op.issuer).map(({ name, value }) => `${name}=${value}`)
  const headers = { cookie: cookie.join('; '), 'sec-fetch-dest': destination, 'sec-fetch-site': 'cross-site' }
  const { status, headers: answer } = await fetch(url, { headers, redirect: 'manual' })
  const location = answer.get('location')
  if (location === null) return `page ${status}`
  const at = new URL(location, op.issuer)
  if (at.origin === op.issuer) return 'asks the user'
  const { code, error, error_description: why } = Object.fromEntries(at.searchParams)
  return code === undefined ? `${error}: ${why}` : 'code'
}

const nobody = createUserAgent
const notGranted: Params = { scope: undefined, nonce: undefined }

describe('a site that a user has never logged in at', () => {
  const requests: readonly Params[] = [
    {},
    notGranted,
    { scope: 'foo', nonce: undefined },
    { max_age: '0' },
    { scope: 'openid offline_access' },
    { claims: '{"id_token":{"acr":{"essential":true,"values":["x"]}}}' },
  ]

  it.each(
    requests,
  )('is told by prompt=none in a frame what it is told where nobody is signed in: %j [T33]', async (more) => {
    await logIn(browser, op, rps.client('notes'))
    for (const destination of ['iframe', 'frame', 'empty']) {
      const params = { prompt: 'none', ...more }
      const somebody = await ask('stranger', params, destination)
      expect(somebody).toBe(await ask('stranger', params, destination, nobody()))
      expect(somebody).toMatch(/^login_required/)
    }
  })

  it('is told nothing by a frame that may ask, where nothing it asks for can be granted [T33]', async () => {
    await logIn(browser, op, rps.client('notes'))
    expect(await ask('stranger', notGranted, 'iframe', nobody())).toBe('asks the user')
    expect(await ask('stranger', notGranted, 'iframe')).toBe('page 403')
    expect(await ask('stranger', notGranted, 'document')).toMatch(/^access_denied/) // the user sees who asks
  })

  it.each(['users', 'grants'])('is told the same while the database of %s is down [T33]', async (what) => {
    await logIn(browser, op, rps.client('notes'))
    down = what
    const silent = await ask('stranger', { prompt: 'none' }, 'iframe')
    expect(silent).toBe(await ask('stranger', { prompt: 'none' }, 'iframe', nobody()))
    expect(silent).toMatch(/^login_required/)
    // what stays at the OP tells the site nothing, as the page for nobody does
    for (const destination of ['iframe', 'document']) expect(await ask('stranger', {}, destination)).toBe('page 500')
    // an app that knows him hears nothing, and takes nothing for a logout
    expect(await ask('notes', { prompt: 'none' }, 'iframe')).toBe('page 500')
  })

  it('can ask as often as it likes, in frames and at the top level, and no app is put off by it [T33]', async () => {
    await logIn(browser, op, rps.client('notes'))
    for (let i = 0; i < 5; i++) {
      expect(await ask('stranger', { prompt: 'none' }, 'iframe')).toMatch(/^login_required/)
      expect(await ask('stranger', { prompt: 'none' }, 'document')).toMatch(/^consent_required/)
    }
    expect(await ask('notes', { prompt: 'none' }, 'iframe')).toBe('code')
  })
})

it('an app that asks too often puts off no other app [T33]', async () => {
  for (const app of ['notes', 'mail']) await logIn(browser, op, rps.client(app))
  const notes = []
  for (let i = 0; i < 4; i++) notes.push(await ask('notes', { prompt: 'none' }, 'iframe'))
  expect(notes).toEqual(['code', 'code', 'code', expect.stringMatching(/^temporarily_unavailable/)])
  expect(await ask('mail', { prompt: 'none' }, 'iframe')).toBe('code')
})

describe('an image, a style sheet or a script', () => {
  const destinations = ['image', 'script', 'style', 'object', 'embed', 'video', 'font', 'worker', 'unheard-of']

  it.each(destinations)('(%s) gets no code and stores nothing [T29]', async (destination) => {
    await logIn(browser, op, rps.client('notes'))
    stored = []
    expect(await ask('notes', {}, destination)).toBe('page 403')
    expect(await ask('notes', { prompt: 'none' }, destination)).toBe('page 403')
    expect(await ask('notes', {}, destination, nobody())).toBe('page 403')
    expect(stored).toEqual([])
  })

  it('gets nothing at other paths of a login, however they are spelled, and is no matter elsewhere [T29]', async () => {
    const get = async (path: string): Promise<number> =>
      (await fetch(op.issuer + path, { headers: { 'sec-fetch-dest': 'image' } })).status
    for (const path of ['/auth/', '/AUTH', '/auth/abc', '/device', '/device/abc']) {
      expect([path, await get(path)]).toEqual([path, 403])
    }
    expect(stored).toEqual([])
    expect(await get('/jwks')).toBe(200)
  })
})

describe('the idle lifetime of an OP session', () => {
  const expiresAt = async (): Promise<number | undefined> =>
    (await op.provider.opSessions.list({ accountId: 'ada' })).sessions[0]?.expiresAt

  it('is not extended by what loads in a frame without asking anybody, and is by who signs in there [T11]', async () => {
    vi.useFakeTimers({ toFake: ['Date'] })
    await logIn(browser, op, rps.client('notes'))
    const first = await expiresAt()
    vi.setSystemTime(Date.now() + 3_600_000)
    expect(await ask('notes', {}, 'iframe')).toBe('code')
    expect(await expiresAt()).toBe(first)
    await browser.frame(rps.origin('notes'), authorizationUrl(op, rps.client('notes'), { prompt: 'login' }))
    expect(await expiresAt()).toBe((first ?? Number.NaN) + 3600)
    vi.setSystemTime(Date.now() + 3_600_000)
    await authorize(browser, op, rps.client('notes'))
    expect(await expiresAt()).toBe((first ?? Number.NaN) + 7200)
  })
})
