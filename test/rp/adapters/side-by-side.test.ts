import { createServer } from 'node:http'
import { serve } from '@hono/node-server'
import express from 'express'
import fastify from 'fastify'
import { Hono } from 'hono'
import Koa from 'koa'
import { afterEach, describe, expect, it } from 'vitest'
import { namesOf } from '../../../src/rp/session-id.ts'
import { createLogoutReceiver, createRelyingParty, type Mountable, type RelyingParty } from '../../../src/rp.ts'
import { auth as expressAuth } from '../../../src/rp-express.ts'
import { auth as fastifyAuth } from '../../../src/rp-fastify.ts'
import { auth as fetchAuth, getRpSession as fetchSession } from '../../../src/rp-fetch.ts'
import { auth as honoAuth } from '../../../src/rp-hono.ts'
import { auth as koaAuth } from '../../../src/rp-koa.ts'
import { memoryStore } from '../../../src/rp-memory.ts'
import { auth as nodeAuth, getRpSession as nodeSession } from '../../../src/rp-node.ts'
import { world } from '../../../src/runtime/runtime.ts'
import { opened, START, someSession } from '../../../src/testing/rp-store-bench.ts'
import { listen, shut } from '../support.ts'

/* Several relying parties in one app: what a tab asks of one is no use of the other. */

const cleanup: (() => unknown)[] = []
afterEach(async () => {
  for (const step of cleanup.splice(0).reverse()) await step()
})

type All = readonly [RelyingParty, RelyingParty, Mountable]

/** Serves an app that asks on every request who is signed in at the first; resolves with its URL. */
type ServeAll = (all: All) => Promise<string>

const frameworks: Readonly<Record<string, ServeAll>> = {
  async Express(all) {
    const { server, port } = await listen(express().use(all.map((one) => expressAuth(one))))
    cleanup.push(() => shut(server))
    return `http://127.0.0.1:${port}`
  },
  async Koa(all) {
    const app = new Koa()
    for (const one of all) app.use(koaAuth(one))
    const { server, port } = await listen(app.callback())
    cleanup.push(() => shut(server))
    return `http://127.0.0.1:${port}`
  },
  async Fastify(all) {
    const app = fastify()
    cleanup.push(() => app.close())
    for (const one of all) await app.register(fastifyAuth(one))
    app.get('/', async () => 'the app')
    return app.listen({ host: '127.0.0.1', port: 0 })
  },
  async Hono(all) {
    const app = new Hono()
    for (const one of all) app.use(honoAuth(one))
    app.get('/', (c) => c.text('the app'))
    return new Promise((resolve) => {
      const server = serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' }, ({ port }) =>
        resolve(`http://127.0.0.1:${port}`),
      )
      cleanup.push(() => new Promise((closed) => server.close(closed)))
    })
  },
  async 'node:http'(all) {
    const served = createServer(async (req, res) => {
      await nodeSession(all[0], req, res) // an app that wants to know it for its log
      for (const one of all) if (await nodeAuth(one)(req, res)) return
      res.end('the app')
    })
    await new Promise<void>((resolve) => served.listen(0, '127.0.0.1', resolve))
    cleanup.push(() => shut(served))
    return `http://127.0.0.1:${(served.address() as { port: number }).port}`
  },
  async fetch(all) {
    const answer = async (request: Request): Promise<Response> => {
      await fetchSession(all[0], request)
      for (const one of all) {
        const response = await fetchAuth(one)(request)
        if (response) return response
      }
      return new Response('the app')
    }
    const server = serve({ fetch: answer, port: 0, hostname: '127.0.0.1' })
    cleanup.push(() => new Promise((closed) => server.close(closed)))
    await new Promise((resolve) => server.once('listening', resolve))
    return `http://127.0.0.1:${(server.address() as { port: number }).port}`
  },
}

const cookie = 'x'.repeat(43)

describe.each(Object.entries(frameworks))('two relying parties in one app of %s', (_name, serveAll) => {
  it('do not count what a tab asks of the other as use, nor of a logout receiver beside them [T11] [every 10]', async () => {
    let now = START * 1000
    const store = memoryStore()
    const runtime = { ...world, now: () => now }
    const common = { clientId: 'desk', appUrl: 'https://desk.example', store, runtime, log: () => {} }
    const party = (name: string): RelyingParty =>
      createRelyingParty({
        ...common,
        issuer: `https://${name}.example`,
        clientSecret: 's',
        prefix: `/auth/${name}`,
        cookieSuffix: name,
      })
    const kept = { ...common, issuer: 'https://kept.example', prefix: '/kept', readSession: async () => undefined }
    const all: All = [party('staff'), party('guests'), createLogoutReceiver(kept)]
    cleanup.push(() => Promise.all(all.map((one) => one.close())))
    const sessions = store.forClient({ issuer: 'https://staff.example', clientId: 'desk' }, runtime)
    await opened(sessions, someSession(namesOf(cookie)))
    const url = await serveAll(all)
    const idleUntil = async () => (await sessions.listBySub('ada'))[0]?.idleExpiresAt
    const ask = async (path: string): Promise<number> => {
      const answer = await fetch(url + path, { headers: { cookie: `__Host-lockstep-staff=${cookie}` } })
      await answer.text()
      return answer.status
    }
    now += 1_800_000
    for (const path of ['/auth/guests/session', '/auth/guests/session/events', '/kept/session']) {
      expect([path, await ask(path)]).toEqual([path, 401])
    }
    expect(await idleUntil()).toBe(START + 3_600)
    await ask('/?of=/auth/guests/session')
    expect(await idleUntil()).toBe(START + 1_800 + 86_400) // a day from then on, as the default is
  })

  it('answer each below its own prefix, also where one prefix is below the other [every 10]', async () => {
    const common = { clientId: 'desk', appUrl: 'https://desk.example', store: memoryStore(), log: () => {} }
    const party = (name: string, prefix: string): RelyingParty =>
      createRelyingParty({
        ...common,
        issuer: `https://${name}.example`,
        clientSecret: 's',
        prefix,
        cookieSuffix: name,
      })
    const kept = { ...common, issuer: 'https://kept.example', prefix: '/auth/kept', readSession: async () => undefined }
    const all: All = [party('staff', '/auth'), party('partner', '/auth/partner'), createLogoutReceiver(kept)]
    cleanup.push(() => Promise.all(all.map((one) => one.close())))
    const url = await serveAll(all)
    const status = async (path: string) => [path, (await fetch(url + path)).status]
    for (const path of ['/auth/session', '/auth/partner/session', '/auth/kept/session']) {
      expect(await status(path)).toEqual([path, 401])
    }
    for (const path of ['/auth/part', '/auth/partner/nothing']) expect(await status(path)).toEqual([path, 404])
  })
})
