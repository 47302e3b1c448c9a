import { getRequestListener } from '@hono/node-server'
import { describe, expect, it } from 'vitest'
import { createRelyingParty } from '../../../src/rp.ts'
import { memoryStore } from '../../../src/rp-memory.ts'
import { getRpSession, handlers, mayBeSignedIn } from '../../../src/rp-next.ts'
import type { Mount } from '../support.ts'
import { adapterFlows } from './flow-suite.ts'

/** What Next does around an app with `app/auth/[...lockstep]/route.ts`, a start page, `/me` and a route handler. */
function app(before: (request: Request) => Promise<unknown> = async () => {}): Mount {
  return async (rp) => {
    const routes = handlers(rp)
    return getRequestListener(async (request) => {
      await before(request)
      const { pathname, search } = new URL(request.url)
      if (pathname.startsWith('/auth')) return request.method === 'POST' ? routes.POST(request) : routes.GET(request)
      if (pathname === '/echo') return new Response(await request.text())
      const current = await getRpSession(rp, Promise.resolve(request.headers))
      if (pathname === '/me') {
        if (current.state === 'alive') return new Response(`Hello ${current.session.data.name}`)
        const isPage = request.headers.get('sec-fetch-dest') === 'document'
        if (isPage)
          return new Response(null, { status: 303, headers: { location: rp.loginPath(pathname + search, 'app') } })
        return Response.json({ error: 'login_required' }, { status: 401, headers: { 'cache-control': 'no-store' } })
      }
      const cause = current.state === 'ended' ? current.end.cause : ''
      return new Response(current.state === 'alive' ? 'signed in' : `signed out ${cause}`)
    })
  }
}

adapterFlows({
  name: 'Next',
  mount: app(),
  parsers: {},
  eaters: {
    'something that eats bodies': app(async (request) => {
      if (request.method === 'POST') await request.text()
    }),
    'something that stops in the middle of them': app(async (request) => {
      await request.body?.getReader().read()
    }),
    'something that keeps them for itself': app(async (request) => {
      request.body?.getReader()
    }),
  },
  keepsDeadCookies: true,
  away: 500, // Next's error page
})

describe('the Next adapter, as Next does things', () => {
  const rp = createRelyingParty({
    issuer: 'https://op.example',
    clientId: 'notes',
    clientSecret: 'secret',
    appUrl: 'https://notes.example',
    prefix: '/api/auth',
    store: memoryStore(),
    cookieSuffix: 'notes',
  })

  it('names the prefix when the folder of the route is another [next 1]', async () => {
    const answer = await handlers(rp).GET(new Request('https://notes.example/auth/session'))
    expect(answer.status).toBe(404)
    expect(await answer.json()).toMatchObject({ error_description: 'the routes are under /api/auth' })
    expect((await handlers(rp).GET(new Request('https://notes.example/api/auth/session'))).status).toBe(401)
  })

  it('names the option of Next that would lose every Logout Token to a redirect [next 4]', async () => {
    const request = new Request('https://notes.example/api/auth/backchannel-logout/', { method: 'POST' })
    const answer = await handlers(rp).POST(request)
    expect(answer.status).toBe(404)
    expect(await answer.json()).toMatchObject({
      error_description: expect.stringContaining('skipTrailingSlashRedirect'),
    })
  })

  it('lets proxy.ts guess by the cookie alone, without the store [next 2]', () => {
    const asking = (cookie: string) => mayBeSignedIn(rp, new Request('https://notes.example/', { headers: { cookie } }))
    expect(asking(`__Host-lockstep-notes=${'a'.repeat(43)}`)).toBe(true)
    expect(asking('__Host-lockstep-notes=')).toBe(false)
    expect(asking('theme=dark')).toBe(false)
  })
})
