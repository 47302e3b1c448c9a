import { randomBytes } from 'node:crypto'
import { parseCookie, stringifySetCookie } from 'cookie'
import express, { type Request, type Response } from 'express'
import { EncryptJWT, jwtDecrypt } from 'jose'
import { createLogoutReceiver, type KeptClaims } from 'lockstep/rp'
import { auth } from 'lockstep/rp/express'
import { memoryStore } from 'lockstep/rp/memory'
import * as oidc from 'openid-client'

/* An app that keeps its sessions in a sealed cookie and nowhere else, as iron-session and next-auth do. */

// The defaults are those of Notes at the demo's OP: npm run server -- --demo
const {
  ISSUER = 'http://localhost:4000',
  CLIENT_ID = 'notes',
  CLIENT_SECRET = 'demo-secret-of-notes',
  APP_URL = 'http://notes.localhost:4001',
  PORT = '4001',
} = process.env

const key = randomBytes(32) // kept outside in a real app, or a restart signs everybody out
const lifetime = 8 * 3600

async function seal(claims: Record<string, unknown>, seconds: number): Promise<string> {
  const header = { alg: 'dir', enc: 'A256GCM' }
  return new EncryptJWT(claims)
    .setProtectedHeader(header)
    .setExpirationTime(Date.now() / 1000 + seconds)
    .encrypt(key)
}

async function open<T>(header: string | undefined, name: 'app' | 'login'): Promise<T | undefined> {
  const sealed = parseCookie(header ?? '')[name]
  if (sealed === undefined) return undefined
  try {
    return (await jwtDecrypt<T>(sealed, key)).payload
  } catch {
    return undefined // expired, or not ours
  }
}

function cookie(name: 'app' | 'login', value: string, maxAge: number): string {
  return stringifySetCookie({ name, value, path: '/', httpOnly: true, secure: true, sameSite: 'lax', maxAge })
}

// iat is kept by another name: a sealed cookie has one of its own.
interface Session {
  readonly sub: string
  readonly sid?: string
  readonly loggedInAt: number
  readonly idToken: string
}

async function claimsIn(header: string | undefined): Promise<KeptClaims | undefined> {
  const session = await open<Session>(header, 'app')
  return session && { sub: session.sub, iat: session.loggedInAt, ...(session.sid && { sid: session.sid }) }
}

const logouts = createLogoutReceiver({
  issuer: ISSUER,
  clientId: CLIENT_ID,
  appUrl: APP_URL,
  store: memoryStore(),
  sessionLifetime: lifetime,
  readSession: (request) => claimsIn(request.header('cookie')),
  clearSession: () => [cookie('app', '', 0)],
})

let found: oidc.Configuration | undefined
async function op(): Promise<oidc.Configuration> {
  const insecure = ISSUER.startsWith('http:') ? { execute: [oidc.allowInsecureRequests] } : {}
  found ??= await oidc.discovery(
    new URL(ISSUER),
    CLIENT_ID,
    CLIENT_SECRET,
    oidc.ClientSecretBasic(CLIENT_SECRET),
    insecure,
  )
  return found
}

const app = express()
app.use(auth(logouts)) // /auth/backchannel-logout, /auth/session/events, ...; before body parsers

app.get('/login', async (_req: Request, res: Response) => {
  const login = { state: oidc.randomState(), verifier: oidc.randomPKCECodeVerifier() }
  const url = oidc.buildAuthorizationUrl(await op(), {
    redirect_uri: `${APP_URL}/auth/callback`,
    scope: 'openid profile',
    state: login.state,
    code_challenge: await oidc.calculatePKCECodeChallenge(login.verifier),
    code_challenge_method: 'S256',
  })
  res.append('set-cookie', cookie('login', await seal(login, 600), 600)).redirect(303, url.href)
})

app.get('/auth/callback', async (req: Request, res: Response) => {
  const login = await open<{ state: string; verifier: string }>(req.headers.cookie, 'login')
  if (!login) return res.redirect(303, '/')
  const checks = { expectedState: login.state, pkceCodeVerifier: login.verifier, idTokenExpected: true }
  const tokens = await oidc.authorizationCodeGrant(await op(), new URL(req.originalUrl, APP_URL), checks)
  const { sub, sid, iat } = tokens.claims() as oidc.IDToken & { sid?: string }
  const session = { sub, ...(sid && { sid }), loggedInAt: iat, idToken: tokens.id_token }
  res.append('set-cookie', [cookie('login', '', 0), cookie('app', await seal(session, lifetime), lifetime)])
  return res.redirect(303, '/me')
})

app.get('/', async (req: Request, res: Response) => {
  const claims = await claimsIn(req.headers.cookie)
  const isSignedIn = claims !== undefined && !(await logouts.isLoggedOut(claims))
  const next = isSignedIn
    ? '<form method="post" action="/logout"><button>Sign out</button></form>'
    : '<a href="/login">Sign in</a>'
  res.send(
    `<!doctype html><script type="module" src="/auth/session-monitor.js" data-on-ended="reload"></script>${next}`,
  )
})

app.get('/me', async (req: Request, res: Response) => {
  const claims = await claimsIn(req.headers.cookie)
  if (!claims || (await logouts.isLoggedOut(claims))) return res.redirect(303, '/login')
  return res.json({ hello: claims.sub })
})

app.post('/logout', async (req: Request, res: Response) => {
  if (req.headers.origin !== APP_URL) return res.status(403).end()
  const session = await open<Session>(req.headers.cookie, 'app')
  const endpoint = (await op()).serverMetadata().end_session_endpoint
  res.append('set-cookie', cookie('app', '', 0))
  if (endpoint === undefined) return res.redirect(303, '/auth/logged-out')
  const fields = {
    client_id: CLIENT_ID,
    post_logout_redirect_uri: `${APP_URL}/auth/logged-out`,
    ...(session && { id_token_hint: session.idToken }),
  }
  return res.set('cache-control', 'no-store').send(postingPage(endpoint, fields))
})

/** Takes the browser there by POST, so that the ID Token stays out of URLs and logs. */
function postingPage(url: string, fields: Readonly<Record<string, string>>): string {
  const inputs = Object.entries(fields).map(
    ([name, value]) => `<input type="hidden" name="${name}" value="${inHtml(value)}">`,
  )
  const form = `<form method="post" action="${inHtml(url)}">${inputs.join('')}<button>Continue</button></form>`
  return `<!doctype html>${form}<script>document.forms[0].submit()</script>`
}

function inHtml(text: string): string {
  return text.replaceAll(/[&<>"']/g, (character) => `&#${character.codePointAt(0)};`)
}

app.get('/auth/logged-out', (_req: Request, res: Response) => {
  res.send('<!doctype html><p>Signed out. <a href="/login">Sign in</a></p>')
})

const server = app.listen(Number(PORT), '127.0.0.1', () => console.log('listening', server.address()))
process.on('SIGTERM', async () => {
  await logouts.close()
  server.close()
})
