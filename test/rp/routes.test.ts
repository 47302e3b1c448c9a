import { afterEach, expect, it } from 'vitest'
import { LockstepError } from '../../src/protocol/errors.ts'
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

it('a store that fails shows the app’s users no stack, and its operator the reason', async () => {
  const { app, newAgent, signIn } = await start()
  const agent = newAgent()
  await signIn(agent, app)
  app.express.set('env', 'development')
  app.sessions.get = () => Promise.reject(new Error('disk on fire'))
  const page = await agent.open(`${app.url}/me`)
  expect(page.status).toBe(503)
  expect(page.body).not.toMatch(/\bat .*\.ts|disk on fire/)
  expect(app.log).toEqual([{ event: 'internal_error', route: 'current', message: 'disk on fire' }])
})

it('a store that is away is 503 at every route that asks it, and says no more [T17]', async () => {
  const { app, newAgent, signIn } = await start()
  const agent = newAgent()
  await signIn(agent, app)
  const away = async () => {
    throw new LockstepError('store_failed', 'PostgreSQL at 10.0.0.7 cannot be reached')
  }
  Object.assign(app.sessions, { get: away, now: away })
  for (const path of ['/auth/session', '/auth/session/events', '/auth/login', '/auth/logged-out']) {
    const page = await agent.fetch(app.url, path, { headers: { 'sec-fetch-dest': 'document' } })
    expect([path, page.status]).toEqual([path, 503])
    expect(page.body).not.toContain('10.0.0.7')
  }
  expect((await agent.fetch(app.url, '/auth/session')).header('retry-after')).toBe('5')
})

it('HEAD is answered like GET, without the body', async () => {
  const { app, newAgent, signIn } = await start()
  const agent = newAgent()
  await signIn(agent, app)
  for (const path of ['/auth/login', '/auth/logout', '/auth/logged-out', '/auth/session', '/auth/session-monitor.js']) {
    const got = await agent.fetch(app.url, path, { headers: { 'sec-fetch-dest': 'document' } })
    const head = await agent.fetch(app.url, path, { method: 'HEAD', headers: { 'sec-fetch-dest': 'document' } })
    expect(head).toMatchObject({ status: got.status, body: '' })
    expect(head.header('content-type')).toBe(got.header('content-type'))
    expect(head.header('cache-control')).toBe(got.header('cache-control'))
  }
})

it('HEAD of the stream opens none', async () => {
  const { app, newAgent, signIn } = await start()
  const agent = newAgent()
  await signIn(agent, app)
  const head = await agent.fetch(app.url, '/auth/session/events', { method: 'HEAD' })
  expect(head).toMatchObject({ status: 200, body: '' })
  expect(head.header('content-type')).toBe('text/event-stream')
})

it('HEAD of the callback leaves the code to the GET that follows', async () => {
  const { app, newAgent, signIn } = await start()
  const agent = newAgent()
  await signIn(agent, app)
  const headers = { 'sec-fetch-dest': 'document' }
  const begun = await agent.fetch(app.url, '/auth/login?return_to=/me', { headers })
  const sent = await agent.fetch(app.url, begun.header('location') ?? '', { headers })
  const callback = sent.header('location') ?? ''
  const head = await agent.fetch(app.url, callback, { method: 'HEAD', headers })
  expect(head.status).toBe(405)
  expect(head.header('allow')).toBe('GET')
  expect(await agent.open(callback)).toMatchObject({ status: 200, url: `${app.url}/me` })
})

it.each([
  { 'sec-purpose': 'prefetch;prerender' },
  { purpose: 'prefetch' },
  { 'x-moz': 'prefetch' },
])('a page that is only prefetched (%j) starts and ends nothing [T29] [T12]', async (purpose) => {
  const { app, newAgent, signIn } = await start()
  const agent = newAgent()
  await signIn(agent, app)
  const before = agent.cookies(app.url)
  for (const path of ['login', 'callback?code=c&state=s', 'logout', 'logged-out?state=s', 'silent-check']) {
    const headers = { 'sec-fetch-dest': 'document', ...purpose }
    const answer = await agent.fetch(app.url, `/auth/${path}`, { headers })
    expect(answer).toMatchObject({ status: 403, trail: [expect.anything()] })
    expect(answer.header('cache-control')).toBe('no-store')
  }
  expect(agent.cookies(app.url)).toEqual(before)
  expect((await agent.fetch(app.url, '/auth/session-monitor.js', { headers: purpose })).status).toBe(200)
})
