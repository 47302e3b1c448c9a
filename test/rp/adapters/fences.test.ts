import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { compileFunction } from 'node:vm'
import { transformSync } from 'esbuild'
import { afterAll, describe, expect, it } from 'vitest'
import { createRelyingParty } from '../../../src/rp.ts'
import { auth } from '../../../src/rp-fetch.ts'
import { memoryStore } from '../../../src/rp-memory.ts'

/* The examples of docs/adapters.md for frameworks that speak Fetch, as they stand there, called as the framework does. */

const guide = readFileSync(join(import.meta.dirname, '../../../docs/adapters.md'), 'utf8')
const common = { issuer: 'http://localhost', clientId: 'notes', clientSecret: 'secret', log: () => {} }
const rp = createRelyingParty({ ...common, appUrl: 'https://notes.example', store: memoryStore() })
afterAll(() => rp.close())

/** As much of their packages as the examples use. */
const packages: Readonly<Record<string, unknown>> = {
  h3: {
    defineEventHandler: (handler: unknown) => handler,
    toWebRequest: (event: { request: Request }) => event.request,
  },
  '@tanstack/react-router': { createFileRoute: () => (route: unknown) => route },
}

function exampleOf<Example>(framework: string): Example {
  const [, code] = new RegExp(`^${framework}, [^]*?\`\`\`ts\\n([^]*?)\`\`\``, 'm').exec(guide) ?? []
  const { code: compiled } = transformSync(code ?? '', { loader: 'ts', format: 'cjs' })
  const module = { exports: {} }
  const run = compileFunction(compiled, ['module', 'exports', 'require', 'lockstep'])
  run(module, module.exports, (name: string) => packages[name], auth(rp))
  return module.exports as Example
}

const appItself = async () => new Response('the app')

type Ask = (input: object, next?: () => Promise<Response>) => Promise<Response | undefined>

/** How each framework asks its example; `undefined` where it goes on to the app. */
const frameworks: Readonly<Record<string, (request: Request) => Promise<Response | undefined>>> = {
  'React Router': (request) => {
    const { loader, action } = exampleOf<{ loader: Ask; action: Ask }>('React Router')
    return request.method === 'GET' ? loader({ request }) : action({ request })
  },
  'Nuxt and Nitro': (request) => exampleOf<{ default: Ask }>('Nuxt and Nitro').default({ request }),
  'TanStack Start': async (request) => {
    const { Route } = exampleOf<{ Route: { server: { handlers: Record<string, Ask> } } }>('TanStack Start')
    return Route.server.handlers[request.method]?.({ request })
  },
}

/** Those that would refuse a Logout Token. */
const guarding: typeof frameworks = {
  SvelteKit: (request) =>
    exampleOf<{ handle: Ask }>('SvelteKit').handle({
      event: { request, url: new URL(request.url) },
      resolve: appItself,
    }),
  Astro: (request) =>
    exampleOf<{ onRequest: Ask }>('Astro').onRequest({ request, url: new URL(request.url) }, appItself),
}

const post = (path: string, headers: Record<string, string> = {}): Request =>
  new Request(`https://notes.example${path}`, { method: 'POST', headers, body: new URLSearchParams({ a: '1' }) })

describe.each(Object.entries({ ...frameworks, ...guarding }))('the example for %s', (_name, ask) => {
  it('answers our routes, and takes a Logout Token, which has no Origin', async () => {
    expect((await ask(new Request('https://notes.example/auth/session')))?.status).toBe(401)
    expect(await (await ask(post('/auth/backchannel-logout')))?.text()).toContain('logout_token must be sent once')
  })
})

describe.each(Object.entries(guarding))('the example for %s', (_name, ask) => {
  it('guards the forms of the app, as the framework did', async () => {
    expect((await ask(post('/comments')))?.status).toBe(403)
    expect((await ask(post('/comments', { origin: 'https://evil.example' })))?.status).toBe(403)
    expect(await (await ask(post('/comments', { origin: 'https://notes.example' })))?.text()).toBe('the app')
    expect(await (await ask(new Request('https://notes.example/comments')))?.text()).toBe('the app')
  })
})
