import { serve } from '@hono/node-server'
import express from 'express'
import fastify from 'fastify'
import { Hono } from 'hono'
import Koa from 'koa'
import mount from 'koa-mount'
import { afterEach, describe, expect, it } from 'vitest'
import { createRelyingParty, type RelyingParty } from '../../../src/rp.ts'
import { auth as expressAuth, requireLogin as expressLogin } from '../../../src/rp-express.ts'
import { auth as fastifyAuth, requireLogin as fastifyLogin } from '../../../src/rp-fastify.ts'
import { auth as fetchAuth, requireLogin as fetchLogin } from '../../../src/rp-fetch.ts'
import { auth as honoAuth, requireLogin as honoLogin } from '../../../src/rp-hono.ts'
import { auth as koaAuth, requireLogin as koaLogin } from '../../../src/rp-koa.ts'
import { memoryStore } from '../../../src/rp-memory.ts'
import { handlers } from '../../../src/rp-next.ts'
import { auth as nodeAuth, requireLogin as nodeLogin } from '../../../src/rp-node.ts'
import { listen, shut } from '../support.ts'

/* An app below a path of its host, put there by its framework's own means: `/app/me` is guarded, `/me` is another app's. */

const cleanup: (() => unknown)[] = []
afterEach(async () => {
  for (const step of cleanup.splice(0).reverse()) await step()
})

function party(appUrl: string, more: { prefix?: string } = {}): RelyingParty {
  const common = { issuer: 'http://localhost', clientId: 'notes', clientSecret: 'secret', log: () => {} }
  const rp = createRelyingParty({ ...common, ...more, appUrl, store: memoryStore() })
  cleanup.push(() => rp.close())
  return rp
}

async function onNode(listener: Parameters<typeof listen>[0]): Promise<string> {
  const { server, port } = await listen(listener)
  cleanup.push(() => shut(server))
  return `http://127.0.0.1:${port}`
}

async function onFetch(answer: (request: Request) => Response | Promise<Response>): Promise<string> {
  const server = serve({ fetch: answer, port: 0, hostname: '127.0.0.1' })
  cleanup.push(() => new Promise((closed) => server.close(closed)))
  await new Promise((resolve) => server.once('listening', resolve))
  return `http://127.0.0.1:${(server.address() as { port: number }).port}`
}

/** Serves the app below `/app`; resolves with the URL of its host. */
const frameworks: Readonly<Record<string, (rp: RelyingParty) => Promise<string>>> = {
  'an Express router': (rp) => {
    const router = express.Router().use(expressAuth(rp))
    router.get('/me', expressLogin(rp), (_req, res) => void res.send('me'))
    return onNode(express().use('/app', router))
  },
  'an Express app': (rp) => {
    const inner = express().use(expressAuth(rp))
    inner.get('/me', expressLogin(rp), (_req, res) => void res.send('me'))
    return onNode(express().use('/app', inner))
  },
  async 'a Fastify plugin with a prefix'(rp) {
    const shell = fastify()
    cleanup.push(() => shell.close())
    await shell.register(
      async (app) => {
        await app.register(fastifyAuth(rp))
        app.get('/me', { preHandler: fastifyLogin(rp) }, async () => 'me')
      },
      { prefix: '/app' },
    )
    return shell.listen({ host: '127.0.0.1', port: 0 })
  },
  'koa-mount': (rp) => {
    const inner = new Koa().use(koaAuth(rp)).use(koaLogin(rp))
    return onNode(new Koa().use(mount('/app', inner)).callback())
  },
  "Hono's route": (rp) => {
    const inner = new Hono().use(honoAuth(rp)).get('/me', honoLogin(rp), (c) => c.text('me'))
    return onFetch(new Hono().route('/app', inner).fetch)
  },
  "Hono's basePath": (rp) => {
    const app = new Hono().basePath('/app').use(honoAuth(rp))
    return onFetch(app.get('/me', honoLogin(rp), (c) => c.text('me')).fetch)
  },
  'a node:http server': (rp) =>
    onNode(async (req, res) => {
      if (await nodeAuth(rp)(req, res)) return
      if (req.url?.startsWith('/app/')) await nodeLogin(rp, req, res)
      else res.writeHead(404).end()
    }),
  'a Fetch handler': (rp) =>
    onFetch(async (request) => {
      const answer = await fetchAuth(rp)(request)
      if (answer) return answer
      if (!new URL(request.url).pathname.startsWith('/app/')) return new Response(null, { status: 404 })
      return (await fetchLogin(rp, request)) as Response
    }),
}

describe('an app below a path of its host', () => {
  it.each(
    Object.entries(frameworks),
  )('is served by %s, as appUrl says, and nothing outside of it [every 11]', async (_by, serveApp) => {
    const url = await serveApp(party('https://example.com/app'))
    const ask = async (path: string, init: RequestInit = {}): Promise<[number, string]> => {
      const answer = await fetch(url + path, { redirect: 'manual', ...init })
      return [answer.status, answer.headers.get('location') ?? (await answer.text())]
    }
    const body = new URLSearchParams({ logout_token: 'a' })
    expect(await ask('/app/auth/session')).toEqual([401, '{"state":"none"}'])
    expect((await ask('/app/auth/backchannel-logout', { method: 'POST', body }))[0]).toBe(400)
    expect(await ask('/app/me', { headers: { accept: 'text/html' } })).toEqual([
      303,
      '/app/auth/login?return_to=%2Fapp%2Fme&by=app',
    ])
    for (const path of ['/auth/session', '/me']) expect([path, (await ask(path))[0]]).toEqual([path, 404])
  })

  it('is served by Next with a basePath, which Next cuts off before the routes see it [every 11]', async () => {
    const { GET } = handlers(party('https://example.com/app'))
    for (const path of ['/auth/session', '/app/auth/session']) {
      const answer = await GET(new Request(`http://localhost:3000${path}`))
      expect([path, answer.status, await answer.json()]).toEqual([path, 401, { state: 'none' }])
    }
    const alike = handlers(party('https://example.com/auth')) // the prefix says the same as the basePath
    for (const path of ['/auth/session', '/auth/auth/session']) {
      const answer = await alike.GET(new Request(`http://localhost:3000${path}`))
      expect([path, answer.status, await answer.json()]).toEqual([path, 401, { state: 'none' }])
    }
    const elsewhere = await GET(new Request('http://localhost:3000/api/auth/session'))
    expect(await elsewhere.json()).toMatchObject({ error_description: 'the routes are under /app/auth' })
  })
})

describe('a Fastify plugin', () => {
  it.each([
    ['/api', 'https://example.com', '/auth'],
    ['/app', 'https://example.com/application', '/application/auth'],
    ['/app/auth/more', 'https://example.com/app', '/app/auth'],
  ])('with the prefix %s in an app at %s names both, instead of answering where nobody asks [every 11]', async (prefix, appUrl, base) => {
    const shell = fastify()
    const rp = party(appUrl)
    shell.register(async (app) => app.register(fastifyAuth(rp)), { prefix })
    await expect(shell.ready()).rejects.toThrow(
      `auth(rp) answers under ${base}, as appUrl and prefix say, and cannot do so in a plugin whose prefix is ${prefix}`,
    )
  })
})
