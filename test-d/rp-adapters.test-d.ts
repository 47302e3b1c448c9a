import type { IncomingMessage, ServerResponse } from 'node:http'
import express from 'express'
import fastify from 'fastify'
import { Hono } from 'hono'
import Koa from 'koa'
import { type CurrentRpSession, createRelyingParty, type RpSession } from 'lockstep/rp'
import * as onExpress from 'lockstep/rp/express'
import * as onFastify from 'lockstep/rp/fastify'
import * as onFetch from 'lockstep/rp/fetch'
import * as onHono from 'lockstep/rp/hono'
import * as onKoa from 'lockstep/rp/koa'
import { memoryStore } from 'lockstep/rp/memory'
import * as onNext from 'lockstep/rp/next'
import * as onNode from 'lockstep/rp/node'

/* Two relying parties in one app, in every framework: each guard brings the data of its own. */

const base = { clientSecret: 'secret', appUrl: 'https://app.example', store: memoryStore() }
const staff = createRelyingParty({
  ...base,
  issuer: 'https://staff.example',
  clientId: 'a',
  prefix: '/staff',
  mapSession: () => ({ badge: 7 }),
})
const guests = createRelyingParty({
  ...base,
  issuer: 'https://guests.example',
  clientId: 'b',
  prefix: '/guests',
  mapSession: (claims) => ({ name: claims.name ?? 'guest' }),
})

/** Takes `true` only where two types are the very same: `any`, which fits everything, is not what anybody promised. */
declare function same<A, B>(
  is: (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false,
): void

type OfStaff = RpSession<{ badge: number }>
type OfGuest = RpSession<{ name: string }>

// [express 1]
express()
  .use(onExpress.auth(staff))
  .use(onExpress.auth(guests))
  .get('/staff/:id', onExpress.requireLogin(staff), (req, res) => {
    same<typeof req.rpSession, OfStaff>(true)
    req.params.id satisfies string
    // @ts-expect-error that is a guest's
    res.send(req.rpSession.data.name)
  })
  .post('/staff/:id', onExpress.requireLogin(staff), express.json(), (req, res) => {
    same<typeof req.rpSession, OfStaff>(true)
    res.send(req.body)
  })
  .get('/open', (req, res) => {
    same<typeof req.rpSession, RpSession | undefined>(true)
    res.end()
  })
  .get('/guests', onExpress.requireLogin(guests), (req) => void (req.rpSession.data.name satisfies string))

new Hono()
  .use(onHono.auth(guests))
  .get('/', (c) => c.text(c.var.rpSession?.data.name ?? c.var.rpSessionEnd?.cause ?? ''))
  .get('/guest', (c) => {
    same<typeof c.var.rpSession, OfGuest | undefined>(true)
    return c.text('')
  })
  .get('/staff/:id', onHono.requireLogin(staff), (c) => {
    c.var.rpSession.data.badge satisfies number
    return c.text(c.req.param('id') satisfies string)
  })
new Hono().get('/staff', onHono.requireLogin(staff), (c) => {
  same<typeof c.var.rpSession, OfStaff>(true)
  return c.text('')
})
// [hono 1]
// @ts-expect-error nothing is global: a route without our middleware knows of no rpSession
new Hono().get('/', (c) => c.text(c.var.rpSession.sub))

const koa = new Koa()
koa.use(onKoa.auth(guests)).use((ctx) => {
  same<typeof ctx.state.rpSession, OfGuest | undefined>(true)
})
new Koa().use(onKoa.requireLogin(staff)).use((ctx) => {
  same<typeof ctx.state.rpSession, OfStaff>(true)
})

const app = fastify()
app.register(onFastify.auth(staff))
app.get('/staff', { preHandler: onFastify.requireLogin(staff) }, async (request) => {
  const session = onFastify.rpSessionOf(staff, request)
  same<typeof session, OfStaff>(true)
  // @ts-expect-error nobody may be signed in as far as the request says
  return request.rpSession.sub
})

fastify({ http2: true }).register(onFastify.auth(staff))
app.register(async (child) => {
  child.addHook('onRequest', onFastify.requireLogin(guests))
  child.get('/guest', async (request) => {
    const session = onFastify.rpSessionOf(guests, request)
    same<typeof session, OfGuest>(true)
  })
})

async function others(request: Request, headers: Headers, req: IncomingMessage, res: ServerResponse): Promise<void> {
  const onFetchGuard = await onFetch.requireLogin(staff, request)
  same<typeof onFetchGuard, OfStaff | Response>(true)
  const onFetchCurrent = await onFetch.getRpSession(guests, request)
  same<typeof onFetchCurrent.current, CurrentRpSession<{ name: string }>>(true)
  const onNextCurrent = await onNext.getRpSession(guests, Promise.resolve(headers))
  same<typeof onNextCurrent, CurrentRpSession<{ name: string }>>(true)
  if (onNextCurrent.state === 'alive') same<typeof onNextCurrent.session, OfGuest>(true)
  // @ts-expect-error nobody may be signed in
  void onNextCurrent.session
  const { GET } = onNext.handlers(guests)
  same<typeof GET, (request: Request) => Promise<Response>>(true)
  onNext.mayBeSignedIn(staff, request) satisfies boolean
  const onNodeGuard = await onNode.requireLogin(staff, req, res)
  same<typeof onNodeGuard, OfStaff | undefined>(true)
  const onNodeCurrent = await onNode.getRpSession(guests, req, res)
  same<typeof onNodeCurrent, CurrentRpSession<{ name: string }>>(true)
}
void others
