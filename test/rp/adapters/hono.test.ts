import { getRequestListener } from '@hono/node-server'
import { Hono, type MiddlewareHandler } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import { auth, requireLogin } from '../../../src/rp-hono.ts'
import type { Mount } from '../support.ts'
import { adapterFlows } from './flow-suite.ts'

function app(before: MiddlewareHandler = (_c, next) => next()): Mount {
  return async (rp) => {
    const shell = new Hono()
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
  eater: app(reading((c) => c.req.raw.text())),
})
