import { getRequestListener } from '@hono/node-server'
import { Hono, type MiddlewareHandler } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import { testClient } from 'hono/testing'
import { describe, expect, it } from 'vitest'
import { namesOf } from '../../../src/rp/session-id.ts'
import { createRelyingParty } from '../../../src/rp.ts'
import { auth, requireLogin } from '../../../src/rp-hono.ts'
import { memoryStore } from '../../../src/rp-memory.ts'
import { opened, someSession } from '../../../src/testing/rp-store-bench.ts'
import type { Mount } from '../support.ts'
import { adapterFlows } from './flow-suite.ts'

function app(before: MiddlewareHandler = (_c, next) => next()): Mount {
  return async (rp) => {
    const shell = new Hono()
      .onError((error, c) => c.text('', 'status' in error && error.status === 503 ? 503 : 500))
      .use(before)
      .use(auth(rp))
      .get('/', (c) => c.text(c.var.rpSession ? 'signed in' : `signed out ${c.var.rpSessionEnd?.cause ?? ''}`))
      .get('/me', requireLogin(rp), (c) => c.text(`Hello ${c.var.rpSession.data.name}`))
      .post('/echo', async (c) => c.text(await c.req.text()))
    return getRequestListener(shell.fetch)
  }
}

const reading =
  (read: (c: Parameters<MiddlewareHandler>[0]) => Promise<unknown>): MiddlewareHandler =>
  async (c, next) => {
    if (c.req.method === 'POST') await read(c)
    await next()
  }

adapterFlows({
  name: 'Hono',
  mount: app(),
  parsers: {
    'parseBody()': app(reading((c) => c.req.parseBody())),
    'text()': app(reading((c) => c.req.text())),
    'formData()': app(reading((c) => c.req.formData())),
    'arrayBuffer()': app(reading((c) => c.req.arrayBuffer())),
    'its body limit': app(bodyLimit({ maxSize: 100_000 })),
  },
  eaters: {
    'something that eats bodies': app(reading((c) => c.req.raw.text())),
    'something that stops in the middle of them': app(reading(async (c) => c.req.raw.body?.getReader().read())),
  },
})

describe('the Hono adapter, as Hono does things', () => {
  const options = {
    issuer: 'https://op.example',
    clientId: 'notes',
    clientSecret: 'secret',
    appUrl: 'https://notes.example',
    cookieSuffix: 'notes',
  }

  it('sets a dead cookie aside also when a handler returns a Response of its own [hono 3]', async () => {
    const store = memoryStore()
    const rp = createRelyingParty({ ...options, store })
    const id = 'a'.repeat(43)
    const at = Math.floor(Date.now() / 1000)
    const life = { firstIat: at, createdAt: at, idleExpiresAt: at + 600, expiresAt: at + 600 }
    const sessions = store.forClient(options, Date)
    await opened(sessions, someSession({ ...namesOf(id), ...life }))
    await sessions.delete(namesOf(id).handle, { cause: 'logout_token', at })
    const shell = new Hono().use(auth(rp)).get('/', () => new Response('mine', { headers: { 'set-cookie': 'a=1' } }))
    const headers = { cookie: `__Host-lockstep-notes=${id}`, 'sec-fetch-dest': 'document' }
    const answer = await shell.request('/', { headers })
    expect(answer.headers.getSetCookie()).toEqual([
      'a=1',
      expect.stringMatching(`^__Host-lockstep-notes-ended=${namesOf(id).publicId};`),
    ])
    await rp.close()
  })

  it('hands errors of the store to app.onError, with the status they ask for [hono 4]', async () => {
    const rp = createRelyingParty({ ...options, store: memoryStore(), log: () => {} })
    const away = Object.assign(new Error('away'), { status: 503 })
    const broken: typeof rp = { ...rp, current: () => Promise.reject(away) }
    const errors: unknown[] = []
    const shell = new Hono().use(auth(broken)).onError((error, c) => {
      errors.push(error)
      return c.text('mine', 'status' in error && error.status === 503 ? 503 : 500)
    })
    const answer = await shell.request('/')
    expect([answer.status, await answer.text(), errors]).toEqual([503, 'mine', [away]])
    await rp.close()
  })

  it('lets the types of routes behind it flow to the RPC client [hono 2]', async () => {
    const rp = createRelyingParty({ ...options, store: memoryStore() })
    const shell = new Hono().use(auth(rp)).get('/open', (c) => c.json({ open: true }))
    const answer = await testClient(shell).open.$get()
    const { open }: { open: boolean } = await answer.json()
    expect(open).toBe(true)
    await rp.close()
  })
})
