import type { Provider } from 'oidc-provider'
import { afterEach, describe, expect, it, vi } from 'vitest'
import type { Page, UserAgent } from '../support/user-agent.ts'
import { startWorld, type TestWorld, type WorldOptions } from './support.ts'

let world: TestWorld | undefined

async function start(options?: WorldOptions): Promise<TestWorld> {
  world = await startWorld(options)
  return world
}

afterEach(async () => {
  await world?.close()
  world = undefined
})

/** What the iframe posts to the page that made it. */
function messageOf(page: Page): { message: Record<string, unknown>; target: string } {
  const found = /^<!doctype html>\n<title>[^<]*<\/title><script>parent\.postMessage\((.*), (".*")\)<\/script>\n$/.exec(
    page.body,
  )
  if (!found) throw new Error(`no message on ${page.url} (${page.status}): ${page.body.slice(0, 200)}`)
  return { message: JSON.parse(found[1] ?? ''), target: JSON.parse(found[2] ?? '') }
}

const silent = '/auth/silent-check'

/** Makes the End-User's last authentication at the OP an hour older. */
async function anHourLater(agent: UserAgent, provider: Provider, issuer: string): Promise<void> {
  const id = agent.cookies(issuer).find(({ name }) => name === '_session')?.value ?? ''
  const session = await provider.Session.find(id)
  if (session?.loginTs === undefined) throw new Error('nobody is signed in at the OP')
  session.loginTs -= 3_600
  await session.persist()
}
const withoutBackchannel: WorldOptions = { client: { backchannel_logout_uri: undefined } }

describe('a silent check', () => {
  it('says that the End-User is the same, and keeps the RP session and its id [SM-3.1-g/h] [E38]', async () => {
    const { app, newAgent, signIn } = await start()
    const agent = newAgent()
    const tab = await signIn(agent, app)
    const before = agent.cookies(app.url)
    const frame = await agent.frame(tab, silent)
    expect(messageOf(frame)).toEqual({ message: { lockstep: 'silent-check', result: 'same' }, target: app.url })
    const request = new URL(frame.trail[1] ?? '').searchParams
    expect(request.get('prompt')).toBe('none')
    expect(request.get('id_token_hint')).toMatch(/^eyJ/)
    expect(agent.cookies(app.url)).toEqual(before)
  })

  it('takes up the sid of a new login at the OP, so that the logout of it ends the RP session [BC §2.7] [SM-3.1-g/h]', async () => {
    const { app, issuer, newAgent, signIn } = await start()
    const agent = newAgent()
    const tab = await signIn(agent, app)
    const [session] = await app.sessions.listBySub('ada')
    // As it is after a logout that was never heard of and a login by way of another app.
    const kept = await app.sessions.delete(session?.handle ?? '', { cause: 'admin', at: 1 })
    if (kept === undefined) throw new Error('nobody is signed in')
    const before = { ...kept, sid: 'of a session that is over', requestedAt: await app.sessions.now() }
    await app.sessions.create(before)
    expect(messageOf(await agent.frame(tab, silent)).message).toEqual({ lockstep: 'silent-check', result: 'same' })
    await agent.submit(await agent.open(`${issuer}/session/end`), { logout: 'yes' })
    await vi.waitFor(() => expect(app.ended).toEqual([{ sub: 'ada', cause: 'logout_token' }]))
  })

  it('ends nobody over a late logout of an older login while it is under way, where the OP uses a sid again [T3]', async () => {
    const { app, newAgent, signIn } = await start({ rp: { allow: { sidReused: true } } })
    const agent = newAgent()
    const tab = await signIn(agent, app)
    const { addSid, endBy } = app.sessions
    app.sessions.addSid = async (handle, learnt, options) => {
      const end = { cause: 'logout_token', at: 1 } as const
      const until = Math.ceil((await app.sessions.now()) / 1000) + 600
      const known = { jti: 'late', jtiExpiresAt: until, watermark: 1, watermarkExpiresAt: until, sidReused: true }
      await endBy({ sid: learnt.sid }, { ...known, end, revokeOffline: false })
      return addSid(handle, { ...learnt, requestedAt: learnt.requestedAt - 1 }, options)
    }
    expect(messageOf(await agent.frame(tab, silent)).message).toEqual({ lockstep: 'silent-check', result: 'same' })
    expect((await agent.open(`${app.url}/me`)).status).toBe(200)
  })

  it('asks who is signed in, however long ago he authenticated, and ends no login over max_age [SM-3.1-g/h]', async () => {
    const ofLogins = { acr_values: 'x', claims: '{"id_token":{"acr":null}}' }
    const { app, newAgent, signIn } = await start({ rp: { authorizationParams: { max_age: '3600', ...ofLogins } } })
    const agent = newAgent()
    const tab = await signIn(agent, app)
    const frame = await agent.frame(tab, silent)
    expect(messageOf(frame).message).toMatchObject({ result: 'same' })
    const request = new URL(frame.trail[1] ?? '').searchParams
    // Longer than anybody lives in a session: it also outdoes a default_max_age that the OP has for this client.
    expect(request.get('max_age')).toBe('2147483647')
    expect(Object.keys(ofLogins).filter((name) => request.has(name))).toEqual([])
  })

  it('asks for no access to anything, so that no token is left behind that outlives a logout', async () => {
    const asked = { scope: 'openid profile offline_access', authorizationParams: { prompt: 'consent' } }
    const client = { grant_types: ['authorization_code', 'refresh_token'] }
    const { app, provider, newAgent, signIn } = await start({ client, rp: asked })
    const issued: (string | undefined)[] = [] // this OP gives a refresh token with every code, as Keycloak does
    provider.on('refresh_token.saved', ({ scope }) => issued.push(scope))
    const agent = newAgent()
    const tab = await signIn(agent, app)
    expect(issued).toEqual(['openid profile offline_access'])
    const frame = await agent.frame(tab, silent)
    expect(messageOf(frame).message).toMatchObject({ result: 'same' })
    expect(new URL(frame.trail[1] ?? '').searchParams.get('scope')).toBe('openid')
    expect(issued).toEqual(['openid profile offline_access', 'openid'])
  })

  it('keeps a login that is older than the default_max_age of its client at the OP [SM-3.1-g/h]', async () => {
    const { app, issuer, provider, newAgent, signIn } = await start({ client: { default_max_age: 60 } })
    const agent = newAgent()
    const tab = await signIn(agent, app)
    await anHourLater(agent, provider, issuer)
    const query = new URLSearchParams({
      client_id: 'notes',
      redirect_uri: `${app.url}/auth/callback`,
      response_type: 'code',
      scope: 'openid',
      prompt: 'none',
      code_challenge: 'x'.repeat(43),
      code_challenge_method: 'S256',
    })
    const plain = await agent.fetch(issuer, `/auth?${query}`, { headers: { 'sec-fetch-dest': 'document' } })
    expect(plain.header('location')).toContain('error=login_required') // what it would be told without a max_age of its own
    expect(messageOf(await agent.frame(tab, silent)).message).toMatchObject({ result: 'same' })
  })

  it('runs one script, named by its hash, and may be framed by this app only [A60]', async () => {
    const { app, newAgent, signIn } = await start()
    const agent = newAgent()
    const frame = await agent.frame(await signIn(agent, app), silent)
    expect(frame.header('content-security-policy')).toMatch(
      /^default-src 'none'; script-src 'sha256-[\w+/]{43}='; frame-ancestors 'self'$/,
    )
    expect(frame.header('cache-control')).toBe('no-store')
  })

  it('ends the RP session when nobody is signed in at the OP any more [SM-3.1-i] [E39] [A61]', async () => {
    const { app, issuer, newAgent, signIn } = await start(withoutBackchannel)
    const agent = newAgent()
    const tab = await signIn(agent, app)
    expect(messageOf(await agent.frame(tab, silent)).message).toMatchObject({ result: 'same' })
    const question = await agent.open(`${issuer}/session/end`)
    await agent.submit(question, { logout: 'yes' })
    expect((await agent.open(`${app.url}/me`)).status).toBe(200)
    expect(messageOf(await agent.frame(tab, silent)).message).toEqual({ lockstep: 'silent-check', result: 'ended' })
    expect(app.ended).toEqual([{ sub: 'ada', cause: 'silent_check' }])
    expect(messageOf(await agent.frame(tab, silent)).message).toMatchObject({ result: 'ended' })
  })

  it('ends the RP session, and opens none, when another End-User is signed in at the OP [SM-3.1-i] [E39] [A62]', async () => {
    const { app, issuer, other, newAgent, signIn } = await start(withoutBackchannel)
    const agent = newAgent()
    const tab = await signIn(agent, app)
    expect(messageOf(await agent.frame(tab, silent)).message).toMatchObject({ result: 'same' })
    const question = await agent.open(`${issuer}/session/end`)
    await agent.submit(question, { logout: 'yes' })
    await signIn(agent, other, 'grace')
    // This OP honours the hint and answers login_required (Core §3.1.2.2); either way ada is signed out.
    expect(messageOf(await agent.frame(tab, silent)).message).toEqual({ lockstep: 'silent-check', result: 'ended' })
    expect((await agent.open(app.url)).body).toMatch(/^signed out/)
    expect(await app.sessions.listBySub('grace')).toEqual([])
  })

  it('takes login_required for nothing when prompt=none has never worked in this login, as with Lax cookies [SM-5.1-a]', async () => {
    const { app, issuer, newAgent, signIn } = await start(withoutBackchannel)
    const agent = newAgent()
    const tab = await signIn(agent, app)
    await agent.submit(await agent.open(`${issuer}/session/end`), { logout: 'yes' })
    for (let time = 0; time < 2; time++) {
      expect(messageOf(await agent.frame(tab, silent)).message).toEqual({ lockstep: 'silent-check', result: 'unknown' })
    }
    expect(app.ended).toEqual([])
    expect((await agent.open(`${app.url}/me`)).status).toBe(200)
  })

  it('does not know when the OP cannot be reached, and ends nothing [E41] [A61]', async () => {
    const { app, newAgent, signIn, stopOp } = await start()
    const agent = newAgent()
    const tab = await signIn(agent, app)
    const begun = await agent.fetch(tab, silent, { headers: { 'sec-fetch-dest': 'iframe' } })
    const state = new URL(begun.header('location') ?? '').searchParams.get('state')
    await stopOp()
    const frame = await agent.frame(tab, `/auth/callback?code=c&state=${state}&iss=${world?.issuer}`)
    expect(messageOf(frame).message).toMatchObject({ result: 'unknown' })
    expect(app.log).toContainEqual(expect.objectContaining({ event: 'silent_check_failed', code: 'op_unreachable' }))
    expect(app.log).not.toContainEqual(expect.objectContaining({ event: 'login_failed' })) // it is none
    expect((await agent.open(`${app.url}/me`)).status).toBe(200)
  })

  it.each([
    'interaction_required',
    'consent_required',
    'account_selection_required',
    'server_error',
    'temporarily_unavailable',
  ])('does not know when the OP answers %s, and ends nothing [E40] [A61]', async (error) => {
    const { app, issuer, newAgent, signIn } = await start()
    const agent = newAgent()
    const tab = await signIn(agent, app)
    const begun = await agent.fetch(tab, silent, { headers: { 'sec-fetch-dest': 'iframe' } })
    const state = new URL(begun.header('location') ?? '').searchParams.get('state')
    const query = new URLSearchParams({ error, state: state ?? '', iss: issuer })
    expect(messageOf(await agent.frame(tab, `/auth/callback?${query}`)).message).toMatchObject({ result: 'unknown' })
    expect(app.log).toEqual([expect.objectContaining({ event: 'silent_check_failed', code: error })])
    expect((await agent.open(`${app.url}/me`)).status).toBe(200)
  })

  it('that is begun and given up pushes no login out that is under way, however often, and leaves little behind [T29]', async () => {
    const { app, newAgent, signIn } = await start()
    const agent = newAgent()
    const tab = await signIn(agent, app)
    const login = await agent.open(`${app.url}/auth/login?prompt=login&return_to=/me`)
    for (let i = 0; i < 12; i++) await agent.fetch(tab, silent, { headers: { 'sec-fetch-dest': 'iframe' } })
    expect(agent.cookies(app.url).filter(({ name }) => /-silent-/.test(name))).toHaveLength(3)
    expect((await agent.submit(login, { username: 'ada' })).status).toBe(200)
  })

  it('is not pushed out by logins [T29]', async () => {
    const { app, newAgent, signIn } = await start()
    const agent = newAgent()
    const tab = await signIn(agent, app)
    const begun = await agent.fetch(tab, silent, { headers: { 'sec-fetch-dest': 'iframe' } })
    for (let i = 0; i < 8; i++) {
      await agent.fetch(app.url, '/auth/login', { headers: { 'sec-fetch-dest': 'document' } })
    }
    const frame = await agent.frame(tab, begun.header('location') ?? '')
    expect(messageOf(frame).message).toMatchObject({ result: 'same' })
  })

  it('believes no answer it did not ask for [RFC 9700 §4.7] [A61]', async () => {
    const { app, issuer, newAgent, signIn } = await start()
    const agent = newAgent()
    const tab = await signIn(agent, app)
    const forged = new URLSearchParams({ error: 'login_required', state: 'silent.made-up', iss: issuer })
    expect(messageOf(await agent.frame(tab, `/auth/callback?${forged}`)).message).toMatchObject({ result: 'unknown' })
    const begun = await agent.fetch(tab, silent, { headers: { 'sec-fetch-dest': 'iframe' } })
    const state = new URL(begun.header('location') ?? '').searchParams.get('state')
    const mixedUp = new URLSearchParams({ error: 'login_required', state: state ?? '', iss: 'https://evil.example' })
    expect(messageOf(await agent.frame(tab, `/auth/callback?${mixedUp}`)).message).toMatchObject({ result: 'unknown' })
    expect((await agent.open(`${app.url}/me`)).status).toBe(200)
  })

  it('is not for browsers without an RP session, other sites or whole pages', async () => {
    const { app, other, newAgent, signIn } = await start()
    const stranger = newAgent()
    expect(messageOf(await stranger.frame(app.url, silent)).message).toMatchObject({ result: 'unknown' })
    const agent = newAgent()
    await signIn(agent, app)
    expect((await agent.frame(other.url, `${app.url}${silent}`)).status).toBe(403)
    expect((await agent.open(`${app.url}${silent}`)).status).toBe(403)
  })
})
