import Koa, { type Context, type Next } from 'koa'
import { auth, requireLogin } from '../../../src/rp-koa.ts'
import type { Mount } from '../support.ts'
import { adapterFlows } from './flow-suite.ts'

function app(before: (ctx: Context) => Promise<void> = async () => {}): Mount {
  return async (rp) => {
    const shell = new Koa()
    const guard = requireLogin(rp)
    shell.use(async (ctx: Context, next: Next) => {
      await before(ctx)
      await next()
    })
    shell.use(auth(rp))
    shell.use(async (ctx) => {
      if (ctx.path === '/echo') {
        ctx.body = await textOf(ctx)
      } else if (ctx.path === '/me') {
        await guard(ctx, async () => {
          ctx.body = `Hello ${ctx.state.rpSession.data.name}`
        })
      } else {
        ctx.body = ctx.state.rpSession ? 'signed in' : `signed out ${ctx.state.rpSessionEnd?.cause ?? ''}`
      }
    })
    return shell.callback()
  }
}

async function textOf({ req }: Pick<Context, 'req'>): Promise<string> {
  let text = ''
  for await (const chunk of req.setEncoding('utf8')) text += chunk
  return text
}

// What koa-body and @koa/bodyparser leave behind.
adapterFlows({
  name: 'Koa',
  mount: app(),
  parsers: {
    'a parser that keeps an object': app(async (ctx) => {
      if (ctx.method !== 'POST') return
      const form = new URLSearchParams(await textOf(ctx))
      const body = Object.fromEntries([...form.keys()].map((name) => [name, form.getAll(name)]))
      Object.assign(ctx.request, { body })
    }),
    'a parser that keeps the raw text too': app(async (ctx) => {
      if (ctx.method === 'POST') Object.assign(ctx.request, { body: {}, rawBody: await textOf(ctx) })
    }),
  },
  eater: app(async (ctx) => {
    if (ctx.method === 'POST') await textOf(ctx)
  }),
})
