import fastify from 'fastify'
import { createRelyingParty } from 'lockstep/rp'
import { auth, requireLogin, rpSessionOf } from 'lockstep/rp/fastify'
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

const app = fastify()
await app.register(auth(rp)) // closes `rp` when the server closes
app.get('/', async (request, reply) => {
  reply.type('text/html')
  return page(request.rpSession ? '<a href="/auth/logout">Sign out</a>' : '<a href="/me">Sign in</a>')
})
app.get('/me', { preHandler: requireLogin(rp) }, async (request) => ({ hello: rpSessionOf(rp, request).data.name }))

await app.listen({ port: Number(PORT), host: '127.0.0.1' })
console.log('listening', app.server.address())
process.on('SIGTERM', () => void app.close())
