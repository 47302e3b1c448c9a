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

// [express 1]
express()
  .use(onExpress.auth(staff))
  .use(onExpress.auth(guests))
  .get('/staff/:id', onExpress.requireLogin(staff), (req, res) => {
    req.rpSession.data.badge satisfies number
    req.params.id satisfies string
    // @ts-expect-error that is a guest's
    res.send(req.rpSession.data.name)
  })
  .get('/guests', onExpress.requireLogin(guests), (req) => void (req.rpSession.data.name satisfies string))

new Hono()
  .use(onHono.auth(guests))
  .get('/', (c) => c.text(c.var.rpSession?.data.name ?? c.var.rpSessionEnd?.cause ?? ''))
  .get('/staff/:id', onHono.requireLogin(staff), (c) => {
    c.var.rpSession.data.badge satisfies number
    return c.text(c.req.param('id') satisfies string)
  })
// [hono 1]
// @ts-expect-error nothing is global: a route without our middleware knows of no rpSession
new Hono().get('/', (c) => c.text(c.var.rpSession.sub))

const koa = new Koa()
koa.use(onKoa.auth(guests)).use((ctx) => {
  ctx.body = ctx.state.rpSession?.data.name satisfies string | undefined
})
new Koa().use(onKoa.requireLogin(staff)).use((ctx) => {
  ctx.state.rpSession.data.badge satisfies number
})

const app = fastify()
app.register(onFastify.auth(staff))
app.get('/staff', { preHandler: onFastify.requireLogin(staff) }, async (request) => {
  onFastify.rpSessionOf(staff, request) satisfies RpSession<{ badge: number }>
  // @ts-expect-error nobody may be signed in as far as the request says
  return request.rpSession.sub
})

async function others(request: Request, headers: Headers, req: IncomingMessage, res: ServerResponse): Promise<void> {
  ;(await onFetch.requireLogin(staff, request)) satisfies RpSession<{ badge: number }> | Response
  ;(await onFetch.getRpSession(guests, request)).current satisfies CurrentRpSession<{ name: string }>
  ;(await onNext.getRpSession(guests, headers)) satisfies CurrentRpSession<{ name: string }>
  onNext.handlers(guests).GET satisfies (request: Request) => Promise<Response>
  ;(await onNode.requireLogin(staff, req, res)) satisfies RpSession<{ badge: number }> | undefined
  ;(await onNode.getRpSession(guests, req, res)) satisfies CurrentRpSession<{ name: string }>
}
void others
