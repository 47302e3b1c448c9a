import { afterEach, expect, it } from 'vitest'
import { LockstepError } from '../../src/protocol/errors.ts'
import type { Page } from '../support/user-agent.ts'
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

it('a sign-out that the store did not hear of is called one, and can be tried again', async () => {
  const { app, newAgent, signIn } = await start()
  const agent = newAgent()
  await signIn(agent, app)
  const question = await agent.open(`${app.url}/auth/logout`)
  const { now, get } = app.sessions
  const away = () => Promise.reject(new LockstepError('store_failed', 'no connection'))
  Object.assign(app.sessions, { now: away, get: away })
  const failed = await agent.submit(question, { from: 'this-app' })
  const arrived = await agent.open(`${app.url}/auth/logged-out`)
  for (const page of [failed, arrived]) {
    expect(page.status).toBe(503)
    expect(page.body).not.toMatch(/sign-in|href="[^"]*\/auth\/login/)
  }
  expect(failed.body).toContain('The sign-out did not work')
  Object.assign(app.sessions, { now, get })
  expect((await agent.open(`${app.url}/me`)).body).toMatch(/^Hello/)
  expect((await agent.click(arrived, linkTo('/auth/logged-out', arrived))).body).toContain('You are signed in')
  const again = await agent.click(failed, linkTo('/auth/logout', failed))
  expect((await agent.submit(again, { from: 'this-app' })).body).toContain('You are signed out')
})

it('a sign-out that meets a mistake of ours is called one, too', async () => {
  const { app, newAgent, signIn } = await start()
  const agent = newAgent()
  await signIn(agent, app)
  const question = await agent.open(`${app.url}/auth/logout`)
  app.sessions.now = () => Promise.reject(new Error('a mistake'))
  const failed = await agent.submit(question)
  expect(failed.status).toBe(500)
  expect(failed.body).toContain('The sign-out did not work')
  expect(app.log).toEqual([{ event: 'internal_error', route: 'logout', message: 'a mistake' }])
})

function linkTo(path: string, { body }: Page): string {
  expect(body).toContain(`href="${path}"`)
  return path
}

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
