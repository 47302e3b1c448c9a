/* A process with RPs in it, ours or express-openid-connect's, or with what no RP can be faster than; it says how much CPU
   it has used. Started by rp-logout.ts. */
import { createPublicKey, type JsonWebKey, verify } from 'node:crypto'
import { createServer, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import express from 'express'
import expressOpenidConnect from 'express-openid-connect'
import { Redis } from 'ioredis'
import { compactVerify, createRemoteJWKSet } from 'jose'
import { createRelyingParty, type RpStore, type StoredRpSession } from 'lockstep/rp'
import { auth, requireLogin } from 'lockstep/rp/express'
import { memoryStore } from 'lockstep/rp/memory'
import { auth as nodeAuth } from 'lockstep/rp/node'
import { redisStore } from 'lockstep/rp/redis'
import { type Alg, CLIENT_ID, CLIENT_SECRET } from './op-for-rps.ts'

/** Whose RPs; `limit` and `library` are bare servers that verify with node:crypto and with jose. */
export type Side = 'ours' | 'peer' | 'limit' | 'library'

/** What rp-logout.ts says when it starts such a process. */
export interface RpProcess {
  readonly side: Side
  /** Port of a Redis server; without it everything is kept in memory. */
  readonly redis: number | null
  readonly issuer: string
}

/** Ports to load, by what is there. */
export interface RpPorts {
  /** Takes Logout Tokens at `logoutPath`. */
  readonly logout: number
  readonly logoutPath: string
  /** An Express app with `/me` for those who are signed in, and its own logout endpoint at the same path. */
  readonly app: number
  readonly loginPath: string
}

const { side, redis, issuer } = JSON.parse(process.argv[2] ?? '{}') as RpProcess
const algs: readonly Alg[] = ['RS256', 'ES256']
const stores: RpStore[] = []

const build: Readonly<Record<Side, (alg: Alg) => Promise<RpPorts>>> = {
  ours,
  peer,
  limit: async (alg) => bare(await withNodeCrypto(alg)),
  library: async (alg) => bare(withJose(alg)),
}

async function ours(alg: Alg): Promise<RpPorts> {
  const app = express()
  const { port } = await listen(app)
  const store = redis === null ? memoryStore() : redisStore({ host: '127.0.0.1', port: redis })
  stores.push(store)
  const rp = createRelyingParty({
    issuer,
    clientId: CLIENT_ID,
    clientSecret: CLIENT_SECRET,
    appUrl: `http://localhost:${port}`,
    store,
    idTokenSignedResponseAlg: alg,
    mapSession: (claims) => ({ name: claims.sub }),
    log: () => {},
  })
  app.use(auth(rp))
  app.get('/me', requireLogin(rp), (req, res) => res.send(`Hello ${req.rpSession.data.name}`))
  const bare = nodeAuth(rp)
  const logout = await listen(async (req, res) => {
    if (!(await bare(req, res))) res.writeHead(404).end()
  })
  return { logout: logout.port, logoutPath: '/auth/backchannel-logout', app: port, loginPath: '/auth/login' }
}

async function peer(alg: Alg): Promise<RpPorts> {
  const app = express()
  const { port } = await listen(app)
  const config = {
    issuerBaseURL: issuer,
    baseURL: `http://localhost:${port}`,
    clientID: CLIENT_ID,
    clientSecret: CLIENT_SECRET,
    secret: 'the secret of its cookies, long enough',
    authRequired: false,
    idTokenSigningAlg: alg,
    authorizationParams: { response_type: 'code', scope: 'openid' },
    backchannelLogout: { store: redis === null ? inMemory() : inRedis(redis) },
  }
  app.use(expressOpenidConnect.auth(config as Parameters<typeof expressOpenidConnect.auth>[0]))
  app.get('/me', expressOpenidConnect.requiresAuth(), (req, res) => void res.send(`Hello ${req.oidc.user?.sub}`))
  return { logout: port, logoutPath: '/backchannel-logout', app: port, loginPath: '/login' }
}

type Done = (error?: unknown, entry?: unknown) => void

/** The smallest store it takes: less work than any that is published. */
function inMemory() {
  const entries = new Map<string, unknown>()
  return {
    get: (id: string, done: Done) => done(null, entries.get(id)),
    set(id: string, entry: unknown, done?: Done) {
      entries.set(id, entry)
      done?.()
    },
    destroy(id: string, done?: Done) {
      entries.delete(id)
      done?.()
    },
  }
}

/** As connect-redis does: one command each, JSON, with the entry's own lifetime. */
function inRedis(port: number) {
  const client = new Redis({ host: '127.0.0.1', port })
  const answer = (asked: Promise<unknown>, done?: Done): void => {
    asked.then(
      (value) => done?.(null, typeof value === 'string' && value.startsWith('{') ? JSON.parse(value) : undefined),
      (error: unknown) => done?.(error),
    )
  }
  return {
    get: (id: string, done: Done) => answer(client.get(`sess:${id}`), done),
    set: (id: string, entry: { cookie: { maxAge: number } }, done?: Done) =>
      answer(client.set(`sess:${id}`, JSON.stringify(entry), 'PX', entry.cookie.maxAge), done),
    destroy: (id: string, done?: Done) => answer(client.del(`sess:${id}`), done),
  }
}

/** Says whether the OP signed it. */
type Verify = (token: string) => boolean | Promise<boolean>

/** Reads the form, verifies the signature, answers: HTTP and cryptography, and nothing else. */
async function bare(isSigned: Verify): Promise<RpPorts> {
  const app = express()
  app.get('/me', (_req, res) => void res.send('Hello ada'))
  const logout = await listen((req, res) => {
    const chunks: Buffer[] = []
    req.on('data', (chunk: Buffer) => chunks.push(chunk))
    req.on('end', async () => {
      const token = new URLSearchParams(Buffer.concat(chunks).toString()).get('logout_token') ?? ''
      res.statusCode = (await isSigned(token)) ? 200 : 400
      res.end()
    })
  })
  return { logout: logout.port, logoutPath: '/', app: (await listen(app)).port, loginPath: '' }
}

/** In this thread, with the key at hand: nothing is faster. */
async function withNodeCrypto(alg: Alg): Promise<Verify> {
  const { keys } = (await (await fetch(`${issuer}/jwks`)).json()) as { keys: (JsonWebKey & { alg: Alg })[] }
  const key = createPublicKey({ key: keys.find((one) => one.alg === alg) as JsonWebKey, format: 'jwk' })
  const input = { key, ...(alg === 'ES256' ? { dsaEncoding: 'ieee-p1363' as const } : {}) }
  return (token) => {
    const end = token.lastIndexOf('.')
    const signature = Buffer.from(token.slice(end + 1), 'base64url')
    return verify('sha256', Buffer.from(token.slice(0, end)), input, signature)
  }
}

/** As RPs do. */
function withJose(alg: Alg): Verify {
  const keys = createRemoteJWKSet(new URL(`${issuer}/jwks`))
  return (token) =>
    compactVerify(token, keys, { algorithms: [alg] }).then(
      () => true,
      () => false,
    )
}

async function listen(listener: RequestListener): Promise<{ server: Server; port: number }> {
  const server = createServer(listener)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return { server, port: (server.address() as AddressInfo).port }
}

/** Opens RP sessions for these sids, in the store of each algorithm's RP. */
async function open(sids: readonly string[], alg: Alg): Promise<void> {
  const store = stores[algs.indexOf(alg)]
  if (!store) return // the others keep no RP sessions
  const rp = store.forClient({ issuer, clientId: CLIENT_ID }, { now: () => Date.now() })
  const requestedAt = await rp.now()
  const at = Math.floor(Date.now() / 1000)
  const life = { firstIat: at, createdAt: at, requestedAt, idleExpiresAt: at + 3600, expiresAt: at + 86_400 }
  for (const sid of sids) {
    const names = { handle: `handle of ${sid}`, publicId: `public ${sid}`, sid, sub: `sub of ${sid}` }
    const session: StoredRpSession = { ...names, ...life, data: '{}', tokens: 'x'.repeat(500) }
    await rp.create(session)
  }
}

process.on('message', async (message: { sids: readonly string[]; alg: Alg } | 'cpu') => {
  if (message !== 'cpu') await open(message.sids, message.alg)
  const { user, system } = process.cpuUsage()
  process.send?.({ answer: (user + system) / 1000 })
})
process.on('disconnect', () => process.exit(0))
const [RS256, ES256] = await Promise.all(algs.map((alg) => build[side](alg)))
process.send?.({ answer: { RS256, ES256 } })
