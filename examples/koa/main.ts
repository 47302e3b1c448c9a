import Koa from 'koa'
import { createRelyingParty } from 'lockstep/rp'
import { auth, requireLogin } from 'lockstep/rp/koa'
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

const app = new Koa()
app.use(auth(rp)) // before body parsers
app.use(async (ctx, next) => {
  if (ctx.path !== '/') return next()
  ctx.body = page(ctx.state.rpSession ? '<a href="/auth/logout">Sign out</a>' : '<a href="/me">Sign in</a>')
})
app.use(requireLogin(rp)) // everything below
app.use((ctx) => {
  if (ctx.path === '/me') ctx.body = { hello: ctx.state.rpSession.data.name }
})

const server = app.listen(Number(PORT), '127.0.0.1', () => console.log('listening', server.address()))
process.on('SIGTERM', async () => {
  await rp.close()
  server.close()
})
