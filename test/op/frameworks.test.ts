import { once } from 'node:events'
import { createServer, type RequestListener, request, type Server } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { getCACertificates, setDefaultCACertificates } from 'node:tls'
import middie from '@fastify/middie'
import { getRequestListener, type HttpBindings } from '@hono/node-server'
import express from 'express'
import fastify from 'fastify'
import { Hono } from 'hono'
import Koa from 'koa'
import mount from 'koa-mount'
import { afterEach, describe, expect, it } from 'vitest'
import { openSecrets, Provider } from '../../src/op.ts'
import { sqliteStore } from '../../src/op-sqlite.ts'
import { isSignedIn, logIn, logoutUrl } from '../support/op-flow.ts'
import { type RpSite, startRpSite } from '../support/rp-site.ts'
import { selfSigned } from '../support/self-signed.ts'
import { grantWhatIsAsked, lifetimes } from '../support/test-op.ts'
import { createUserAgent } from '../support/user-agent.ts'

const opened: { close(): unknown }[] = []
afterEach(async () => {
  for (const each of opened.splice(0).reverse()) await each.close()
})

type Listener = (...[req, res]: Parameters<RequestListener>) => unknown
/** Puts a provider below `/oidc` of an app; the app itself serves the interactions. */
type Mount = (provider: Provider, proxied: boolean) => Listener | Promise<Listener>

const inExpress: Mount = (provider, proxied) => {
  const app = express()
  if (proxied) app.set('trust proxy', true)
  app.get('/interaction/:uid', (req, res) => provider.interactionFinished(req, res, { login: { accountId: 'ada' } }))
  app.use('/oidc', provider.callback())
  return app
}

const inFastify: Mount = async (provider) => {
  const app = fastify()
  opened.push(app)
  await app.register(middie)
  app.get('/interaction/:uid', async (req, reply) => {
    reply.hijack()
    await provider.interactionFinished(req.raw, reply.raw, { login: { accountId: 'ada' } })
  })
  app.use('/oidc', provider.callback())
  await app.ready()
  return (req, res) => app.routing(req, res)
}

const inKoa: Mount = (provider, proxied) => {
  const app = new Koa()
  app.proxy = proxied
  app.use(async (ctx, next) => {
    if (!ctx.path.startsWith('/interaction/')) return next()
    ctx.respond = false
    await provider.interactionFinished(ctx.req, ctx.res, { login: { accountId: 'ada' } })
  })
  app.use(mount('/oidc', provider))
  return app.callback()
}

const inHono: Mount = (provider) => {
  const app = new Hono<{ Bindings: HttpBindings }>()
  app.get('/interaction/:uid', async (c) => {
    const { incoming, outgoing } = c.env
    return c.redirect(await provider.interactionResult(incoming, outgoing, { login: { accountId: 'ada' } }), 303)
  })
  const pages = getRequestListener(app.fetch, { overrideGlobalObjects: false })
  const op = provider.callback()
  return (req, res) => {
    if (!req.url?.startsWith('/oidc/')) return pages(req, res)
    const originalUrl = req.url
    return op(Object.assign(req, { originalUrl, url: originalUrl.slice('/oidc'.length) }), res)
  }
}

const mounts: readonly (readonly [string, Mount])[] = [
  ['Express', inExpress],
  ['Fastify', inFastify],
  ['Koa', inKoa],
  ['Hono', inHono],
]

async function listen(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  opened.push({
    close: async () => {
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
    },
  })
  return (server.address() as AddressInfo).port
}

async function startApp(server: Server, issuer: string, mounted: Mount, rps: RpSite): Promise<Provider> {
  const store = sqliteStore(':memory:')
  const { jwks, cookieKeys } = await openSecrets(store, issuer)
  const clients = [rps.client('notes'), rps.client('mail')]
  const provider = new Provider(
    issuer,
    {
      clients,
      jwks: { keys: [...jwks.keys] },
      cookies: { keys: [...cookieKeys] },
      features: { devInteractions: { enabled: false } },
      ttl: lifetimes,
      findAccount: (_ctx, id) => ({ accountId: id, claims: async () => ({ sub: id }) }),
      loadExistingGrant: grantWhatIsAsked,
      pkce: { required: () => false },
      interactions: { url: (_ctx, { uid }) => `/interaction/${uid}` },
    },
    { store, egress: { allow: ['127.0.0.1'] }, log: () => {} },
  )
  opened.push(store, provider)
  provider.proxy = issuer.startsWith('https:')
  server.on('request', await mounted(provider, provider.proxy))
  return provider
}

/** Ends TLS in front of an app, as nginx or a load balancer does. */
async function startTlsProxy(): Promise<{ port: number; forwardTo(port: number): void }> {
  const certificate = selfSigned()
  const before = getCACertificates('default')
  setDefaultCACertificates([...before, certificate.cert])
  opened.push({ close: () => setDefaultCACertificates(before) })
  let target = 0
  const proxy = createTlsServer(certificate, (req, res) => {
    const headers = { ...req.headers, 'x-forwarded-proto': 'https', 'x-forwarded-host': req.headers.host }
    const onwards = request(
      { host: '127.0.0.1', port: target, method: req.method, path: req.url, headers },
      (answer) => {
        res.writeHead(answer.statusCode ?? 502, answer.headers)
        answer.pipe(res)
      },
    )
    onwards.on('error', () => res.destroy())
    req.pipe(onwards)
  })
  const port = await listen(proxy)
  return {
    port,
    forwardTo: (at) => {
      target = at
    },
  }
}

/** A login at two apps, a logout at one, and everybody knows. */
async function fullStory(issuer: string, rps: RpSite): Promise<void> {
  const op = { issuer }
  const notes = rps.client('notes')
  const browser = createUserAgent()
  opened.push(browser)
  const metadata = (await (await fetch(`${issuer}/.well-known/openid-configuration`)).json()) as Record<string, unknown>
  expect(metadata).toMatchObject({
    issuer,
    authorization_endpoint: `${issuer}/auth`,
    end_session_endpoint: `${issuer}/session/end`,
    check_session_iframe: `${issuer}/session/check`,
  })

  const { tokens, sessionState } = await logIn(browser, op, notes)
  await logIn(browser, op, rps.client('mail'))
  expect(sessionState).toMatch(/^[\w-]{43}\.[\w-]{22}$/)
  expect(await isSignedIn(browser, op, notes)).toBe(true)

  const bye = `${rps.origin('notes')}/bye`
  const asked = await browser.open(logoutUrl(op))
  expect(new URL(asked.url).pathname).toBe('/oidc/session/end/ask')
  const url = logoutUrl(op, { id_token_hint: tokens.id_token, post_logout_redirect_uri: bye, state: 's' })
  expect((await browser.open(url)).url).toBe(`${bye}?state=s`)
  expect((await rps.received(2)).map(({ app }) => app).toSorted()).toEqual(['mail', 'notes'])
  expect(await isSignedIn(browser, op, notes)).toBe(false)
}

describe.each(mounts)('an OP below a path of an app made with %s', (_name, mounted) => {
  it('logs in and out on plain http [RPI-2-a] [BCL-2.3-a]', async () => {
    const rps = await startRpSite()
    opened.push(rps)
    const server = createServer()
    const issuer = `http://localhost:${await listen(server)}/oidc`
    await startApp(server, issuer, mounted, rps)
    await fullStory(issuer, rps)
  })

  it('logs in and out behind a TLS proxy [RPI-2-a] [BCL-2.3-a]', async () => {
    const rps = await startRpSite()
    opened.push(rps)
    const proxy = await startTlsProxy()
    const server = createServer()
    const issuer = `https://localhost:${proxy.port}/oidc`
    proxy.forwardTo(await listen(server))
    await startApp(server, issuer, mounted, rps)
    await fullStory(issuer, rps)
  })
})
