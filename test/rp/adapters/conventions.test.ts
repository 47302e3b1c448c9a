import { execFileSync } from 'node:child_process'
import { globSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { getRequestListener } from '@hono/node-server'
import express, { type RequestHandler } from 'express'
import fastify from 'fastify'
import { Hono, type MiddlewareHandler } from 'hono'
import Koa, { type Middleware } from 'koa'
import { afterEach, describe, expect, it } from 'vitest'
import { createRelyingParty, type RelyingParty } from '../../../src/rp.ts'
import { auth, requireLogin } from '../../../src/rp-express.ts'
import { auth as fastifyAuth } from '../../../src/rp-fastify.ts'
import { auth as honoAuth } from '../../../src/rp-hono.ts'
import { auth as koaAuth } from '../../../src/rp-koa.ts'
import { memoryStore } from '../../../src/rp-memory.ts'
import { getRpSession, auth as nodeAuth } from '../../../src/rp-node.ts'
import { type Kept, type Mount, startWorld, type TestWorld } from '../support.ts'

/* What holds for every adapter, because all stand on the same core. */

let world: TestWorld | undefined

afterEach(async () => {
  await world?.close()
  world = undefined
})

const root = resolve(import.meta.dirname, '../../..')
const { exports } = JSON.parse(readFileSync(resolve(root, 'package.json'), 'utf8')) as {
  exports: Record<string, unknown>
}
const entries = Object.keys(exports).filter((entry) => entry.startsWith('./rp'))

/** Apps that believe what a proxy says, as apps behind one do. */
const behindProxies: Readonly<Record<string, Mount>> = {
  Express: async (rp) => express().set('trust proxy', true).use(auth(rp)),
  async Fastify(rp) {
    const shell = fastify({ trustProxy: true })
    await shell.register(fastifyAuth(rp))
    await shell.ready()
    return (req, res) => shell.routing(req, res)
  },
  Koa: async (rp) => new Koa({ proxy: true }).use(koaAuth(rp)).callback(),
}

/** Where the OP would send a browser back to whose request came with a proxy's headers, or an attacker's. */
async function redirectUriOf({ app, newAgent }: TestWorld): Promise<string | null> {
  const headers = {
    'sec-fetch-dest': 'document',
    'x-forwarded-host': 'evil.example',
    'x-forwarded-proto': 'https',
    forwarded: 'host=evil.example;proto=https',
  }
  const page = await newAgent().fetch(app.url, '/auth/login', { headers })
  return new URL(page.header('location') ?? '').searchParams.get('redirect_uri')
}

describe('every adapter', () => {
  it.each(entries)('%s adds no name to the global object and changes none of the built-ins [every 1]', (entry) => {
    const script = `
      const shapes = () => {
        const globals = Object.getOwnPropertyNames(globalThis).map((name) => globalThis[name])
        const classes = globals.filter((one) => typeof one === 'function')
        return [globalThis, ...classes, ...classes.flatMap(({ prototype }) => prototype ?? [])].flatMap((one) =>
          Reflect.ownKeys(one).flatMap((key) => {
            const { value, get, set } = Object.getOwnPropertyDescriptor(one, key)
            return [one, key, value, get, set]
          }))
      }
      shapes() // some of Node's globals are made when they are first looked at
      const before = shapes()
      await import('lockstep${entry.slice(1)}')
      const after = shapes()
      const changed = before.length === after.length ? before.findIndex((one, at) => !Object.is(one, after[at])) : 0
      if (changed >= 0) throw new Error('changed: ' + String(after.find((one, at) => !Object.is(one, before[at]))))`
    const args = ['-C', '@lockstep/source', '--input-type=module', '-e', script]
    expect(execFileSync(process.execPath, args, { cwd: root, encoding: 'utf8' })).toBe('')
  })

  it('has a test for each line of docs/adapters.md, and no other numbers', () => {
    const lines = [...readFileSync(join(root, 'docs/adapters.md'), 'utf8').matchAll(/^\| ((?:every|[a-z]+) \d+) \|/gm)]
    const files = globSync('{test,test-d,e2e}/**/*.ts', { cwd: root, exclude: ['**/node_modules/**'] })
    const ids = String.raw`\[((?:(?:every|express|fastify|koa|hono|next) \d+(?:, )?)+)\]`
    const atEndOfName = new RegExp(`${ids}['"\`],? ?(?:async )?[,(]`, 'g')
    const aboveTypes = new RegExp(`^// ${ids}$`, 'gm') // what compiles there has no name
    const named = files.flatMap((file) =>
      [
        ...readFileSync(join(root, file), 'utf8').matchAll(file.startsWith('test-d') ? aboveTypes : atEndOfName),
      ].flatMap(([, found = '']) => found.split(', ')),
    )
    expect([...new Set(named)].toSorted()).toEqual(lines.map(([, id]) => id).toSorted())
  })

  it.each(
    Object.entries(behindProxies),
  )('takes host and scheme from appUrl also where %s believes a proxy [T21] [every 3]', async (_name, mount) => {
    world = await startWorld({ mount })
    expect(await redirectUriOf(world)).toBe(`${world.app.url}/auth/callback`)
  })

  it('takes host and scheme from appUrl: no header of a proxy or an attacker decides [T21] [every 3]', async () => {
    world = await startWorld()
    expect(await redirectUriOf(world)).toBe(`${world.app.url}/auth/callback`)
  })
})

/** An app that says what its framework's objects are called by just before our middleware and just after. */
const namesAround: Readonly<Record<string, (see: (names: string[]) => void) => Mount>> = {
  Express: (see) => async (rp) => {
    const look: RequestHandler = (req, res, next) => {
      see([...Object.keys(req), ...Object.keys(res.locals).map((name) => `locals.${name}`)])
      next()
    }
    return express().use(look, auth(rp), look)
  },
  Koa: (see) => async (rp) => {
    const look: Middleware = (ctx, next) => {
      see([...Object.keys(ctx), ...Object.keys(ctx.req), ...Object.keys(ctx.state).map((name) => `state.${name}`)])
      return next()
    }
    return new Koa().use(look).use(koaAuth(rp)).use(look).callback()
  },
  Hono: (see) => async (rp) => {
    const look: MiddlewareHandler = (c, next) => {
      see(Object.keys(c.var))
      return next()
    }
    return getRequestListener(new Hono().use(look).use(honoAuth(rp)).use(look).fetch)
  },
  'node:http': (see) => async (rp) => async (req, res) => {
    see(Object.keys(req))
    if (await nodeAuth(rp)(req, res)) return
    await getRpSession(rp, req, res)
    see(Object.keys(req))
    res.end()
  },
}

describe.each(Object.entries(namesAround))('who is signed in with %s', (name, mountWith) => {
  it('is told by rpSession and rpSessionEnd, and by no other name [every 2]', async () => {
    const seen: string[][] = []
    world = await startWorld({ mount: mountWith((names) => seen.push(names)) })
    const { app, newAgent } = world
    const agent = newAgent()
    await agent.submit(await agent.open(`${app.url}/auth/login`), { username: 'ada' })
    const added = new Set<string>()
    const look = async () => {
      seen.splice(0)
      await agent.fetch(app.url, '/')
      const [before = [], after = []] = seen
      for (const one of after) if (!before.includes(one)) added.add(one)
    }
    await look()
    const [session] = await app.sessions.listBySub('ada')
    await app.sessions.delete(session?.handle ?? '', { cause: 'admin', at: 1 })
    await look()
    const where = name === 'Koa' ? 'state.' : ''
    const own = name === 'node:http' ? [] : [`${where}rpSession`, `${where}rpSessionEnd`]
    expect([...added].toSorted()).toEqual(own)
  })
})

describe('two relying parties in one app', () => {
  it('do not open what the other guards, whichever was asked first [T20] [every 5]', async () => {
    const seconds: RelyingParty<Kept>[] = []
    world = await startWorld({
      mount: async (rp) => {
        const second = createRelyingParty({
          issuer: 'https://another-op.example',
          clientId: 'second',
          clientSecret: 'secret',
          appUrl: 'http://localhost',
          prefix: '/second',
          store: memoryStore(),
          mapSession: ({ name }): Kept => ({ name }),
        })
        seconds.push(second)
        const shell = express().use(auth(rp)).use(auth(second))
        shell.get('/me', requireLogin(rp), (req, res) => void res.send(`Hello ${req.rpSession.data.name}`))
        shell.get('/second-only', requireLogin(second), (_req, res) => void res.send('secret'))
        shell.get('/both', requireLogin(rp), requireLogin(second), (_req, res) => void res.send('secret'))
        return shell
      },
    })
    const { app, newAgent, signIn } = world
    const agent = newAgent()
    expect((await signIn(agent, app)).body).toBe('Hello the one called ada')
    for (const path of ['/second-only', '/both']) {
      expect((await agent.fetch(app.url, path)).status).toBe(401)
    }
    expect((await agent.fetch(app.url, '/me')).status).toBe(200)
    for (const second of seconds) await second.close()
  })
})
