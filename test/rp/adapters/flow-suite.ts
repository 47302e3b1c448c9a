import { type OutgoingHttpHeaders, request } from 'node:http'
import { text } from 'node:stream/consumers'
import { afterEach, describe, expect, it } from 'vitest'
import { LockstepError } from '../../../src/protocol/errors.ts'
import { type Mount, startWorld, type TestWorld } from '../support.ts'

/** An app of a framework as the suite wants it, once as it should be and once with somebody in its way. */
export interface AdapterCase {
  readonly name: string
  /** `/` says `signed in` or `signed out CAUSE`; `/me` is behind requireLogin and says `Hello NAME`; `POST /echo` echoes. */
  readonly mount: Mount
  /** The same behind each body parser the framework has, by name. */
  readonly parsers: Readonly<Record<string, Mount>>
  /** The same behind each thing that reads bodies, or half of them, and keeps nothing, by name. */
  readonly eaters: Readonly<Record<string, Mount>>
  /** True where pages cannot set cookies, as in Next. */
  readonly keepsDeadCookies?: true
  /** What a guarded route answers while the store is away. Default 503. */
  readonly away?: 500
}

const form = { 'content-type': 'application/x-www-form-urlencoded' }
const navigation = { headers: { 'sec-fetch-dest': 'document', 'sec-fetch-mode': 'navigate', accept: 'text/html' } }

/** What every adapter must do, whatever its framework: one suite, so that none does it differently. */
export function adapterFlows({ name, mount, parsers, eaters, keepsDeadCookies, ...other }: AdapterCase): void {
  let world: TestWorld | undefined

  async function start(how: Mount = mount): Promise<TestWorld> {
    world = await startWorld({ mount: how })
    return world
  }

  afterEach(async () => {
    await world?.close()
    world = undefined
  })

  describe(`the ${name} adapter`, () => {
    it('takes a page request to the login and back to the page it wanted, query and all [Core §3.1] [every 6]', async () => {
      const { app, newAgent } = await start()
      const agent = newAgent()
      const asked = await agent.fetch(app.url, '/me?a=1&b=//x', navigation)
      expect(asked.status).toBe(303)
      expect(asked.header('location')).toBe(`/auth/login?return_to=${encodeURIComponent('/me?a=1&b=//x')}&by=app`)
      const login = await agent.open(`${app.url}/me?a=1`)
      const page = await agent.submit(login, { username: 'ada' })
      expect(page).toMatchObject({ status: 200, url: `${app.url}/me?a=1`, body: 'Hello the one called ada' })
      expect((await agent.open(`${app.url}/`)).body).toBe('signed in')
    })

    it('answers scripts that nobody is signed in for with 401 [every 6]', async () => {
      const { app, newAgent } = await start()
      const page = await newAgent().fetch(app.url, '/me')
      expect(page.status).toBe(401)
      expect(JSON.parse(page.body)).toEqual({ error: 'login_required' })
      expect(page.header('cache-control')).toBe('no-store')
    })

    it('hears a logout at the other app by back-channel, and tells its tabs [BC §2.7]', async () => {
      const { app, other, newAgent, signIn } = await start()
      await logOutAtTheOther({ app, other, newAgent, signIn })
    })

    for (const [parser, behind] of Object.entries(parsers)) {
      it(`receives Logout Tokens behind ${parser}, and sees two of them [BC §2.5] [every 4]`, async () => {
        const { app, other, newAgent, signIn } = await start(behind)
        const agent = await logOutAtTheOther({ app, other, newAgent, signIn })
        const body = 'logout_token=a&logout_token=b'
        const page = await agent.fetch(app.url, '/auth/backchannel-logout', { method: 'POST', headers: form, body })
        expect(page.status).toBe(400)
        expect(page.body).toContain('must be sent once')
      })
    }

    for (const [eater, behind] of Object.entries(eaters)) {
      it(`names the fix behind ${eater}, with the length of the body and without [every 4]`, async () => {
        const { app } = await start(behind)
        for (const length of [{ 'content-length': 14 }, { 'transfer-encoding': 'chunked' }]) {
          const answer = await post(app.port, { ...form, ...length }, 'logout_token=a')
          expect(answer).toEqual([500, expect.stringContaining('mount auth(rp) before body parsers')])
        }
      })
    }

    it('signs out of this app only, and the open tab hears it', async () => {
      const { app, newAgent, signIn } = await start()
      const agent = newAgent()
      await signIn(agent, app)
      const tab = await agent.events(app.url, '/auth/session/events')
      expect(JSON.parse((await tab.next())?.data ?? '')).toMatchObject({ state: 'alive', sub: 'ada' })
      const question = await agent.open(`${app.url}/auth/logout?return_to=/`)
      const page = await agent.submit(question, { from: 'this-app' })
      expect(page).toMatchObject({ status: 200, url: `${app.url}/` })
      expect(JSON.parse((await tab.next())?.data ?? '')).toMatchObject({
        state: 'ended',
        ended: { cause: 'this_app' },
      })
      expect(await tab.next()).toBeUndefined()
      expect((await agent.fetch(app.url, '/me')).status).toBe(401)
    })

    it(`says how an RP session ended${keepsDeadCookies ? '' : ', and sets the dead cookie aside with the next whole page'}`, async () => {
      const { app, newAgent, signIn } = await start()
      const agent = newAgent()
      await signIn(agent, app)
      const [session] = await app.sessions.listBySub('ada')
      await app.sessions.delete(session?.handle ?? '', { cause: 'admin', at: 1 })
      expect((await agent.fetch(app.url, '/')).body).toBe('signed out admin')
      expect(agent.cookies(app.url)).toHaveLength(1)
      expect((await agent.open(`${app.url}/`)).body).toBe('signed out admin')
      expect((await agent.open(`${app.url}/`)).body).toBe(keepsDeadCookies ? 'signed out admin' : 'signed out ')
      const { body } = await agent.fetch(app.url, '/auth/session')
      expect(JSON.parse(body)).toMatchObject({ state: keepsDeadCookies ? 'ended' : 'none' })
    })

    it('takes no cookie of a new login away with an answer about the old one that comes late', async () => {
      const { app, newAgent, signIn } = await start()
      const agent = newAgent()
      await signIn(agent, app)
      const [session] = await app.sessions.listBySub('ada')
      await app.sessions.delete(session?.handle ?? '', { cause: 'logout_token', at: 1 })
      const { get } = app.sessions
      const held = Promise.withResolvers<void>()
      const asked = Promise.withResolvers<void>()
      app.sessions.get = async (handle) => {
        const found = await get(handle)
        asked.resolve()
        await held.promise
        return found
      }
      const late = agent.open(`${app.url}/`)
      await asked.promise
      app.sessions.get = get
      await signIn(agent, app)
      held.resolve()
      expect((await late).body).toBe('signed out logout_token')
      expect((await agent.fetch(app.url, '/me')).body).toBe('Hello the one called ada')
    })

    it('lets nobody in while the store is away, and signs nobody out by it [every 8]', async () => {
      const { app, newAgent, signIn } = await start()
      const agent = newAgent()
      await signIn(agent, app)
      const { get } = app.sessions
      app.sessions.get = async () => {
        throw new LockstepError('store_failed', 'the store at 10.0.0.7 is away')
      }
      const me = await agent.fetch(app.url, '/me')
      expect(me.status).toBe(other.away ?? 503)
      expect(me.body).not.toMatch(/Hello|10\.0\.0\.7/)
      expect(await agent.fetch(app.url, '/auth/session')).toMatchObject({
        status: 503,
        body: expect.stringContaining('temporarily_unavailable'),
      })
      app.sessions.get = get
      expect((await agent.fetch(app.url, '/me')).body).toBe('Hello the one called ada')
    })

    it('never counts what a tab asks in the background as use of the app [T11] [every 10]', async () => {
      const { app, newAgent, signIn, pass } = await start()
      const agent = newAgent()
      await signIn(agent, app)
      const idleUntil = async () => (await app.sessions.listBySub('ada'))[0]?.idleExpiresAt ?? 0
      const before = await idleUntil()
      pass(3 * 3600)
      await agent.fetch(app.url, '/auth/session')
      const tab = await agent.events(app.url, '/auth/session/events')
      await tab.next()
      await agent.fetch(app.url, '/auth/nothing')
      expect(await idleUntil()).toBe(before)
      await agent.fetch(app.url, '/me')
      expect(await idleUntil()).toBeGreaterThan(before)
      tab.close()
    })

    it('lets go of a stream when its tab is gone [T17] [every 7]', async () => {
      const { app, newAgent, signIn } = await start()
      const agent = newAgent()
      await signIn(agent, app)
      const released = new Promise<void>((resolve) => {
        const subscribe = app.sessions.subscribe
        app.sessions.subscribe = async (handle, onHint) => {
          const stop = await subscribe(handle, onHint)
          return () => {
            stop()
            resolve()
          }
        }
      })
      const tab = await agent.events(app.url, '/auth/session/events')
      await tab.next()
      tab.close()
      await released
    })

    it('answers 413 to a body that is too long, without reading it to its end', async () => {
      const { app } = await start()
      const status = await new Promise<number | undefined>((resolve, reject) => {
        const path = '/auth/backchannel-logout'
        const post = request({ host: '127.0.0.1', port: app.port, path, method: 'POST', headers: form }, (res) => {
          resolve(res.statusCode)
          post.destroy()
        })
        post.on('error', reject)
        post.write(`logout_token=${'a'.repeat(100_000)}`) // and it never ends
      })
      expect(status).toBe(413)
    })

    it('answers unknown routes 404 and wrong methods 405 with Allow, all with no-store', async () => {
      const { app, newAgent } = await start()
      const agent = newAgent()
      for (const url of ['/auth', '/auth/', '/auth/nothing', '/auth/session/', '/auth/__proto__']) {
        const page = await agent.fetch(app.url, url)
        expect([url, page.status]).toEqual([url, 404])
        expect(page.header('cache-control')).toBe('no-store')
      }
      const page = await agent.fetch(app.url, '/auth/login', { method: 'POST' })
      expect(page.status).toBe(405)
      expect(page.header('allow')).toBe('GET')
      expect(page.header('cache-control')).toBe('no-store')
    })

    it('serves the session monitor, and 304 when the browser has it', async () => {
      const { app, newAgent } = await start()
      const agent = newAgent()
      const first = await agent.fetch(app.url, '/auth/session-monitor.js')
      expect(first.status).toBe(200)
      expect(first.header('content-type')).toBe('text/javascript; charset=utf-8')
      const headers = { 'if-none-match': first.header('etag') ?? '' }
      expect(await agent.fetch(app.url, '/auth/session-monitor.js', { headers })).toMatchObject({
        status: 304,
        body: '',
      })
    })

    it("leaves the app's own routes and bodies alone", async () => {
      const { app, newAgent } = await start()
      const post = { method: 'POST', headers: form, body: 'a=1' }
      expect(await newAgent().fetch(app.url, '/echo', post)).toMatchObject({ status: 200, body: 'a=1' })
    })
  })
}

/** Posts a Logout Token with these headers; resolves with status and body. */
function post(port: number, headers: OutgoingHttpHeaders, body: string): Promise<[number | undefined, string]> {
  const path = '/auth/backchannel-logout'
  return new Promise((resolve, reject) => {
    const sent = request({ host: '127.0.0.1', port, path, method: 'POST', headers }, async (response) => {
      resolve([response.statusCode, await text(response)])
    })
    sent.on('error', reject)
    sent.end(body)
  })
}

async function logOutAtTheOther({
  app,
  other,
  newAgent,
  signIn,
}: Pick<TestWorld, 'app' | 'other' | 'newAgent' | 'signIn'>) {
  const agent = newAgent()
  await signIn(agent, app)
  await signIn(agent, other)
  const tab = await agent.events(other.url, '/auth/session/events')
  await tab.next()
  const question = await agent.submit(await agent.open(`${app.url}/auth/logout`))
  await agent.submit(question, { logout: 'yes' })
  expect(JSON.parse((await tab.next())?.data ?? '')).toMatchObject({ state: 'ended' })
  expect(other.log).toContainEqual({ event: 'logout_received', ended: 1, by: 'sid' })
  return agent
}
