import { request } from 'node:http'
import express from 'express'
import { afterEach, describe, expect, it } from 'vitest'
import { createRelyingParty } from '../../src/rp.ts'
import { auth } from '../../src/rp-express.ts'
import { memoryStore } from '../../src/rp-memory.ts'
import { createUserAgent } from '../support/user-agent.ts'
import { listen, shut, startWorld, type TestWorld, type WorldOptions } from './support.ts'

let world: TestWorld | undefined

async function start(options?: WorldOptions): Promise<TestWorld> {
  world = await startWorld(options)
  return world
}

afterEach(async () => {
  await world?.close()
  world = undefined
})

const form = { 'content-type': 'application/x-www-form-urlencoded' }

describe('the Express adapter', () => {
  it.each([
    ['no body parser', () => {}],
    ['a form parser', (app: express.Express) => app.use(express.urlencoded({ extended: false }))],
    ['a form parser that builds objects', (app: express.Express) => app.use(express.urlencoded({ extended: true }))],
    ['a text parser', (app: express.Express) => app.use(express.text({ type: '*/*' }))],
    ['a raw parser', (app: express.Express) => app.use(express.raw({ type: '*/*' }))],
    ['a JSON parser', (app: express.Express) => app.use(express.json())],
  ])('receives Logout Tokens behind %s', async (_name, before) => {
    const { app, other, newAgent, signIn } = await start({ before })
    const agent = newAgent()
    await signIn(agent, app)
    await signIn(agent, other)
    const tab = await agent.events(other.url, '/auth/session/events')
    await tab.next()
    const question = await agent.submit(await agent.open(`${app.url}/auth/logout`))
    await agent.submit(question, { logout: 'yes' })
    expect(JSON.parse((await tab.next())?.data ?? '')).toMatchObject({ state: 'ended' })
    expect(other.log).toContainEqual({ event: 'logout_received', ended: 1, by: 'sid' })
  })

  it('sees through a parser that two logout_tokens were sent (8)', async () => {
    const { app, newAgent } = await start({ before: (shell) => shell.use(express.urlencoded({ extended: true })) })
    const url = `${app.url}/auth/backchannel-logout`
    const page = await newAgent().fetch(app.url, url, {
      method: 'POST',
      headers: form,
      body: 'logout_token=a&logout_token=b',
    })
    expect(page.status).toBe(400)
    expect(page.body).toContain('must be sent once')
  })

  it('says what to do when somebody else has read the body', async () => {
    const { app, newAgent } = await start({
      before: (shell) =>
        shell.use((req, _res, next) => {
          req.resume().on('end', () => next())
        }),
    })
    const url = `${app.url}/auth/backchannel-logout`
    const page = await newAgent().fetch(app.url, url, { method: 'POST', headers: form, body: 'logout_token=a' })
    expect(page.status).toBe(400)
    expect(page.body).toContain('mount auth(rp) before body parsers')
  })

  it('answers 413 to a body that is too long, without reading it to its end (11)', async () => {
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
    for (const url of ['/auth', '/auth/', '/auth/nothing', '/auth/session/', '/auth/__proto__', '/auth/constructor']) {
      const page = await agent.fetch(app.url, url)
      expect(page.status).toBe(404)
      expect(page.header('cache-control')).toBe('no-store')
    }
    const page = await agent.fetch(app.url, '/auth/login', { method: 'POST' })
    expect(page.status).toBe(405)
    expect(page.header('allow')).toBe('GET')
    expect(page.header('cache-control')).toBe('no-store')
  })

  it('leaves paths that only look like its own to the app', async () => {
    const { app, newAgent } = await start()
    app.express.get('/authors', (_req, res) => {
      res.send('the app')
    })
    expect((await newAgent().open(`${app.url}/authors`)).body).toBe('the app')
  })

  it('serves the session monitor, and 304 when the browser has it', async () => {
    const { app, newAgent } = await start()
    const agent = newAgent()
    const first = await agent.fetch(app.url, '/auth/session-monitor.js')
    expect(first.status).toBe(200)
    expect(first.header('content-type')).toBe('text/javascript; charset=utf-8')
    expect(first.header('cache-control')).toBe('no-cache')
    const headers = { 'if-none-match': first.header('etag') ?? '' }
    const again = await agent.fetch(app.url, '/auth/session-monitor.js', { headers })
    expect(again).toMatchObject({ status: 304, body: '' })
  })

  it('works mounted under a path, as appUrl says', async () => {
    const shell = express()
    const common = { issuer: 'https://op.example', clientId: 'notes', clientSecret: 's', store: memoryStore() }
    const rp = createRelyingParty({ ...common, appUrl: 'https://example.com/app' })
    const sub = express.Router()
    sub.use(auth(rp))
    shell.use('/app', sub)
    const { server, port } = await listen(shell)
    const agent = createUserAgent()
    expect((await agent.open(`http://localhost:${port}/app/auth/session`)).status).toBe(401)
    expect((await agent.open(`http://localhost:${port}/auth/session`)).status).toBe(404)
    expect(rp.loginPath('/app/x')).toBe('/app/auth/login?return_to=%2Fapp%2Fx')
    await agent.close()
    await rp.close()
    await shut(server)
  })
})
