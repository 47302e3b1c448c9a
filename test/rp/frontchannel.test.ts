import { afterEach, describe, expect, it } from 'vitest'
import { ask } from './plain-request.ts'
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

async function sidAt(app: TestApp): Promise<string> {
  return (await app.sessions.listBySub('ada'))[0]?.sid ?? ''
}

function urlOf(app: TestApp, query: Record<string, string>): string {
  return `${app.url}/auth/frontchannel-logout?${new URLSearchParams(query)}`
}

describe('a front-channel logout', () => {
  it('ends the RP session of its sid without any cookie, and tells the open tab [FCL-2-d] [A54]', async () => {
    const { app, issuer, newAgent, signIn } = await start()
    const agent = newAgent()
    await signIn(agent, app)
    const tab = await agent.events(app.url, '/auth/session/events')
    await tab.next()
    const page = await newAgent().frame(issuer, urlOf(app, { iss: issuer, sid: await sidAt(app) }))
    expect(page.status).toBe(200)
    expect(JSON.parse((await tab.next())?.data ?? '')).toMatchObject({
      state: 'ended',
      ended: { cause: 'frontchannel' },
    })
    expect(app.ended).toEqual([{ sub: 'ada', cause: 'frontchannel' }])
    expect(app.log).toEqual([{ event: 'frontchannel_logout_received', ended: 1 }])
  })

  it('leaves the RP sessions of other browsers alone [FCL-2-f] [A53]', async () => {
    const { app, issuer, newAgent, signIn } = await start()
    const phone = newAgent()
    await signIn(phone, app)
    const sid = await sidAt(app)
    const laptop = newAgent()
    await signIn(laptop, app)
    await newAgent().frame(issuer, urlOf(app, { iss: issuer, sid }))
    expect((await phone.fetch(app.url, '/auth/session')).status).toBe(401)
    expect((await laptop.fetch(app.url, '/auth/session')).status).toBe(200)
  })

  it('answers a known and an unknown sid alike, without saying how many ended [T4, E16, FCL-2-d]', async () => {
    const { app, issuer, newAgent, signIn } = await start()
    await signIn(newAgent(), app)
    const sid = await sidAt(app)
    const known = await newAgent().frame(issuer, urlOf(app, { iss: issuer, sid }))
    const unknown = await newAgent().frame(issuer, urlOf(app, { iss: issuer, sid: 'unknown' }))
    const again = await newAgent().frame(issuer, urlOf(app, { iss: issuer, sid }))
    for (const page of [known, unknown, again]) {
      expect(page).toMatchObject({ status: 200, body: known.body })
      expect(page.header('logout-sessions-ended')).toBeUndefined()
      expect(page.header('set-cookie')).toBeUndefined()
      expect(page.header('content-length')).toBe(known.header('content-length'))
    }
  })

  it('is never cached, and only the OP may frame its answer [FCL-2-g, E16] [A55]', async () => {
    const { app, issuer, newAgent } = await start()
    const page = await newAgent().frame(issuer, urlOf(app, { iss: issuer, sid: 'gone' }))
    expect(page.header('cache-control')).toBe('no-store')
    expect(page.header('content-security-policy')).toBe(`default-src 'none'; frame-ancestors ${issuer}`)
    expect(page.header('x-frame-options')).toBeUndefined()
  })

  it('writes no watermark: a login that was on its way goes on, and none is refused later [T4]', async () => {
    const { app, issuer, newAgent, signIn } = await start()
    const agent = newAgent()
    await signIn(agent, app)
    const sid = await sidAt(app)
    await newAgent().frame(issuer, urlOf(app, { iss: issuer, sid }))
    const page = await agent.open(`${app.url}/me`) // the OP gives the same sid again
    expect(page.body).toBe('Hello the one called ada')
    expect(await sidAt(app)).toBe(sid)
    expect(page.trail.filter((url) => url.includes('/auth/callback'))).toHaveLength(1)
  })

  it('revokes no token [T4] [A53]', async () => {
    const client = { grant_types: ['authorization_code', 'refresh_token'] }
    const { app, issuer, provider, newAgent, signIn } = await start({ client })
    const revoked: unknown[] = []
    provider.on('grant.revoked', () => revoked.push('grant'))
    provider.on('refresh_token.destroyed', () => revoked.push('refresh token'))
    await signIn(newAgent(), app)
    await newAgent().frame(issuer, urlOf(app, { iss: issuer, sid: await sidAt(app) }))
    expect(await app.sessions.nextOwedAt()).toBeUndefined()
    expect(revoked).toEqual([])
  })

  it.each([
    ['only an iss', (iss: string): [string, string][] => [['iss', iss]]],
    ['only a sid', (_iss: string, sid: string): [string, string][] => [['sid', sid]]],
    ['neither', (): [string, string][] => []],
    [
      'an empty sid',
      (iss: string): [string, string][] => [
        ['iss', iss],
        ['sid', ''],
      ],
    ],
    [
      'two sids',
      (iss: string, sid: string): [string, string][] => [
        ['iss', iss],
        ['sid', sid],
        ['sid', 'x'],
      ],
    ],
    [
      'a second iss',
      (iss: string, sid: string): [string, string][] => [
        ['iss', iss],
        ['iss', 'https://evil.example'],
        ['sid', sid],
      ],
    ],
    [
      'a sid that is longer than any',
      (iss: string): [string, string][] => [
        ['iss', iss],
        ['sid', 's'.repeat(1025)],
      ],
    ],
    [
      'another iss',
      (_iss: string, sid: string): [string, string][] => [
        ['iss', 'https://evil.example'],
        ['sid', sid],
      ],
    ],
    [
      'an iss with a slash more',
      (iss: string, sid: string): [string, string][] => [
        ['iss', `${iss}/`],
        ['sid', sid],
      ],
    ],
  ])('with %s is refused, logged, and ends nothing [FCL-2-e, FCL-2-f, E14, E15] [A53]', async (_name, query) => {
    const { app, issuer, newAgent, signIn } = await start()
    const agent = newAgent()
    await signIn(agent, app)
    const url = `${app.url}/auth/frontchannel-logout?${new URLSearchParams(query(issuer, await sidAt(app)))}`
    const page = await agent.frame(app.url, url)
    expect(page.status).toBe(400)
    expect(page.header('cache-control')).toBe('no-store')
    expect((await agent.fetch(app.url, '/auth/session')).status).toBe(200)
    expect(app.log).toEqual([expect.objectContaining({ event: 'frontchannel_logout_refused' })])
  })

  it('asked for by an image, a script, the address bar or a look at its headers ends nothing [T4]', async () => {
    const { app, issuer, newAgent, signIn } = await start()
    const agent = newAgent()
    await signIn(agent, app)
    const url = urlOf(app, { iss: issuer, sid: await sidAt(app) })
    for (const dest of ['image', 'script', 'empty', 'document', 'frame']) {
      const page = await agent.fetch(app.url, url, { headers: { 'sec-fetch-dest': dest } })
      expect(page.status).toBe(400)
    }
    for (const method of ['HEAD', 'POST', 'OPTIONS']) {
      expect((await ask(app.rp, method, url.slice(app.url.length))).status).toBe(405)
    }
    expect((await agent.fetch(app.url, '/auth/session')).status).toBe(200)
  })

  it('of one client does not touch another in the same store [T20]', async () => {
    const { app, other, issuer, newAgent, signIn } = await start()
    const agent = newAgent()
    await signIn(agent, app)
    await signIn(agent, other)
    await newAgent().frame(issuer, urlOf(other, { iss: issuer, sid: await sidAt(app) }))
    expect((await agent.fetch(app.url, '/auth/session')).status).toBe(200)
    expect((await agent.fetch(other.url, '/auth/session')).status).toBe(200)
  })
})
