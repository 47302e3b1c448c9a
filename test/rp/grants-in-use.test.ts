import { afterEach, describe, expect, it, vi } from 'vitest'
import { startWorld, type TestWorld } from './support.ts'

let world: TestWorld
afterEach(() => world.close())

describe('a revocation that the OP takes late', () => {
  it('costs the login that has the same grant by then nothing [T7]', async () => {
    world = await startWorld({ client: { grant_types: ['authorization_code', 'refresh_token'] } })
    const { app, provider } = world
    const find = vi.spyOn(provider.RefreshToken, 'find').mockRejectedValue(new Error('the database is away'))
    const agent = world.newAgent()
    await world.signIn(agent, app)
    const [before] = await app.sessions.listBySub('ada')
    await agent.submit(await agent.open(`${app.url}/auth/logout`), { from: 'this-app' })
    await vi.waitFor(() => expect(app.log.some(({ event }) => event === 'revocation_failed')).toBe(true))
    await agent.submit(await agent.open(`${app.url}/auth/login`), { username: 'ada' })
    const [after] = await app.sessions.listBySub('ada')
    expect([after?.sid, after?.handle === before?.handle]).toEqual([before?.sid, false])
    find.mockRestore()
    await vi.waitFor(async () => expect(await app.sessions.nextOwedAt()).toBeUndefined(), { timeout: 60_000 })
    world.pass(3_600)
    const cookie = agent.cookies(app.url).map(({ name, value }) => `${name}=${value}`)
    expect(await app.rp.accessToken(cookie.join('; '))).toEqual(expect.any(String))
    expect(app.log.map(({ event }) => event)).not.toContain('refresh_refused')
  })
})
