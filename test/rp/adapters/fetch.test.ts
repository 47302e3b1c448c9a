import { getRequestListener } from '@hono/node-server'
import { auth, getRpSession, requireLogin } from '../../../src/rp-fetch.ts'
import type { Mount } from '../support.ts'
import { adapterFlows } from './flow-suite.ts'

function app(before: (request: Request) => Promise<unknown> = async () => {}): Mount {
  return async (rp) => {
    const lockstep = auth(rp)
    return getRequestListener(async (request) => {
      try {
        return await respond(request)
      } catch (error) {
        return new Response(null, { status: (error as { status?: number }).status ?? 500 })
      }
    })

    async function respond(request: Request): Promise<Response> {
      await before(request)
      const answer = await lockstep(request)
      if (answer) return answer
      const { pathname } = new URL(request.url)
      if (pathname === '/echo') return new Response(await request.text())
      if (pathname === '/me') {
        const session = await requireLogin(rp, request)
        return session instanceof Response ? session : new Response(`Hello ${session.data.name}`)
      }
      const { current, cookies } = await getRpSession(rp, request)
      const headers = cookies.map((cookie): [string, string] => ['set-cookie', cookie])
      const cause = current.state === 'ended' ? current.end.cause : ''
      return new Response(current.state === 'alive' ? 'signed in' : `signed out ${cause}`, { headers })
    }
  }
}

adapterFlows({
  name: 'Fetch',
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
})
