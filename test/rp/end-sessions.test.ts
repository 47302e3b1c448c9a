import { afterEach, describe, expect, it, vi } from 'vitest'
import { LockstepError } from '../../src/index.ts'
import { startWorld, type TestWorld, type WorldOptions } from './support.ts'

/* The app itself ends RP sessions: an account was disabled, or somebody signs out his phone from his laptop. */

let world: TestWorld | undefined

async function start(options?: WorldOptions): Promise<TestWorld> {
  world = await startWorld(options)
  return world
}

afterEach(async () => {
  await world?.close()
  world = undefined
})

describe('endSessions', () => {
  it('ends those that are meant, tells their tabs and the app, and leaves the others alone', async () => {
    const { app, newAgent, signIn } = await start()
    const [phone, laptop, grace] = [newAgent(), newAgent(), newAgent()]
    await signIn(phone, app)
    const [onPhone] = await app.rp.sessionsOf('ada')
    await signIn(laptop, app)
    await signIn(grace, app, 'grace')
    const tab = await phone.events(app.url, '/auth/session/events')
    await tab.next()
    const ended = await app.rp.endSessions('ada', ({ id }) => id === onPhone?.id)
    expect(ended).toEqual([onPhone])
    expect(JSON.parse((await tab.next())?.data ?? '')).toMatchObject({ state: 'ended', ended: { cause: 'admin' } })
    expect(await tab.next()).toBeUndefined()
    expect(app.ended).toEqual([{ sub: 'ada', cause: 'admin' }])
    for (const agent of [laptop, grace]) expect((await agent.fetch(app.url, '/auth/session')).status).toBe(200)
  })

  it('ends all without more words, and none a second time', async () => {
    const { app, newAgent, signIn } = await start()
    const agents = [newAgent(), newAgent()]
    for (const agent of agents) await signIn(agent, app)
    expect(await app.rp.endSessions('ada')).toHaveLength(2)
    expect(await app.rp.endSessions('ada')).toEqual([])
    expect(await app.rp.endSessions('nobody')).toEqual([])
    for (const agent of agents) expect((await agent.fetch(app.url, '/auth/session')).status).toBe(401)
    expect(app.ended).toHaveLength(2)
  })

  it('lets nobody back in without a word: the next login in that browser asks once more, though the OP knows him', async () => {
    const { app, other, newAgent, signIn } = await start()
    const agent = newAgent()
    await signIn(agent, app)
    await app.rp.endSessions('ada')
    const reload = await agent.open(`${app.url}/me`)
    expect(reload.body).toContain('You are signed out')
    expect((await signIn(agent, other)).trail.join(' ')).not.toContain('/interaction/')
    const asked = await agent.open(`${app.url}/auth/login?return_to=/me`)
    expect(asked.body).toContain('name="username"')
    expect((await agent.submit(asked, { username: 'ada' })).body).toBe('Hello the one called ada')
  })

  it('is known to the next login also where no page of the app comes before it', async () => {
    const { app, issuer, newAgent, signIn } = await start()
    const agent = newAgent()
    await signIn(agent, app)
    await app.rp.endSessions('ada')
    const launcher = `${app.url}/auth/initiate-login?${new URLSearchParams({ iss: issuer })}`
    for (const url of [`${app.url}/auth/login?return_to=/me`, launcher]) {
      expect((await agent.open(url)).body, url).toContain('name="username"')
    }
    expect((await agent.open(`${app.url}${app.rp.loginPath('/me', 'app')}`)).body).toContain('You are signed out')
    const asked = await agent.open(`${app.url}/auth/login?return_to=/me`)
    expect((await agent.submit(asked, { username: 'ada' })).body).toBe('Hello the one called ada')
  })

  it('is known to the next login of a browser that was not used for days', async () => {
    const { app, newAgent, signIn } = await start()
    const agent = newAgent()
    await signIn(agent, app)
    const [session] = await app.sessions.listBySub('ada')
    const threeDaysAgo = Math.floor(Date.now() / 1000) - 3 * 86_400
    await app.sessions.delete(session?.handle ?? '', { cause: 'admin', at: threeDaysAgo })
    expect((await agent.open(app.url)).body).toBe('signed out admin')
    expect((await agent.open(`${app.url}/auth/login?return_to=/me`)).body).toContain('name="username"')
  })

  it('is known to the next login in a browser without Fetch Metadata', async () => {
    const { app, newAgent, signIn } = await start()
    const agent = newAgent()
    await signIn(agent, app)
    await app.rp.endSessions('ada')
    const reload = await agent.open(`${app.url}/me`, { 'sec-fetch-dest': '', 'sec-fetch-site': '' })
    expect(reload.body).toContain('You are signed out')
  })

  it('ends all that can be ended before it fails, and the rest when it is called again', async () => {
    const { app, newAgent, signIn } = await start()
    for (let i = 0; i < 3; i++) await signIn(newAgent(), app)
    const { delete: end } = app.sessions
    const held = Promise.withResolvers<void>()
    let calls = 0
    app.sessions.delete = async (...about) => {
      calls += 1
      if (calls === 1) throw new LockstepError('store_failed', 'PostgreSQL at 10.0.0.7 cannot be reached')
      await held.promise
      return end(...about)
    }
    const ending = app.rp.endSessions('ada').catch((error: unknown) => error)
    await vi.waitFor(() => expect(calls).toBe(3))
    held.resolve()
    const failure = await ending
    expect(failure).toMatchObject({ code: 'store_failed', status: 503 })
    expect(String((failure as Error).stack)).not.toContain('10.0.0.7')
    expect(app.ended).toHaveLength(2)
    app.sessions.delete = end
    expect(await app.rp.endSessions('ada')).toHaveLength(1)
  })

  it('has the refresh tokens revoked at the OP [T7]', async () => {
    const client = { grant_types: ['authorization_code', 'refresh_token'] }
    const { app, provider, newAgent, signIn } = await start({ client })
    const revoked: string[] = []
    provider.on('refresh_token.destroyed', (token) => revoked.push(token.jti))
    await signIn(newAgent(), app)
    await app.rp.endSessions('ada')
    await vi.waitFor(() => expect(revoked).toHaveLength(1))
  })
})

it.each([
  'sessionsOf',
  'endSessions',
] as const)('a store that is away is 503 to %s, too, and why is in the log', async (name) => {
  const { app } = await start()
  const away = () => Promise.reject(new LockstepError('store_failed', 'PostgreSQL at 10.0.0.7 cannot be reached'))
  Object.assign(app.sessions, { listBySub: away, now: away })
  const failure = await app.rp[name]('ada').catch((error: unknown) => error)
  expect(failure).toMatchObject({ code: 'store_failed', status: 503, message: expect.not.stringContaining('10.0.0.7') })
  const message = 'PostgreSQL at 10.0.0.7 cannot be reached'
  expect(app.log).toEqual([{ event: 'internal_error', route: name, message }])
})
