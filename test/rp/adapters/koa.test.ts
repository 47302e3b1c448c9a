import Koa, { type Context, type Next } from 'koa'
import { describe, expect, it } from 'vitest'
import { auth, requireLogin } from '../../../src/rp-koa.ts'
import { type Mount, startWorld } from '../support.ts'
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
  eaters: {
    'something that eats bodies': app(async (ctx) => {
      if (ctx.method === 'POST') await textOf(ctx)
    }),
    'a parser that leaves nothing of them': app(async (ctx) => {
      if (ctx.method !== 'POST') return
      await textOf(ctx)
      Object.assign(ctx.request, { body: {} })
    }),
  },
})

describe('the Koa adapter, as Koa does things', () => {
  it('answers by ctx, so that middleware around it sees status and headers [koa 1]', async () => {
    const seen: unknown[] = []
    const {
      app: served,
      newAgent,
      close,
    } = await startWorld({
      mount: async (rp) => {
        const shell = new Koa()
        shell.use(async (ctx, next) => {
          await next()
          seen.push([ctx.path, ctx.status, ctx.response.get('cache-control')])
          ctx.set('x-request-id', '7')
        })
        shell.use(auth(rp))
        return shell.callback()
      },
    })
    const page = await newAgent().fetch(served.url, '/auth/session')
    expect(page.header('x-request-id')).toBe('7')
    expect(seen).toEqual([['/auth/session', 401, 'no-store']])
    await close()
  })

  it('takes a tab that is closed for no error of the app, and what else goes wrong for one [koa 3]', async () => {
    const errors: string[] = []
    const {
      app: served,
      newAgent,
      signIn,
      close,
    } = await startWorld({
      mount: async (rp) => {
        const shell = new Koa()
        shell.on('error', (error: Error) => errors.push(error.message))
        shell.use(auth(rp)).use(requireLogin(rp))
        shell.use((ctx) => {
          if (ctx.path === '/broken') throw new Error('broken')
          ctx.body = 'me'
        })
        return shell.callback()
      },
    })
    const released = Promise.withResolvers<void>()
    const { subscribe } = served.sessions
    served.sessions.subscribe = async (handle, onHint) => {
      const stop = await subscribe(handle, onHint)
      return () => {
        stop()
        released.resolve()
      }
    }
    const agent = newAgent()
    await signIn(agent, served)
    const tab = await agent.events(served.url, '/auth/session/events')
    await tab.next()
    tab.close()
    await released.promise
    expect((await agent.fetch(served.url, '/broken')).status).toBe(500)
    expect(errors).toEqual(['broken'])
    await close()
  })

  it('lets errors of the store go up to whoever handles them, and leaves ctx.state.user and ctx.session alone [koa 2, every 2]', async () => {
    const seen: unknown[] = []
    const {
      app: served,
      newAgent,
      close,
    } = await startWorld({
      mount: async (rp) => {
        const shell = new Koa()
        shell.use(async (ctx, next) => {
          await next().catch((error: Error) => {
            ctx.status = 503
            ctx.body = `mine: ${error.message}`
          })
          seen.push('user' in ctx.state, 'session' in ctx)
        })
        shell.use(auth(rp))
        shell.use(async (ctx) => {
          ctx.body = ctx.state.rpSession?.sub
        })
        return shell.callback()
      },
    })
    const agent = newAgent()
    await agent.submit(await agent.open(`${served.url}/auth/login`), { username: 'ada' })
    served.sessions.get = async () => Promise.reject(new Error('disk full'))
    expect(await agent.fetch(served.url, '/')).toMatchObject({
      status: 503,
      body: 'mine: It could not be found out who is signed in',
    })
    expect(new Set(seen)).toEqual(new Set([false]))
    await close()
  })
})
