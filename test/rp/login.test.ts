import { afterEach, describe, expect, it, vi } from 'vitest'
import { LockstepError } from '../../src/index.ts'
import { memoryStore } from '../../src/rp-memory.ts'
import { someNotice } from '../../src/testing/rp-store-bench.ts'
import type { Cookie } from '../support/user-agent.ts'
import { type Kept, startWorld, type TestWorld, type WorldOptions } from './support.ts'

let world: TestWorld | undefined

async function start(options?: WorldOptions): Promise<TestWorld> {
  world = await startWorld(options)
  return world
}

afterEach(async () => {
  await world?.close()
  world = undefined
})

describe('a login', () => {
  it('takes a signed-out browser to the OP and back to the page it wanted [Core §3.1]', async () => {
    const { app, newAgent, signIn } = await start()
    const page = await signIn(newAgent(), app)
    expect(page).toMatchObject({ status: 200, url: `${app.url}/me`, body: 'Hello the one called ada' })
  })

  it('asks with PKCE, state and nonce, and never twice with the same [RFC 9700 §2.1.1]', async () => {
    const { app, issuer, newAgent } = await start()
    const agent = newAgent()
    const [first, second] = await Promise.all([1, 2].map(() => agent.fetch(app.url, '/auth/login', navigation)))
    const [one, two] = [first, second].map((page) => new URL(page?.header('location') ?? ''))
    expect(one?.origin).toBe(issuer)
    expect(Object.fromEntries(one?.searchParams ?? [])).toMatchObject({
      client_id: 'notes',
      response_type: 'code',
      scope: 'openid profile',
      redirect_uri: `${app.url}/auth/callback`,
      code_challenge_method: 'S256',
    })
    for (const name of ['state', 'nonce', 'code_challenge']) {
      expect(one?.searchParams.get(name)).toMatch(/^[\w-]{22,}$/)
      expect(one?.searchParams.get(name)).not.toBe(two?.searchParams.get(name))
    }
  })

  it('hands prompt and login_hint on, and refuses a prompt it does not know', async () => {
    const { app, newAgent } = await start()
    const agent = newAgent()
    const page = await agent.fetch(app.url, '/auth/login?prompt=login&login_hint=ada', navigation)
    expect(page.header('location')).toMatch(/[?&]prompt=login&login_hint=ada&/)
    expect((await agent.fetch(app.url, '/auth/login?prompt=none', navigation)).status).toBe(400)
  })

  it('keeps the session id in a __Host- cookie that scripts cannot read, and only its hash in the store [T6]', async () => {
    const { app, newAgent, signIn } = await start()
    const agent = newAgent()
    await signIn(agent, app)
    const [cookie] = agent.cookies(app.url)
    expect(cookie).toMatchObject({
      name: expect.stringMatching(/^__Host-lockstep-[\w-]{8}$/),
      sameSite: 'lax',
      httpOnly: true,
    })
    const kept = JSON.stringify(await app.sessions.listBySub('ada'))
    expect(kept).not.toContain(cookie?.value)
    expect(kept).not.toMatch(/eyJ[\w-]+\.eyJ/) // no JWT in the clear
  })

  it('rotates the session id, so that a planted one is worth nothing [RFC 9700 §4.16]', async () => {
    const { app, newAgent, signIn } = await start()
    const agent = newAgent()
    await signIn(agent, app)
    const before = agent.cookies(app.url)[0]?.value
    await agent.open(`${app.url}/auth/login`)
    const after = agent.cookies(app.url)[0]?.value
    expect(after).not.toBe(before)
    expect(await app.sessions.listBySub('ada')).toHaveLength(1)
  })

  it('gives two apps on one host cookies of different names [T21]', async () => {
    const { app, other, newAgent, signIn } = await start()
    const agent = newAgent()
    await signIn(agent, app)
    await signIn(agent, other)
    expect(agent.cookies(app.url)[0]?.name).not.toBe(agent.cookies(other.url)[0]?.name)
  })

  it('keeps at most five unfinished logins, the newest [T29]', async () => {
    const { app, newAgent } = await start()
    const agent = newAgent()
    for (let i = 0; i < 8; i++) await agent.fetch(app.url, '/auth/login', navigation)
    expect(agent.cookies(app.url)).toHaveLength(5)
    const last = await agent.open(`${app.url}/auth/login`)
    expect((await agent.submit(last, { username: 'ada' })).status).toBe(200)
    expect(agent.cookies(app.url).filter(({ name }) => name.includes('login'))).toHaveLength(4)
  })

  it('that is begun over and over leaves cookies that a server takes, and the last one works [T29]', async () => {
    const { app, newAgent } = await start()
    const agent = newAgent()
    for (let i = 0; i < 6; i++) {
      const path = new URLSearchParams({ return_to: `/me?${i}=${'ü'.repeat(140)}` })
      await agent.fetch(app.url, `/auth/login?${path}`, navigation)
    }
    const login = await agent.open(`${app.url}/auth/login?return_to=/me?${'x'.repeat(900)}`)
    expect(sizeOf(agent.cookies(app.url))).toBeLessThanOrEqual(4096) // many proxies take 8 KiB in all, Node 16
    expect((await agent.submit(login, { username: 'ada' })).body).toBe('Hello the one called ada')
  })

  it('that leads to a long URL has a cookie that browsers keep [RFC 6265 §6.1]', async () => {
    const { app, newAgent } = await start()
    const agent = newAgent()
    for (const q of ['x'.repeat(1960), 'ü'.repeat(1000), 'ü'.repeat(150)]) {
      const query = new URLSearchParams({
        return_to: `/me?q=${q}`,
        login_hint: 'ü'.repeat(400),
        prompt: 'login consent',
      })
      await agent.fetch(app.url, `/auth/login?${query}`, navigation)
      for (const cookie of agent.cookies(app.url)) expect(sizeOf([cookie])).toBeLessThanOrEqual(4096)
    }
  })

  it('is not begun by an image, an iframe or a prefetch [T29]', async () => {
    const { app, newAgent } = await start()
    const agent = newAgent()
    for (const dest of ['image', 'iframe', 'empty']) {
      const page = await agent.fetch(app.url, '/auth/login', { headers: { 'sec-fetch-dest': dest } })
      expect(page.status).toBe(403)
    }
    const prefetch = { headers: { 'sec-fetch-dest': 'document', 'sec-purpose': 'prefetch' } }
    expect((await agent.fetch(app.url, '/auth/login', prefetch)).status).toBe(403)
    expect(agent.cookies(app.url)).toEqual([])
  })

  it('ends the RP session of another End-User who was signed in in this browser', async () => {
    const { app, newAgent, signIn } = await start({ client: { backchannel_logout_uri: undefined } })
    const agent = newAgent()
    await signIn(agent, app)
    const tab = await agent.events(app.url, '/auth/session/events')
    await tab.next()
    const login = await agent.open(`${app.url}/auth/login?prompt=login&return_to=/me`)
    expect((await agent.submit(login, { username: 'grace' })).body).toBe('Hello the one called grace')
    expect(JSON.parse((await tab.next())?.data ?? '')).toMatchObject({
      state: 'ended',
      ended: { cause: 'user_switched' },
    })
    expect(await tab.next()).toBeUndefined()
    expect(app.ended).toEqual([{ sub: 'ada', cause: 'user_switched' }])
  })

  it('closes the streams of an RP session that the same End-User replaced, without calling it ended', async () => {
    const { app, newAgent, signIn } = await start()
    const agent = newAgent()
    await signIn(agent, app)
    const tab = await agent.events(app.url, '/auth/session/events')
    await tab.next()
    await agent.open(`${app.url}/auth/login`)
    expect(await tab.next()).toBeUndefined()
  })

  it('keeps its cookie when a page of another tab is answered late that was asked for with the old one', async () => {
    const { app, newAgent, signIn } = await start()
    const [agent, otherTab] = [newAgent(), newAgent()]
    await signIn(agent, app)
    for (const { name, value } of agent.cookies(app.url)) {
      otherTab.setCookie(app.url, `${name}=${value}; Path=/; Secure; HttpOnly`)
    }
    await agent.open(`${app.url}/auth/login`) // the same End-User: a new RP session takes the place of the old one
    const late = await otherTab.open(app.url)
    expect(late.body).toMatch(/^signed out/)
    const setCookie = late.header('set-cookie')
    if (setCookie !== undefined) agent.setCookie(app.url, setCookie) // both tabs have one cookie jar
    expect((await agent.open(`${app.url}/me`)).trail).toEqual([`${app.url}/me`]) // no way over the OP
  })
})

describe('an app', () => {
  it('whose mapSession fails signs nobody in, and hears of it in its log only', async () => {
    const mapSession = () => {
      throw new Error('no such column: email of ada')
    }
    const { app, newAgent, signIn } = await start({ rp: { mapSession } })
    const agent = newAgent()
    const page = await signIn(agent, app)
    expect(page.status).toBe(500)
    expect(page.body).not.toContain('column')
    expect(await app.sessions.listBySub('ada')).toEqual([])
    expect(app.log).toEqual([{ event: 'internal_error', route: 'callback', message: 'no such column: email of ada' }])
  })
})

describe('onSessionStarted', () => {
  it('hears of a new RP session with its data, after it was committed', async () => {
    const heard: unknown[] = []
    const { app, newAgent, signIn } = await start({
      rp: {
        onSessionStarted: async ({ id, sub, data }) => {
          const [stored] = await app.sessions.listBySub(sub)
          heard.push([sub, data, stored?.publicId === id])
        },
      },
    })
    await signIn(newAgent(), app)
    expect(heard).toEqual([['ada', { name: 'the one called ada' }, true]])
  })

  it('fails without harm to the login', async () => {
    const onSessionStarted = () => {
      throw new Error('no such table')
    }
    const { app, newAgent, signIn } = await start({ rp: { onSessionStarted } })
    expect((await signIn(newAgent(), app)).status).toBe(200)
    expect(app.log).toEqual([{ event: 'hook_failed', hook: 'onSessionStarted', message: 'no such table' }])
  })
})

describe('a login that a logout overtakes', () => {
  function overtaken(times: number): { options: WorldOptions; logouts: () => number } {
    const store = memoryStore()
    let left = times
    let logouts = 0
    const mapSession = async ({ iss, sub }: { iss: string; sub: string }): Promise<Kept> => {
      if (left-- > 0) {
        const sessions = store.forClient({ issuer: iss, clientId: 'notes' }, Date)
        await sessions.endBy(
          { sub },
          { ...someNotice({ jti: `j${left}` }), watermarkExpiresAt: Number.MAX_SAFE_INTEGER },
        )
        logouts++
      }
      return { name: sub }
    }
    return { options: { rp: { store, mapSession } }, logouts: () => logouts }
  }

  it('is discarded and asked for once more; the OP, still signed in, lets it through [T3]', async () => {
    const { options, logouts } = overtaken(1)
    const { app, newAgent, signIn } = await start(options)
    const page = await signIn(newAgent(), app)
    expect(page).toMatchObject({ status: 200, body: 'Hello ada' })
    expect(page.trail.filter((url) => url.includes('/auth/callback'))).toHaveLength(2)
    expect(logouts()).toBe(1)
  })

  it('is asked for as it was asked for before: prompt and login_hint [T3]', async () => {
    const { options } = overtaken(1)
    const { app, newAgent } = await start(options)
    const agent = newAgent()
    const asked = await agent.open(`${app.url}/auth/login?prompt=login&login_hint=ada%40example.com&return_to=/me`)
    const again = await agent.submit(asked, { username: 'ada' })
    const [, second] = [...asked.trail, ...again.trail].filter((url) => url.includes('/auth?'))
    const query = new URL(second ?? '').searchParams
    expect([query.get('prompt'), query.get('login_hint')]).toEqual(['login', 'ada@example.com'])
    expect((await agent.submit(again, { username: 'ada' })).body).toBe('Hello ada')
  })

  it('is not asked for a third time [T3]', async () => {
    const { options } = overtaken(9)
    const { app, newAgent, signIn } = await start(options)
    const agent = newAgent()
    const page = await signIn(agent, app)
    expect(page.status).toBe(409)
    expect(page.body).toContain('You were signed out while you were signing in')
    expect(page.trail.filter((url) => url.includes('/auth/callback'))).toHaveLength(2)
    expect(agent.cookies(app.url)).toEqual([])
  })
})

describe('max_age at stock oidc-provider', () => {
  /** Signs in, makes that an hour old at the OP, and begins a login. */
  async function anHourAfterLogin(options: WorldOptions, path: string) {
    const { app, issuer, provider, newAgent, signIn } = await start(options)
    const agent = newAgent()
    await signIn(agent, app)
    const id = agent.cookies(issuer).find(({ name }) => name === '_session')?.value ?? ''
    const session = await provider.Session.find(id)
    if (session?.loginTs === undefined) throw new Error('nobody is signed in at the OP')
    session.loginTs -= 3_600
    await session.persist()
    return { agent, page: await agent.open(`${app.url}${path}`) }
  }

  it('asks for the password again where it is older, and the new login proves it [Core §3.1.3.7 (13)]', async () => {
    const { agent, page } = await anHourAfterLogin({}, '/auth/login?max_age=60&return_to=/me')
    expect(page.body).toContain('username')
    expect((await agent.submit(page, { username: 'ada' })).body).toBe('Hello the one called ada')
  })

  it('asks for nothing where it is not older [Core §3.1.2.1]', async () => {
    const { page } = await anHourAfterLogin({}, '/auth/login?max_age=7200&return_to=/me')
    expect(page).toMatchObject({ status: 200, body: 'Hello the one called ada' })
  })

  it('is also held where it is the default_max_age of the client at the OP [Registration §2]', async () => {
    const client = { default_max_age: 60 }
    const { agent, page } = await anHourAfterLogin({ client }, '/auth/login?return_to=/me')
    expect(page.body).toContain('username')
    expect((await agent.submit(page, { username: 'ada' })).body).toBe('Hello the one called ada')
  })
})

describe('an Authentication Response', () => {
  it.each([
    ['with a state nobody asked for', 'code=c&state=made-up'],
    ['with no state', 'code=c'],
    ['that is an error nobody asked for', 'error=login_required&state=made-up'],
  ])('%s signs nobody in and out, and leads nowhere by itself [RFC 9700 §4.7]', async (_name, query) => {
    const { app, newAgent } = await start()
    const agent = newAgent()
    const page = await agent.open(`${app.url}/auth/callback?${query}`)
    expect(page.status).toBe(400)
    expect(page.body).toContain('Try again')
    expect(page.trail).toHaveLength(1)
    expect(agent.cookies(app.url)).toEqual([])
  })

  it('is good once; the back button then leads to the app', async () => {
    const { app, newAgent, signIn } = await start()
    const agent = newAgent()
    const { trail } = await signIn(agent, app)
    const callback = trail.find((url) => url.includes('/auth/callback')) ?? ''
    const again = await agent.open(callback)
    expect(again).toMatchObject({ status: 200, url: `${app.url}/`, body: 'signed in' })
    expect((await newAgent().open(callback)).status).toBe(400)
  })

  it('from another issuer is refused [RFC 9207]', async () => {
    const { app, newAgent } = await start()
    const agent = newAgent()
    const begun = await agent.fetch(app.url, '/auth/login', navigation)
    const state = new URL(begun.header('location') ?? '').searchParams.get('state')
    const page = await agent.open(`${app.url}/auth/callback?code=c&state=${state}&iss=https://evil.example`)
    expect(page.status).toBe(400)
    expect(page.body).toContain('login_response_invalid')
    expect(agent.cookies(app.url)).toEqual([])
  })

  it('that is an error of the OP is shown without its description, and can be tried again [T24]', async () => {
    const { app, issuer, newAgent } = await start()
    const agent = newAgent()
    const begun = await agent.fetch(app.url, '/auth/login?return_to=/me', navigation)
    const state = new URL(begun.header('location') ?? '').searchParams.get('state')
    const query = new URLSearchParams({
      error: 'access_denied<script>',
      error_description: '<b>call 555</b>',
      state: state ?? '',
      iss: issuer,
    })
    const page = await agent.open(`${app.url}/auth/callback?${query}`)
    expect(page.status).toBe(403)
    expect(page.body).toContain('access_denied&lt;script&gt;')
    expect(page.body).not.toContain('555')
    expect(page.body).toContain('/auth/login?return_to=%2Fme')
    expect(app.log).toContainEqual(expect.objectContaining({ event: 'login_failed', code: 'access_denied<script>' }))
  })
})

describe('a login that mapSession refuses', () => {
  const refuse = async (): Promise<never> => {
    throw new LockstepError('login_refused', 'This account is locked')
  }

  it('is shown with the app’s own words, leaves no RP session, and gives its tokens back', async () => {
    const client = { grant_types: ['authorization_code', 'refresh_token'] }
    const { app, provider, newAgent, signIn } = await start({ rp: { mapSession: refuse }, client })
    const revoked: string[] = []
    provider.on('refresh_token.destroyed', (token) => revoked.push(token.jti))
    const agent = newAgent()
    const page = await signIn(agent, app)
    expect(page.status).toBe(403)
    expect(page.body).toContain('<p>This account is locked.</p>')
    expect(page.body).toContain('Code: login_refused')
    expect((await agent.open(app.url)).body).toBe('signed out ')
    expect(app.log).toEqual([{ event: 'login_failed', code: 'login_refused', message: 'This account is locked' }])
    await vi.waitFor(() => expect(revoked).toHaveLength(1))
  })

  it('leaves whoever was signed in before as he was', async () => {
    let isLocked = false
    const mapSession = async ({ sub }: { sub: string }): Promise<Kept> => (isLocked ? refuse() : { name: sub })
    const { app, newAgent, signIn } = await start({ rp: { mapSession } })
    const agent = newAgent()
    await signIn(agent, app)
    isLocked = true
    expect((await agent.open(`${app.url}/auth/login`)).status).toBe(403)
    expect((await agent.open(`${app.url}/me`)).body).toBe('Hello ada')
  })
})

describe('an OP that is down', () => {
  it('does not stop the app; login answers 503 with its URL, it is logged once, and works when it is back', async () => {
    const { app, issuer, newAgent, signIn, stopOp, startOp } = await start()
    await stopOp()
    const agent = newAgent()
    expect(await agent.open(app.url)).toMatchObject({ status: 200, body: 'signed out ' })
    for (let i = 0; i < 3; i++) {
      const page = await agent.open(`${app.url}/auth/login`)
      expect(page.status).toBe(503)
      expect(page.body).toContain(`${issuer}/.well-known/openid-configuration`)
    }
    const url = `${issuer}/.well-known/openid-configuration`
    expect(app.log).toEqual([expect.objectContaining({ event: 'op_unreachable', url })])
    await startOp()
    expect((await signIn(agent, app)).body).toBe('Hello the one called ada')
    expect(app.log.at(-1)).toEqual({ event: 'op_reachable', url })
  })

  it('is noticed also after it was found: nobody is sent to a dead address, and each outage is logged once', async () => {
    const { app, issuer, newAgent, signIn, stopOp, startOp, pass } = await start()
    await signIn(newAgent(), app)
    const url = `${issuer}/.well-known/openid-configuration`
    for (let outage = 0; outage < 2; outage++) {
      app.log.length = 0
      await stopOp()
      pass(31)
      for (let i = 0; i < 2; i++) {
        const page = await newAgent().open(`${app.url}/auth/login?return_to=/me`)
        expect(page).toMatchObject({ status: 503, url: `${app.url}/auth/login?return_to=/me` })
        expect(page.body).toContain(url)
      }
      expect(app.log).toEqual([expect.objectContaining({ event: 'op_unreachable', url })])
      await startOp()
      expect((await signIn(newAgent(), app)).body).toBe('Hello the one called ada')
      expect(app.log.at(-1)).toEqual({ event: 'op_reachable', url })
    }
  })

  it('leaves those who are signed in signed in', async () => {
    const { app, newAgent, signIn, stopOp } = await start()
    const agent = newAgent()
    await signIn(agent, app)
    await stopOp()
    expect((await agent.open(`${app.url}/me`)).body).toBe('Hello the one called ada')
  })

  it('after the login page has been left answers 503, not a stack trace', async () => {
    const { app, newAgent, stopOp } = await start()
    const agent = newAgent()
    const begun = await agent.fetch(app.url, '/auth/login', navigation)
    const state = new URL(begun.header('location') ?? '').searchParams.get('state')
    await stopOp()
    const page = await agent.open(`${app.url}/auth/callback?code=c&state=${state}&iss=${world?.issuer}`)
    expect(page.status).toBe(503)
    expect(page.body).not.toMatch(/\bat .*\.ts/)
  })
})

describe('requireLogin', () => {
  it('answers scripts with 401, since they cannot follow a login', async () => {
    const { app, newAgent } = await start()
    const page = await newAgent().fetch(app.url, '/me')
    expect(page.status).toBe(401)
    expect(JSON.parse(page.body)).toEqual({ error: 'login_required' })
  })

  it('brings a page request back with its query', async () => {
    const { app, newAgent } = await start()
    const page = await newAgent().fetch(app.url, '/me?a=1&b=//x', navigation)
    expect(page).toMatchObject({ status: 303 })
    expect(page.header('location')).toBe(`/auth/login?return_to=${encodeURIComponent('/me?a=1&b=//x')}&by=app`)
  })
})

/** What cookies take up in a request. */
const sizeOf = (cookies: readonly Cookie[]): number =>
  cookies.map(({ name, value }) => `${name}=${value}`).join('; ').length

const navigation = { headers: { 'sec-fetch-dest': 'document', 'sec-fetch-mode': 'navigate', accept: 'text/html' } }
