/* A process with one OP in it, ours or stock, that ends OP sessions with many RPs. Started by fan-out.ts. */
import { createHash, randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import Sqlite from 'better-sqlite3'
import { importJWK, SignJWT } from 'jose'
import { type OpIssuerStore, type OpStore, openSecrets } from 'lockstep/op'
import { sqliteStore } from 'lockstep/op/sqlite'
import type { ClientMetadata, Configuration } from 'oidc-provider'
import { Agent, request } from 'undici'
import { startStockOp, startTestOp } from '../test/support/test-op.ts'
import { sqliteAdapter } from './sqlite-adapter.ts'

/** What an OP process is started with: JSON in the file that its first argument names. */
export interface FanOutOpParts {
  readonly kind: 'ours' | 'stock'
  readonly folder: string
  readonly clients: readonly ClientMetadata[]
}

/** What it is asked. */
export type OpOrder =
  /** Logs the account's one OP session in at these clients too, each with a grant. */
  | { readonly fill: { readonly accountId: string; readonly clientIds: readonly string[] } }
  /** Adds OP sessions of nobody in particular, three RPs each. */
  | { readonly crowd: { readonly count: number; readonly clientIds: readonly string[] } }
  /** Owes so many deliveries at once. */
  | { readonly owe: { readonly count: number; readonly clientIds: readonly string[] } }
  | { readonly endCrowd: true }
  /** How many RPs a second are told by a signature and a POST each and nothing else, one after the other or some at once. */
  | { readonly bare: { readonly alg: 'RS256' | 'ES256'; readonly urls: readonly string[]; readonly atOnce: number } }
  | 'commits'
  | 'crowdIsTold'
  | 'state'

/** A transaction that ended OP sessions: how long it took, and epoch milliseconds with their fraction when it was over. */
export interface Commit {
  readonly took: number
  readonly at: number
}

const { kind, folder, clients } = JSON.parse(readFileSync(process.argv[2] ?? '', 'utf8')) as FanOutOpParts
let commits: Commit[] = []
const epoch = (): number => performance.timeOrigin + performance.now()

const file = join(folder, `${kind}.db`)
const real = kind === 'ours' ? sqliteStore(file) : undefined
const op = await start()
const ours = real?.forIssuer(op.issuer, { now: Date.now, random: (length) => new Uint8Array(randomBytes(length)) })

async function start() {
  const options = {
    egress: { allow: ['127.0.0.0/8'] },
    sweep: { interval: 3600 },
  }
  if (real) return startTestOp({ clients, store: timed(real), options })
  const features = {
    devInteractions: { enabled: false },
    rpInitiatedLogout: {
      enabled: true,
      // its own page has a script that submits the form for "only here"
      logoutSource: (ctx: { body: unknown }, form: string) => {
        ctx.body = `<!doctype html><title>Sign out?</title>${form}`
      },
    },
    backchannelLogout: { enabled: true },
  }
  return startStockOp({ clients, adapter: sqliteAdapter(file), configuration: { features, fetch: withoutGuard } })
}

/** Stock oidc-provider hands over a dispatcher that refuses loopback; the bench's RPs are nowhere else. */
function withoutGuard(...[url, options]: Parameters<NonNullable<Configuration['fetch']>>): Promise<Response> {
  return fetch(url, { ...options, dispatcher: undefined } as RequestInit)
}

/** The same store, with the time that each end of an OP session takes. */
function timed(store: OpStore): OpStore {
  return {
    ...store,
    forIssuer(...of) {
      const inner = store.forIssuer(...of)
      const endOpSession: OpIssuerStore['endOpSession'] = async (...what) => {
        const from = performance.now()
        const ended = await inner.endOpSession(...what)
        commits.push({ took: performance.now() - from, at: epoch() })
        return ended
      }
      return { ...inner, endOpSession }
    },
  }
}

process.on('message', (order: OpOrder) => {
  void obey(order).then(
    (answer) => process.send?.({ answer }),
    (error: unknown) => process.send?.({ error: String(error) }),
  )
})
process.on('disconnect', () => process.exit(0))
process.send?.({ answer: op.issuer })

async function obey(order: OpOrder): Promise<unknown> {
  if (order === 'commits') {
    const found = commits
    commits = []
    return found
  }
  if (order === 'state') {
    const owed = real ? await count('SELECT count(*) AS n FROM delivery WHERE due_at IS NOT NULL') : 0
    return { rss: process.memoryUsage().rss, owed }
  }
  if (order === 'crowdIsTold') {
    return (
      (await count(
        'SELECT (SELECT count(*) FROM end_job WHERE due_at IS NOT NULL) + (SELECT count(*) FROM delivery WHERE due_at IS NOT NULL) AS n',
      )) === 0
    )
  }
  if ('fill' in order) return ours ? fillOurs(order.fill) : fillStock(order.fill)
  if ('bare' in order) return bare(order.bare)
  if (!ours) throw new Error('stock oidc-provider has no such thing')
  if ('crowd' in order) return crowd(ours, order.crowd)
  if ('owe' in order) return owe(ours, order.owe)
  const { provider } = op as Awaited<ReturnType<typeof startTestOp>>
  return provider.opSessions.endAll({ clientId: 'crowd' }, { cause: 'admin' })
}

async function count(sql: string): Promise<number> {
  const look = new Sqlite(file, { readonly: true })
  const found = look.prepare<[], { n: number }>(sql).get()?.n ?? Number.NaN
  look.close()
  return found
}

type Fill = Extract<OpOrder, { fill: unknown }>['fill']

/** Grants of one account for these clients: the first by oidc-provider, copies of its row for the others, since it is not them we measure. */
async function grantsFor(
  accountId: string,
  clientIds: readonly string[],
): Promise<readonly [clientId: string, grantId: string][]> {
  const [first, ...others] = clientIds
  if (first === undefined) return []
  const grant = new op.provider.Grant({ accountId, clientId: first })
  grant.addOIDCScope('openid')
  const grantId = await grant.save()
  const grants = others.map((clientId): [string, string] => [clientId, randomBytes(32).toString('base64url')])
  const db = new Sqlite(file)
  const row = db
    .prepare<[string, string], object>(
      `SELECT * FROM model WHERE kind = 'Grant'
       AND json_extract(payload, '$.accountId') = ? AND json_extract(payload, '$.clientId') = ?`,
    )
    .get(accountId, first)
  const text = JSON.stringify(row)
  const columns = Object.keys(row ?? {})
  const insert = db.prepare(`INSERT INTO model (${columns}) VALUES (${columns.map((column) => `@${column}`)})`)
  db.transaction(() => {
    for (const [clientId, id] of grants) {
      insert.run(
        JSON.parse(text.replaceAll(grantId, id).replaceAll(hashOf(grantId), hashOf(id)).replaceAll(first, clientId)),
      )
    }
  }).immediate()
  db.close()
  return [[first, grantId], ...grants]
}

/** What our store calls a grant by. */
function hashOf(id: string): string {
  return createHash('sha256').update(id).digest('base64url')
}

async function fillOurs({ accountId, clientIds }: Fill): Promise<void> {
  if (!ours) return
  const [session] = (await ours.listOpSessions({ accountId })).sessions
  if (!session) throw new Error(`${accountId} is not signed in`)
  const rps = (await grantsFor(accountId, clientIds)).map(([clientId, grantId]) => ({
    clientId,
    sid: randomBytes(16).toString('hex'),
    grantId,
    persistsLogout: false,
  }))
  await ours.saveOpSession({ ...session, rps: [...session.rps, ...rps], extend: false })
}

async function fillStock({ accountId, clientIds }: Fill): Promise<void> {
  const look = new Sqlite(file, { readonly: true })
  const found = look
    .prepare<[string], { uid: string }>(
      `SELECT uid FROM model WHERE kind = 'Session' AND json_extract(payload, '$.accountId') = ?`,
    )
    .get(accountId)
  look.close()
  const session = await op.provider.Session.findByUid(found?.uid ?? '')
  if (!session) throw new Error(`${accountId} is not signed in`)
  for (const [clientId, grantId] of await grantsFor(accountId, clientIds)) {
    session.authorizations ??= {}
    session.authorizations[clientId] = { sid: randomBytes(16).toString('hex'), grantId }
  }
  await session.save(3600)
}

async function crowd(
  store: OpIssuerStore,
  { count, clientIds }: Extract<OpOrder, { crowd: unknown }>['crowd'],
): Promise<void> {
  const expiresAt = Math.floor(Date.now() / 1000) + 86_400
  for (let i = 0; i < count; i++) {
    const rps = ['crowd', ...[0, 1].map((k) => clientIds[(i + k * 7) % clientIds.length] ?? '')].map((clientId) => ({
      clientId,
      sid: `crowd ${i} ${clientId}`,
      grantId: `crowd ${i} ${clientId}`,
      persistsLogout: false,
    }))
    const who = { uid: `crowd ${i}`, handle: `crowd ${i}`, accountId: `crowd ${i}` }
    await store.saveOpSession({ ...who, payload: {}, rps, expiresAt, extend: true })
  }
}

async function owe(
  store: OpIssuerStore,
  { count, clientIds }: Extract<OpOrder, { owe: unknown }>['owe'],
): Promise<void> {
  const expiresAt = Math.floor(Date.now() / 1000) + 86_400
  for (let from = 0; from < count; from += 1000) {
    const uid = `owe ${from}`
    const rps = Array.from({ length: Math.min(1000, count - from) }, (_, i) => ({
      clientId: clientIds[i % clientIds.length] ?? '',
      sid: `owe ${from + i}`,
    }))
    await store.saveOpSession({ uid, handle: uid, accountId: uid, payload: {}, rps: [], expiresAt, extend: true })
    await store.endOpSession(uid, { cause: 'admin' }, () => rps)
  }
}

const BACKCHANNEL_LOGOUT_EVENT = 'http://schemas.openid.net/event/backchannel-logout'

/** The keys and tokens of an OP, the HTTP client and the RPs of the fan-out, and nothing else: no store, no outbox. */
async function bare({ alg, urls, atOnce }: Extract<OpOrder, { bare: unknown }>['bare']): Promise<number> {
  const secrets = sqliteStore(':memory:')
  const { jwks } = await openSecrets(secrets, op.issuer)
  await secrets.close()
  const jwk = jwks.keys.find((key) => key.alg === alg)
  if (!jwk) throw new Error(`no ${alg} key`)
  const key = await importJWK(jwk, alg)
  const agent = new Agent() // has no connection yet, as the fan-out has none
  const headers = { 'content-type': 'application/x-www-form-urlencoded' }
  async function tell(url: string): Promise<void> {
    const token = await new SignJWT({ sid: 'x'.repeat(32), events: { [BACKCHANNEL_LOGOUT_EVENT]: {} } })
      .setProtectedHeader({ alg, typ: 'logout+jwt' })
      .setIssuer(op.issuer)
      .setIssuedAt()
      .setJti(randomBytes(16).toString('hex'))
      .sign(key)
    const body = new URLSearchParams({ logout_token: token }).toString()
    const answer = await request(url, { method: 'POST', headers, body, dispatcher: agent })
    await answer.body.dump()
  }
  const left = urls.values()
  const from = performance.now()
  const one = async (): Promise<void> => {
    for (const url of left) await tell(url)
  }
  await Promise.all(Array.from({ length: atOnce }, one))
  const took = performance.now() - from
  await agent.close()
  return (urls.length / took) * 1000
}
