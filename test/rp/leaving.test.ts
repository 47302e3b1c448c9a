import { afterEach, describe, expect, it } from 'vitest'
import { postForm } from './plain-request.ts'
import { type Kept, startWorld, type TestWorld, type WorldOptions } from './support.ts'

/* Signing out of an app while another tab is on its way back into it. */

let world: TestWorld | undefined

async function start(options?: WorldOptions): Promise<TestWorld> {
  world = await startWorld(options)
  return world
}

afterEach(async () => {
  await world?.close()
  world = undefined
})

/** Holds the second login open, before its RP session is written down or before it is answered. */
function heldLogin(at: 'mapSession' | 'onSessionStarted' = 'mapSession') {
  let release = (): void => undefined
  let arrive = (): void => undefined
  const released = new Promise<void>((resolve) => {
    release = resolve
  })
  const arrived = new Promise<void>((resolve) => {
    arrive = resolve
  })
  let logins = 0
  const hold = async (): Promise<void> => {
    logins += 1
    if (logins !== 2) return
    arrive()
    await released
  }
  const mapSession = async ({ sub }: { sub: string }): Promise<Kept> => {
    if (at === 'mapSession') await hold()
    return { name: sub }
  }
  return { rp: { mapSession, ...(at === 'onSessionStarted' && { onSessionStarted: hold }) }, arrived, release }
}

describe('a login of another tab that is under way while somebody signs out', () => {
  it('of this app alone signs nobody in by surprise: the OP asks for the password once more [T3]', async () => {
    const { rp, arrived, release } = heldLogin()
    const { app, issuer, newAgent, signIn } = await start({ rp })
    const agent = newAgent()
    await signIn(agent, app)
    const otherTab = agent.open(`${app.url}/auth/login?return_to=/me`)
    await arrived
    await agent.submit(await agent.open(`${app.url}/auth/logout`), { from: 'this-app' })
    release()
    const page = await otherTab
    expect(page.url.startsWith(issuer)).toBe(true)
    expect(page.body).toContain('username')
    expect(await app.sessions.listBySub('ada')).toEqual([])
    expect((await agent.open(app.url)).body).toMatch(/^signed out/)
    expect((await agent.submit(page, { username: 'ada' })).body).toBe('Hello ada')
  })

  for (const from of ['this-app', 'everywhere'] as const) {
    it(`(${from}) and that is answered last, though it was written down before, is ended when the browser comes with it [T3]`, async () => {
      const { rp, arrived, release } = heldLogin('onSessionStarted')
      const { app, newAgent, signIn } = await start({ rp })
      const agent = newAgent()
      await signIn(agent, app)
      const otherTab = agent.open(`${app.url}/auth/login?return_to=/me`)
      await arrived
      const question = await agent.submit(await agent.open(`${app.url}/auth/logout`), { from })
      const [written] = await app.sessions.listBySub('ada')
      expect(written?.handle).toEqual(expect.any(String))
      release()
      const cause = from === 'this-app' ? 'this_app' : 'rp_initiated'
      expect((await otherTab).body).toContain('You are signed out')
      expect(await app.sessions.listBySub('ada')).toEqual([])
      expect(app.ended.at(-1)).toEqual({ sub: 'ada', cause })
      const login = from === 'this-app' ? await agent.open(`${app.url}/auth/login?return_to=/me`) : undefined
      if (login) expect((await agent.submit(login, { username: 'ada' })).body).toBe('Hello ada')
      else await agent.submit(question, { logout: 'yes' })
    })
  }

  it('everywhere is asked for again at the OP [T3]', async () => {
    const { rp, arrived, release } = heldLogin()
    const { app, newAgent, signIn } = await start({ rp })
    const agent = newAgent()
    await signIn(agent, app)
    const otherTab = agent.open(`${app.url}/auth/login?return_to=/me`)
    await arrived
    const question = await agent.submit(await agent.open(`${app.url}/auth/logout`), {})
    await agent.submit(question, { logout: 'yes' })
    release()
    expect((await otherTab).body).toContain('username')
    expect((await agent.open(app.url)).body).toMatch(/^signed out/)
  })
})

describe('who has signed out of this app', () => {
  it('can sign in again, whatever the clocks of this node and of the store say', async () => {
    const { app, newAgent, signIn } = await start()
    const ownNow = app.sessions.now
    app.sessions.now = async () => (await ownNow()) - 3_600_000
    const agent = newAgent()
    await signIn(agent, app)
    const [session] = agent.cookies(app.url)
    const headers = { cookie: `${session?.name}=${session?.value}`, 'sec-fetch-site': 'same-origin' }
    await postForm(app.rp, '/auth/logout', { from: 'this-app' }, headers)
    // The reload of another tab is answered first: all that the browser has is the dead cookie.
    expect((await agent.open(app.url)).body).toBe('signed out this_app')
    expect(agent.cookies(app.url).filter(({ name }) => name.endsWith('-left'))).toHaveLength(1)
    const login = await agent.open(`${app.url}/auth/login?return_to=/me`)
    expect((await agent.submit(login, { username: 'ada' })).body).toBe('Hello the one called ada')
  })
  it('is not brought back in by another tab that asks before the browser has the answer [RPI-2-r]', async () => {
    const { app, newAgent, signIn } = await start()
    const agent = newAgent()
    await signIn(agent, app)
    const [session] = agent.cookies(app.url)
    const headers = { cookie: `${session?.name}=${session?.value}`, 'sec-fetch-site': 'same-origin' }
    await postForm(app.rp, '/auth/logout', { from: 'this-app' }, headers)
    // An app on Next sets no cookies with its pages: the other tab goes straight to the login.
    const otherTab = await agent.open(`${app.url}${app.rp.loginPath('/me', 'app')}`)
    expect(otherTab.body).toContain('You are signed out')
    const login = await agent.open(`${app.url}/auth/login?return_to=/me`)
    expect((await agent.submit(login, { username: 'ada' })).body).toBe('Hello the one called ada')
  })
})
