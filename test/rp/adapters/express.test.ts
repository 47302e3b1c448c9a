import express, { type ErrorRequestHandler, type RequestHandler } from 'express'
import { describe, expect, it } from 'vitest'
import { createRelyingParty } from '../../../src/rp.ts'
import { auth, requireLogin } from '../../../src/rp-express.ts'
import { memoryStore } from '../../../src/rp-memory.ts'
import { createUserAgent } from '../../support/user-agent.ts'
import { listen, type Mount, shut, startWorld } from '../support.ts'
import { adapterFlows } from './flow-suite.ts'

function app(...before: RequestHandler[]): Mount {
  return async (rp) => {
    const shell = express()
    shell.use(...before, auth(rp))
    shell.get('/', (req, res) => {
      res.send(req.rpSession ? 'signed in' : `signed out ${req.rpSessionEnd?.cause ?? ''}`)
    })
    shell.get('/me', requireLogin(rp), (req, res) => {
      res.send(`Hello ${req.rpSession.data.name}`)
    })
    shell.post('/echo', express.text({ type: '*/*' }), (req, res) => {
      res.send(req.body)
    })
    return shell
  }
}

const nothing: RequestHandler = (_req, _res, next) => next()

adapterFlows({
  name: 'Express',
  mount: app(nothing),
  parsers: {
    'a form parser': app(express.urlencoded({ extended: false })),
    'a form parser that builds objects': app(express.urlencoded({ extended: true })),
    'a text parser': app(express.text({ type: '*/*' })),
    'a raw parser': app(express.raw({ type: '*/*' })),
    'a JSON parser': app(express.json()),
    'a parser that makes plain bytes of it': app(express.raw({ type: '*/*' }), (req, _res, next) => {
      if (Buffer.isBuffer(req.body)) req.body = Uint8Array.from(req.body)
      next()
    }),
    'a middleware that has set an encoding': app((req, _res, next) => {
      req.setEncoding('utf8')
      next()
    }),
    'a middleware that has paused the request': app((req, _res, next) => {
      req.pause()
      next()
    }),
  },
  eaters: {
    'something that eats bodies': app((req, _res, next) => {
      req.resume().on('end', () => next())
    }),
    'something that stops in the middle of them': app((req, _res, next) => {
      if (req.method === 'POST') req.once('data', () => next()).once('data', () => req.pause())
      else next()
    }),
    'something that will read them by itself': app((req, _res, next) => {
      req.on('readable', () => {})
      next()
    }),
    'a parser that leaves nothing of them': app(express.raw({ type: '*/*' }), (req, _res, next) => {
      req.body = {}
      next()
    }),
  },
})

describe('the Express adapter, as Express does things', () => {
  it('leaves paths that only look like its own to the app', async () => {
    const { app, newAgent, close } = await startWorld()
    app.express.get('/authors', (_req, res) => {
      res.send('the app')
    })
    expect((await newAgent().open(`${app.url}/authors`)).body).toBe('the app')
    await close()
  })

  it('works mounted under a path, as appUrl says [every 11]', async () => {
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

  it.each([
    ['behind', [] as const],
    ['in front of', ['guard first'] as const],
  ])('sets a dead cookie aside once, with a guard %s auth(rp)', async (_where, [isFirst]) => {
    const mount: Mount = async (rp) => {
      const me = express.Router().get('/me', requireLogin(rp), (_req, res) => void res.send('me'))
      return isFirst ? express().use(me, auth(rp)) : express().use(auth(rp), me)
    }
    const { app, newAgent, signIn, close } = await startWorld({ mount })
    const agent = newAgent()
    await signIn(agent, app)
    await app.rp.endSessions('ada')
    const cookie = agent
      .cookies(app.url)
      .map(({ name, value }) => `${name}=${value}`)
      .join('; ')
    const headers = { cookie, 'sec-fetch-dest': 'document' }
    const answer = await fetch(`http://127.0.0.1:${app.port}/me`, { headers, redirect: 'manual' })
    expect(answer.status).toBe(303)
    expect(answer.headers.getSetCookie().filter((one) => one.includes('-ended='))).toHaveLength(1)
    await close()
  })

  it('hands errors of the store to next(err), and touches neither req.user nor req.session [express 2, every 2]', async () => {
    const store = memoryStore()
    const { app, newAgent, signIn, close } = await startWorld({ rp: { store } })
    const agent = newAgent()
    await signIn(agent, app)
    const seen: unknown[] = []
    app.express.get('/names', (req, res) => {
      seen.push('user' in req, 'session' in req)
      res.end()
    })
    await agent.open(`${app.url}/names`)
    expect(seen).toEqual([false, false])
    const failed: ErrorRequestHandler = (error: Error, _req, res, _next) => {
      res.status(503).send(`mine: ${error.message}`)
    }
    app.express.use(failed)
    app.sessions.get = async () => Promise.reject(new Error('disk full'))
    for (const path of ['/', '/me']) {
      expect(await agent.fetch(app.url, path)).toMatchObject({
        status: 503,
        body: 'mine: It could not be found out who is signed in',
      })
    }
    await close()
  })
})
