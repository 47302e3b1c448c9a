import { createServer } from 'node:http'
import { createRelyingParty } from 'lockstep/rp'
import { memoryStore } from 'lockstep/rp/memory'
import { auth, getRpSession, requireLogin } from 'lockstep/rp/node'

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
const server = createServer(async (req, res) => {
  try {
    if (await lockstep(req, res)) return
    if (req.url === '/') {
      const { state } = await getRpSession(rp, req, res)
      res.setHeader('content-type', 'text/html')
      res.end(page(state === 'alive' ? '<a href="/auth/logout">Sign out</a>' : '<a href="/me">Sign in</a>'))
    } else if (req.url === '/me') {
      const session = await requireLogin(rp, req, res)
      if (session) res.end(JSON.stringify({ hello: session.data.name }))
    } else {
      res.writeHead(404).end()
    }
  } catch (error) {
    console.error(error)
    res.writeHead(500).end()
  }
})
server.listen(Number(PORT), '127.0.0.1', () => console.log('listening', server.address()))
process.on('SIGTERM', async () => {
  await rp.close()
  server.close()
})
