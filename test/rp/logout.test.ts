import { createHash } from 'node:crypto'
import express from 'express'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { namesOf } from '../../src/rp/session-id.ts'
import { someSession } from '../../src/testing/rp-store-bench.ts'
import type { Page, UserAgent } from '../support/user-agent.ts'
import { ask, postForm } from './plain-request.ts'
import { startWorld, type TestApp, type TestWorld, type WorldOptions } from './support.ts'

let world: TestWorld | undefined

async function start(options?: WorldOptions): Promise<TestWorld> {
  world = await startWorld(options)
  return world
}

afterEach(async () => {
  await world?.close()
  world = undefined
})

/** Presses a button of the app's own page that signs out; ends at the OP's question. */
async function signOut(agent: UserAgent, app: TestApp, fields: Record<string, string> = {}): Promise<Page> {
  const confirm = await agent.open(`${app.url}/auth/logout`)
  return agent.submit(confirm, fields)
}

describe('signing out', () => {
  it('ends the RP session here first, then goes to the OP by POST with hint, client and state [RPI-2-b/c/r] [T12] [A59]', async () => {
    const { app, issuer, newAgent, signIn } = await start()
    const agent = newAgent()
    await signIn(agent, app)
    const page = await signOut(agent, app)
    expect(page.url.startsWith(`${issuer}/session/end`)).toBe(true)
    expect(page.trail.join(' ')).not.toContain('id_token_hint')
    expect(await app.sessions.listBySub('ada')).toEqual([])
    expect(app.ended).toEqual([{ sub: 'ada', cause: 'rp_initiated' }])
    expect(agent.cookies(app.url).map(({ name }) => name)).toEqual([
      expect.stringMatching(/-left$/),
      expect.stringMatching(/-logout$/),
    ])
  })

  it('comes back to a neutral page when the OP is done, and the other app’s tab hears of it [BCL-2.7-a]', async () => {
    const { app, other, newAgent, signIn } = await start()
    const agent = newAgent()
    await signIn(agent, app)
    await signIn(agent, other)
    const tab = await agent.events(other.url, '/auth/session/events')
    expect(JSON.parse((await tab.next())?.data ?? '')).toMatchObject({ state: 'alive', sub: 'ada', client_id: 'mail' })
    const question = await signOut(agent, app)
    const back = await agent.submit(question, { logout: 'yes' })
    expect(back).toMatchObject({ status: 200 })
    expect(back.url).toMatch(new RegExp(`^${app.url}/auth/logged-out\\?state=`))
    expect(back.body).toContain('You are signed out')
    expect(JSON.parse((await tab.next())?.data ?? '')).toMatchObject({
      state: 'ended',
      ended: { cause: 'logout_token' },
    })
    expect(await tab.next()).toBeUndefined()
    expect(agent.cookies(app.url)).toEqual([])
    expect((await agent.open(other.url)).body).toBe('signed out logout_token')
    expect((await agent.open(other.url)).body).toBe('signed out ') // the dead cookie went with the page before
  })

  it('leads to the page of the app that was asked for, when the OP sends the state back [RFC 9700 §4.11]', async () => {
    const { app, newAgent, signIn } = await start()
    const agent = newAgent()
    await signIn(agent, app)
    const question = await signOut(agent, app, { return_to: '/?bye' })
    expect((await agent.submit(question, { logout: 'yes' })).url).toBe(`${app.url}/?bye`)
  })

  it.each([
    [
      'multipart/form-data; boundary=x',
      '--x\r\ncontent-disposition: form-data; name="from"\r\n\r\nthis-app\r\n--x--\r\n',
    ],
    ['application/json', '{"from":"this-app"}'],
    ['text/plain;charset=UTF-8', 'from=this-app'],
  ])('ends nothing, rather than more than was asked for, when from comes as %s', async (type, body) => {
    const { app, newAgent, signIn } = await start({ before: (shell) => void shell.use(express.json()) })
    const agent = newAgent()
    await signIn(agent, app)
    const headers = { 'content-type': type, 'sec-fetch-site': 'same-origin' }
    const page = await agent.fetch(app.url, '/auth/logout', { method: 'POST', headers, body })
    expect(page).toMatchObject({ status: 415, body: expect.stringContaining('application/x-www-form-urlencoded') })
    expect(await app.sessions.listBySub('ada')).toHaveLength(1)
  })

  it('needs no body to sign out everywhere, as a script sends it', async () => {
    const { app, newAgent, signIn } = await start()
    const agent = newAgent()
    await signIn(agent, app)
    const headers = { 'sec-fetch-site': 'same-origin' }
    expect((await agent.fetch(app.url, '/auth/logout', { method: 'POST', headers })).status).toBe(200)
    expect(app.ended).toEqual([{ sub: 'ada', cause: 'rp_initiated' }])
  })

  it.each([
    'state=made-up',
    '',
    'state=',
  ])('uses nothing stored for the way back when it is sent %j [RFC 9700 §4.11] [E47] [A58]', async (query) => {
    const { app, newAgent, signIn } = await start()
    const agent = newAgent()
    await signIn(agent, app)
    await signOut(agent, app, { return_to: '/?bye' })
    const page = await agent.open(`${app.url}/auth/logged-out?${query}`)
    expect(page).toMatchObject({ status: 200, url: `${app.url}/auth/logged-out?${query}` })
    expect(page.body).toContain('You are signed out')
  })

  it('uses a state once, and shows the neutral page for it afterwards; a preflight learns nothing [RFC 9700 §4.11] [A58]', async () => {
    const { app, newAgent, signIn } = await start()
    const agent = newAgent()
    await signIn(agent, app)
    const back = await agent.submit(await signOut(agent, app, { return_to: '/?bye' }), { logout: 'yes' })
    const used = back.trail.find((url) => url.includes('/auth/logged-out?state=')) ?? ''
    expect(back.url).toBe(`${app.url}/?bye`)
    const again = await agent.open(used)
    expect(again).toMatchObject({ status: 200, url: used })
    expect(again.body).toContain('You are signed out')
    const preflight = await ask(app.rp, 'OPTIONS', '/auth/logged-out')
    expect([preflight.status, preflight.headers.allow]).toEqual([405, 'GET'])
    expect(Object.keys(preflight.headers).filter((name) => name.startsWith('access-control'))).toEqual([])
  })

  it('only of this app leaves the OP session alone; the next login asks once more, and later ones do not [RPI-2-r]', async () => {
    const { app, other, newAgent, signIn } = await start()
    const agent = newAgent()
    await signIn(agent, app)
    const confirm = await agent.open(`${app.url}/auth/logout`)
    const page = await agent.submit(confirm, { from: 'this-app' })
    expect(page.url).toBe(`${app.url}/auth/logged-out`)
    expect(app.ended).toEqual([{ sub: 'ada', cause: 'this_app' }])
    expect((await signIn(agent, other)).trail.join(' ')).not.toContain('/interaction/')
    const asked = await agent.click(page, '/auth/login')
    expect(asked.body).toContain('name="username"')
    expect((await agent.submit(asked, { username: 'ada' })).body).toBe('signed in')
    expect(agent.cookies(app.url)).toHaveLength(1)
    await agent.open(`${app.url}/auth/login?return_to=/me`)
    expect((await agent.open(`${app.url}/me`)).body).toBe('Hello the one called ada')
  })

  it.each([
    'consent',
    'select_account',
  ])('only of this app asks once more even by a link that says prompt=%s [T3]', async (prompt) => {
    const { app, newAgent, signIn } = await start()
    const agent = newAgent()
    await signIn(agent, app)
    await agent.submit(await agent.open(`${app.url}/auth/logout`), { from: 'this-app' })
    const { trail } = await agent.open(`${app.url}/auth/login?prompt=${prompt}`)
    const asked = trail
      .map((url) => new URL(url))
      .find(({ origin }) => origin !== app.url)
      ?.searchParams.get('prompt')
    expect(asked?.split(' ').toSorted()).toEqual([prompt, 'login'].toSorted())
  })

  it('only of this app is not undone by the app’s other tab, which reloads when it hears of it [RPI-2-r]', async () => {
    const { app, newAgent, signIn } = await start()
    const agent = newAgent()
    await signIn(agent, app)
    const otherTab = await agent.events(app.url, '/auth/session/events')
    await otherTab.next()
    await agent.submit(await agent.open(`${app.url}/auth/logout`), { from: 'this-app', return_to: '/me' })
    expect(JSON.parse((await otherTab.next())?.data ?? '')).toMatchObject({ ended: { cause: 'this_app' } })
    for (let reload = 0; reload < 2; reload++) {
      const page = await agent.open(`${app.url}/me?x=1`)
      expect(page.url).toBe(`${app.url}/auth/logged-out?return_to=${encodeURIComponent('/me?x=1')}`)
      expect(page.body).toContain('You are signed out')
    }
    const asked = await agent.click(await agent.open(`${app.url}/me`), '/auth/login?return_to=%2Fme')
    expect((await agent.submit(asked, { username: 'ada' })).url).toBe(`${app.url}/me`)
  })

  it.each([
    'this-app',
    'everywhere',
  ])('of %s holds in a tab whose reload is faster than the answer with the cookie', async (from) => {
    const { app, issuer, newAgent, signIn } = await start()
    const agent = newAgent()
    await signIn(agent, app)
    const { value = '' } = agent.cookies(app.url).find(({ name }) => name === cookieName(issuer)) ?? {}
    await agent.submit(await agent.open(`${app.url}/auth/logout`), { from })
    for (const { name } of agent.cookies(app.url)) agent.setCookie(app.url, `${name}=; Path=/; Secure; Max-Age=0`)
    agent.setCookie(app.url, `${cookieName(issuer)}=${value}; Path=/; Secure`)
    expect((await agent.open(`${app.url}/me`)).body).toContain('You are signed out')
    expect((await agent.open(`${app.url}/me`)).body).toContain('You are signed out')
  })

  it('discards a login that was under way in another tab, and asks once more [T3]', async () => {
    const { app, newAgent, signIn } = await start()
    const agent = newAgent()
    await signIn(agent, app)
    const begun = await agent.fetch(app.url, '/auth/login', navigation)
    const callback = await agent.fetch(app.url, begun.header('location') ?? '', navigation)
    await agent.submit(await agent.open(`${app.url}/auth/logout`), { from: 'this-app' })
    const page = await agent.open(callback.header('location') ?? '')
    expect(page.body).toContain('name="username"')
    expect(await app.sessions.listBySub('ada')).toEqual([])
  })

  it('kills the code of a login in another tab, which is then asked once more instead of shown an error [T3]', async () => {
    const { app, newAgent, signIn, provider } = await start()
    const agent = newAgent()
    await signIn(agent, app)
    const begun = await agent.fetch(app.url, '/auth/login?return_to=/me', navigation)
    const callback = await agent.fetch(app.url, begun.header('location') ?? '', navigation)
    const code = new URL(callback.header('location') ?? '').searchParams.get('code') ?? ''
    const question = await signOut(agent, app)
    await agent.submit(question, { logout: 'yes' })
    expect(await provider.AuthorizationCode.find(code)).toBeUndefined()
    const page = await agent.open(callback.header('location') ?? '')
    expect(page.body).toContain('name="username"')
    expect((await agent.submit(page, { username: 'ada' })).url).toBe(`${app.url}/me`)
  })

  it('tells the other tabs of this browser', async () => {
    const { app, newAgent, signIn } = await start()
    const agent = newAgent()
    await signIn(agent, app)
    const tab = await agent.events(app.url, '/auth/session/events')
    await tab.next()
    await signOut(agent, app)
    const event = JSON.parse((await tab.next())?.data ?? '')
    expect(event).toMatchObject({ state: 'ended', ended: { cause: 'rp_initiated', at_ms: expect.any(Number) } })
  })

  it('does not happen by a GET, an image or another site’s form [RPI-6-a] [A56]', async () => {
    const { app, other, newAgent, signIn } = await start()
    const agent = newAgent()
    await signIn(agent, app)
    await agent.open(`${app.url}/auth/logout`)
    await agent.fetch(other.url, `${app.url}/auth/logout`, { headers: { 'sec-fetch-dest': 'image' } })
    const foreign = await agent.fetch(other.url, `${app.url}/auth/logout`, { method: 'POST' })
    expect(foreign.status).toBe(403)
    const headers = { 'sec-fetch-site': 'same-site' }
    expect((await agent.fetch(app.url, '/auth/logout', { method: 'POST', headers })).status).toBe(403)
    expect((await agent.open(`${app.url}/me`)).status).toBe(200)
  })

  it('is asked for by a page whose forms say where they are from, and whose address nobody learns [A56]', async () => {
    const { app } = await start()
    // With no-referrer a form's POST says `Origin: null`, and browsers without Fetch Metadata have nothing else to say.
    const page = await ask(app.rp, 'GET', '/auth/logout')
    expect(page.headers['referrer-policy']).toBe('strict-origin')
  })

  it('in a browser without Fetch Metadata is judged by Origin, and refused without one [A56]', async () => {
    const { app, issuer } = await start()
    const [id, now] = ['x'.repeat(43), Math.floor(Date.now() / 1000)]
    const session = someSession({ ...namesOf(id), idleExpiresAt: now + 99, expiresAt: now + 99 })
    await app.sessions.create(session)
    const cookie = `${cookieName(issuer)}=${id}`
    const logOut = async (headers: Record<string, string>) =>
      (await postForm(app.rp, '/auth/logout', { from: 'this-app' }, { cookie, ...headers })).status
    for (const origin of ['https://evil.example', 'null', `${app.url}.evil.example`]) {
      expect(await logOut({ origin })).toBe(403)
    }
    expect(await logOut({})).toBe(403)
    expect(await app.sessions.listBySub('ada')).toHaveLength(1)
    expect(await logOut({ origin: app.url })).toBe(303)
    expect(await app.sessions.listBySub('ada')).toEqual([])
  })

  it.each([
    '//evil.example',
    'https://evil.example/',
    '/\\evil.example',
    '/auth/login',
  ])('leads into the app, not to %s, here and on the way back [RFC 9700 §4.11] [A57]', async (return_to) => {
    const { app, newAgent, signIn } = await start()
    const agent = newAgent()
    await signIn(agent, app)
    const left = await agent.submit(await agent.open(`${app.url}/auth/logout`), { from: 'this-app', return_to })
    expect(left.url).toBe(`${app.url}/`)
    const asked = await agent.open(`${app.url}/auth/login`)
    await agent.submit(asked, { username: 'ada' })
    const back = await agent.submit(await signOut(agent, app, { return_to }), { logout: 'yes' })
    expect(back.url).toBe(`${app.url}/`)
  })

  it('twice succeeds twice [SM-3.1-j]', async () => {
    const { app, newAgent, signIn } = await start()
    const agent = newAgent()
    await signIn(agent, app)
    const confirm = await agent.open(`${app.url}/auth/logout`)
    await agent.submit(confirm)
    expect(await agent.submit(confirm)).toMatchObject({ status: 200 })
  })

  it('everywhere goes to the OP without a hint when the RP session is dead already: the OP asks [RPI-2-d/r] [A59]', async () => {
    const { app, other, issuer, newAgent, signIn } = await start()
    const agent = newAgent()
    await signIn(agent, app)
    await signIn(agent, other)
    const [session] = await app.sessions.listBySub('ada')
    await app.sessions.delete(session?.handle ?? '', { cause: 'admin', at: 1 })
    const question = await signOut(agent, app, { return_to: '/?bye' })
    expect(question.url.startsWith(`${issuer}/session/end`)).toBe(true)
    expect((await agent.submit(question, { logout: 'yes' })).url).toBe(`${app.url}/?bye`)
    expect((await agent.fetch(other.url, '/auth/session')).status).toBe(401)
  })

  it('refuses a from it does not know, and ends nothing', async () => {
    const { app, newAgent, signIn } = await start()
    const agent = newAgent()
    await signIn(agent, app)
    const confirm = await agent.open(`${app.url}/auth/logout`)
    expect((await agent.submit(confirm, { from: 'somewhere' })).status).toBe(400)
    expect((await agent.open(`${app.url}/me`)).status).toBe(200)
  })

  it('refuses a from in the query, where it would go unread, and ends nothing', async () => {
    const { app, newAgent, signIn } = await start()
    const agent = newAgent()
    await signIn(agent, app)
    const answer = await agent.fetch(app.url, '/auth/logout?from=this-app', { method: 'POST' })
    expect(answer).toMatchObject({ status: 400, body: expect.stringContaining('in the form') })
    expect(app.ended).toEqual([])
    const url = '/auth/logout?from=everywhere'
    const both = await agent.fetch(app.url, url, { method: 'POST', body: 'from=this-app' })
    expect(both.status).toBe(303)
    expect(app.ended).toEqual([{ sub: 'ada', cause: 'this_app' }])
  })

  it('works here when the OP was never reached, and says what it could not do', async () => {
    const { app, issuer, newAgent, stopOp } = await start()
    const agent = newAgent()
    await stopOp()
    const id = 'x'.repeat(43)
    const now = Math.floor(Date.now() / 1000)
    const life = { requestedAt: Date.now(), idleExpiresAt: now + 99, expiresAt: now + 99 }
    const session = someSession({ ...namesOf(id), ...life })
    await app.sessions.create(session)
    const probe = await newAgent().open(`${app.url}/auth/login`)
    expect(probe.status).toBe(503)
    agent.setCookie(app.url, `${cookieName(issuer)}=${id}; Path=/; Secure`)
    expect((await agent.open(app.url)).body).toBe('signed in')
    const page = await signOut(agent, app)
    expect(page.status).toBe(503)
    expect(page.body).toContain('You are signed out')
    expect(page.body).toContain('could not be told')
    expect((await agent.open(app.url)).body).toBe('signed out ')
  })

  it('works here when the OP went away after it was found, says so, and can be tried again', async () => {
    const { app, other, newAgent, signIn, stopOp, startOp, pass } = await start()
    const agent = newAgent()
    await signIn(agent, app)
    await signIn(agent, other)
    await stopOp()
    pass(31)
    const page = await signOut(agent, app)
    expect(page.status).toBe(503)
    expect(page.body).toContain('could not be told')
    expect(await app.sessions.listBySub('ada')).toEqual([])
    expect((await agent.open(`${app.url}/me`)).body).toContain('You are signed out')
    await startOp()
    await agent.submit(await agent.submit(page), { logout: 'yes' })
    expect((await agent.fetch(other.url, '/auth/session')).status).toBe(401)
  })

  it('revokes the refresh token at the OP [BC §2.7, T7]', async () => {
    const client = { grant_types: ['authorization_code', 'refresh_token'] }
    const { app, provider, newAgent, signIn } = await start({ client })
    const revoked: string[] = []
    provider.on('refresh_token.destroyed', (token) => revoked.push(token.jti))
    const agent = newAgent()
    await signIn(agent, app)
    await signOut(agent, app)
    await vi.waitFor(() => expect(revoked).toHaveLength(1))
    await vi.waitFor(async () => expect(await app.sessions.nextOwedAt()).toBeUndefined())
  })

  it('keeps a refresh token with offline_access [BC §2.7]', async () => {
    const client = { grant_types: ['authorization_code', 'refresh_token'] }
    const rp = { scope: 'openid profile offline_access', authorizationParams: { prompt: 'consent' } } as const
    const { app, newAgent, signIn } = await start({ client, rp })
    const agent = newAgent()
    await signIn(agent, app)
    const [session] = await app.sessions.listBySub('ada')
    expect(session?.refreshToken?.offline).toBe(true)
    await signOut(agent, app)
    expect(await app.sessions.nextOwedAt()).toBeUndefined()
  })
})

describe('the page after a logout', () => {
  it('says so when somebody is signed in, and brings him back where he wanted to be', async () => {
    const { app, newAgent, signIn } = await start()
    const agent = newAgent()
    await signIn(agent, app)
    expect((await agent.open(`${app.url}/auth/logged-out`)).body).toContain('You are signed in')
    expect((await agent.open(`${app.url}/auth/logged-out?return_to=/me`)).url).toBe(`${app.url}/me`)
    expect((await agent.open(`${app.url}/auth/logged-out?return_to=//evil.example`)).url).toBe(`${app.url}/`)
  })
})

const navigation = { headers: { 'sec-fetch-dest': 'document', 'sec-fetch-mode': 'navigate', accept: 'text/html' } }

/** The name a browser would have got the cookie under. */
function cookieName(issuer: string): string {
  const hash = createHash('sha256')
    .update(JSON.stringify([`${issuer}/`, 'notes']))
    .digest('base64url')
  return `__Host-lockstep-${hash.slice(0, 8)}`
}
