import { serve } from '@hono/node-server'
import { createRelyingParty } from 'lockstep/rp'
import { auth, getRpSession, requireLogin } from 'lockstep/rp/fetch'
import { memoryStore } from 'lockstep/rp/memory'

// The defaults are those of Notes at the demo's OP: npm run server -- --demo
const {
  ISSUER = 'http://localhost:4000',
  CLIENT_ID = 'notes',
  CLIENT_SECRET = 'demo-secret-of-notes',
  APP_URL = 'http://notes.localhost:4001',
  PORT = '4001',
} = process.env

const rp = createRelyingParty({
  issuer: ISSUER,
  clientId: CLIENT_ID,
  clientSecret: CLIENT_SECRET,
  appUrl: APP_URL,
  store: memoryStore(),
  mapSession: (claims) => ({ name: claims.name ?? claims.sub }),
})

const page = (text: string): string =>
  `<!doctype html><script type="module" src="/auth/session-monitor.js" data-on-ended="reload"></script><p>${text}</p>`

const lockstep = auth(rp)

/** Any framework whose handlers are `Request` to `Response` can do this. */
async function answer(request: Request): Promise<Response> {
  const ours = await lockstep(request)
  if (ours) return ours
  const { pathname } = new URL(request.url)
  if (pathname === '/me') {
    const session = await requireLogin(rp, request)
    return session instanceof Response ? session : Response.json({ hello: session.data.name })
  }
  const { current, cookies } = await getRpSession(rp, request)
  const link = current.state === 'alive' ? '<a href="/auth/logout">Sign out</a>' : '<a href="/me">Sign in</a>'
  const headers = new Headers({ 'content-type': 'text/html' })
  for (const cookie of cookies) headers.append('set-cookie', cookie)
  return new Response(page(link), { headers })
}

const server = serve({ fetch: answer, port: Number(PORT), hostname: '127.0.0.1' }, (address) => {
  console.log('listening', address)
})
process.on('SIGTERM', async () => {
  await rp.close()
  server.close()
})
