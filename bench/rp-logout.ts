import { loadavg } from 'node:os'
import { Redis } from 'ioredis'
import { Agent, request } from 'undici'
import { startRedis } from '../test/support/redis.ts'
import { startAsked } from './asked-process.ts'
import { type Alg, type OpForRps, startOpForRps } from './op-for-rps.ts'
import { type BenchOptions, type Figure, quantile, type Report, reportOf } from './report.ts'
import type { RpPorts, RpProcess, Side } from './rp-under-load.ts'
import { scaleFigures, sizesOf } from './scale.ts'

/** RPs in a process of their own. */
interface LoadedRp {
  readonly ports: Readonly<Record<Alg, RpPorts>>
  /** Opens RP sessions for these sids. */
  open(sids: readonly string[], alg: Alg): Promise<void>
  /** Milliseconds of CPU its process has used. */
  cpu(): Promise<number>
  stop(): Promise<void>
}

type Kind = 'memory' | 'redis'

/** The sides of one comparison, the bare ones among them. */
type Sides = Readonly<Record<Side, LoadedRp>>

const CONCURRENCY = 64
const agent = new Agent({ connections: CONCURRENCY, pipelining: 1 })

/**
 * Back-channel logouts per CPU-second of the RP's process, beside express-openid-connect, and beside a server that reads
 * the form, verifies the signature and answers.
 *
 * Ours ends an RP session with each token; express-openid-connect, whose sessions are in its cookies, notes that there was a
 * logout. Each runs as its users run it: ours on node:http and, in a line of its own, on Express 5; the peer on Express 5.
 * Each round sends the same fresh tokens to all, in turns; a ratio is taken within its round.
 *
 * What is alike: each side is a process of its own and only its CPU counts, all threads; the same client sends the same bodies
 * over the same 64 kept-alive connections. What is not: ours does more (it finds and ends an RP session, indexes and all,
 * remembers the `jti`, the peer writes two entries), and the limit has neither store nor checks, in memory or in Redis.
 * The same bare server with jose shows, without a goal, what the library costs that ours and the peer verify with. A million RP sessions take minutes to make, and are measured with `--big`.
 */
export async function rpLogout({ short, big }: BenchOptions): Promise<Report> {
  const loadBefore = loadavg()[0] ?? 0
  const size = short ? { warmUps: 0, rounds: 1, requests: 20 } : { warmUps: 10, rounds: 6, requests: 1_200 }
  const op = await startOpForRps()
  const redis = await startRedis()
  const start = (side: Side, kind: Kind): Promise<LoadedRp> =>
    startRp({ side, redis: kind === 'redis' ? redis.port : null, issuer: op.issuer })
  const bare = { limit: await start('limit', 'memory'), library: await start('library', 'memory') }
  const memory: Sides = { ours: await start('ours', 'memory'), peer: await start('peer', 'memory'), ...bare }
  const shared: Sides = { ours: await start('ours', 'redis'), peer: await start('peer', 'redis'), ...bare }
  try {
    const figures: Figure[] = []
    for (const [kind, sides] of [
      ['memory', memory],
      ['redis', shared],
    ] as const) {
      for (const alg of ['RS256', 'ES256'] as const) figures.push(...(await compareLogouts(op, kind, alg, sides, size)))
    }
    figures.push(await compareOnExpress(op, memory, size))
    for (const [kind, sides] of [
      ['memory', memory],
      ['redis', shared],
    ] as const) {
      figures.push(await compareRequests(op, kind, sides, size))
    }
    figures.push(await roundTrips(op, shared, redis.port))
    for (const kind of ['memory', 'redis'] as const) {
      figures.push(...(await scaleFigures(kind, sizesOf(short).slice(0, big ? 3 : 2), ['find', 'end by sid'])))
    }
    return reportOf('rp-logout', figures, loadBefore)
  } finally {
    await Promise.all([...Object.values(memory), shared.ours, shared.peer].map((rp) => rp.stop()))
    await Promise.all([op.close(), agent.close()])
    await redis.close()
  }
}

interface Size {
  readonly warmUps: number
  readonly rounds: number
  readonly requests: number
}

type Round<Name extends Side = 'ours' | 'peer' | 'limit'> = Readonly<Record<Name, number>>

async function compareLogouts(op: OpForRps, kind: Kind, alg: Alg, sides: Sides, size: Size): Promise<Figure[]> {
  const rounds = await inTurns(
    size,
    ['ours', 'peer', 'library', 'limit'],
    async (side, tokens) => {
      const { logout, logoutPath } = sides[side].ports[alg]
      return size.requests / (await cpuSecondsOf(sides[side], postAll(logout, logoutPath, tokens)))
    },
    () => freshTokens(op, alg, Object.values(sides), size.requests),
  )
  const id = `logouts, ${alg}, ${kind}`
  const figure = figureOf(id, 'per CPU-second', rounds, (round) => round.ours / round.peer)
  const shareOf = (what: string, of: readonly Round[]): Figure => ({
    ...figureOf(`${id}: share of ${what}`, 'per CPU-second', of, (round) => round.ours / round.limit),
    peer: null,
    ratioToPeer: null,
  })
  const share = shareOf('the limit', rounds)
  const besideLibrary = rounds.map((round) => ({ ...round, limit: round.library }))
  return [
    { ...figure, limit: null, ratioToLimit: null, goal: 3, goalIs: 'at least', met: (figure.ratioToPeer ?? 0) >= 3 },
    { ...share, goal: 0.5, goalIs: 'at least', met: (share.ratioToLimit ?? 0) >= 0.5 },
    shareOf('a bare server with jose', besideLibrary),
  ]
}

const threeSides = ['ours', 'peer', 'limit'] as const

/** The same on the peer's own framework. */
async function compareOnExpress(op: OpForRps, sides: Sides, size: Size): Promise<Figure> {
  const rounds = await inTurns(
    size,
    threeSides,
    async (side, tokens) => {
      const { app, logout, logoutPath } = sides[side].ports.RS256
      const port = side === 'ours' ? app : logout
      return size.requests / (await cpuSecondsOf(sides[side], postAll(port, logoutPath, tokens)))
    },
    () => freshTokens(op, 'RS256', Object.values(sides), size.requests),
  )
  return figureOf(
    'logouts, RS256, memory, ours on Express too',
    'per CPU-second',
    rounds,
    (round) => round.ours / round.peer,
  )
}

/** What an authenticated request of the app costs; the limit is the same Express route without any login. */
async function compareRequests(op: OpForRps, kind: Kind, sides: Sides, size: Size): Promise<Figure> {
  const cookies: Readonly<Record<keyof Round, string>> = {
    ours: await logIn(op, sides.ours.ports.RS256),
    peer: await logIn(op, sides.peer.ports.RS256),
    limit: '',
  }
  const rounds = await inTurns(
    size,
    threeSides,
    async (side) => {
      const url = `http://127.0.0.1:${sides[side].ports.RS256.app}/me`
      const ask = async (): Promise<void> => {
        const { statusCode, body } = await request(url, { dispatcher: agent, headers: { cookie: cookies[side] } })
        if (statusCode !== 200 || !(await body.text()).startsWith('Hello'))
          throw new Error(`${side} answered ${statusCode}`)
      }
      return ((await cpuSecondsOf(sides[side], times(size.requests, ask))) / size.requests) * 1e6
    },
    async () => [],
  )
  return figureOf(`authenticated request, ${kind}`, 'us CPU', rounds, (round) => round.ours / round.peer)
}

/** Commands that reach Redis for one logout; what a script does inside the server is no round trip. */
async function roundTrips(op: OpForRps, sides: Sides, port: number): Promise<Figure> {
  const marker = new Redis({ host: '127.0.0.1', port })
  const monitor = await marker.monitor() // a connection of its own
  const counts = { ours: 0, peer: 0 }
  let counted: 'ours' | 'peer' = 'ours'
  let marked = Promise.withResolvers<void>()
  monitor.on('monitor', (_time: string, args: string[], source: string) => {
    if (args[0]?.toLowerCase() === 'echo') marked.resolve()
    else if (source !== 'lua') counts[counted] += 1
  })
  const sample = 20
  for (counted of ['ours', 'peer'] as const) {
    const tokens = await freshTokens(op, 'RS256', [sides[counted]], sample)
    marked = Promise.withResolvers()
    await marker.echo('begin')
    await marked.promise
    counts[counted] = 0
    marked = Promise.withResolvers()
    const { logout, logoutPath } = sides[counted].ports.RS256
    await postAll(logout, logoutPath, tokens)()
    await marker.echo('end')
    await marked.promise
  }
  monitor.disconnect()
  marker.disconnect()
  const [ours, peer] = [counts.ours / sample, counts.peer / sample]
  const ratios = { ratioToPeer: ours / peer, ratioToLimit: ours, spread: null }
  return {
    id: 'round trips to Redis per logout',
    unit: 'commands',
    ours,
    peer,
    limit: 1,
    ...ratios,
    goal: 1,
    met: ours === 1,
  }
}

/** Measures all sides in turns, after rounds that warm up: code that is still being compiled costs double, and who has more of it more. */
async function inTurns<Name extends Side>(
  { warmUps, rounds }: Size,
  sides: readonly Name[],
  measure: (side: Name, tokens: readonly string[]) => Promise<number>,
  prepare: () => Promise<readonly string[]>,
): Promise<Round<Name>[]> {
  const found: Round<Name>[] = []
  for (let round = -warmUps; round < rounds; round++) {
    const tokens = await prepare()
    const values: Partial<Record<Name, number>> = {}
    for (const side of round % 2 === 0 ? sides : sides.toReversed()) values[side] = await measure(side, tokens)
    if (round >= 0) found.push(values as Round<Name>)
  }
  return found
}

function figureOf(id: string, unit: string, rounds: readonly Round[], ratioOf: (round: Round) => number): Figure {
  const median = (of: (round: Round) => number): number => quantile(rounds.map(of), 0.5)
  return {
    id,
    unit,
    ours: median((round) => round.ours),
    peer: median((round) => round.peer),
    limit: median((round) => round.limit),
    ratioToPeer: median((round) => round.ours / round.peer),
    ratioToLimit: median((round) => round.ours / round.limit),
    spread: [quantile(rounds.map(ratioOf), 0.25), quantile(rounds.map(ratioOf), 0.75)],
    goal: null,
    met: null,
  }
}

async function cpuSecondsOf(rp: LoadedRp, work: () => Promise<void>): Promise<number> {
  const before = await rp.cpu()
  await work()
  return ((await rp.cpu()) - before) / 1000
}

/** Tokens whose RP sessions are open at each RP that keeps any. */
async function freshTokens(
  op: OpForRps,
  alg: Alg,
  rps: readonly LoadedRp[],
  count: number,
): Promise<readonly string[]> {
  const sids = Array.from({ length: count }, () => crypto.randomUUID())
  for (const rp of rps) await rp.open(sids, alg)
  return Promise.all(sids.map((sid) => op.logoutToken(sid, alg)))
}

function postAll(port: number, path: string, tokens: readonly string[]): () => Promise<void> {
  const headers = { 'content-type': 'application/x-www-form-urlencoded' }
  return times(tokens.length, async (index) => {
    const options = { dispatcher: agent, method: 'POST', headers, body: `logout_token=${tokens[index]}` } as const
    const answer = await request(`http://127.0.0.1:${port}${path}`, options)
    const text = await answer.body.text()
    const ended = answer.headers['logout-sessions-ended'] ?? '1'
    if (answer.statusCode >= 300 || ended !== '1')
      throw new Error(`a logout was answered ${answer.statusCode}: ${text}`)
  })
}

/** Runs `one` that often, a fixed number at a time. */
function times(count: number, one: (index: number) => Promise<void>): () => Promise<void> {
  return async () => {
    let next = 0
    const worker = async (): Promise<void> => {
      while (next < count) await one(next++)
    }
    await Promise.all(Array.from({ length: CONCURRENCY }, worker))
  }
}

/** Logs in as a browser would. @returns the `Cookie` header of those who are signed in */
async function logIn(op: OpForRps, { app, loginPath }: RpPorts): Promise<string> {
  const jar = new Map<string, string>()
  const visit = async (path: string): Promise<string> => {
    const cookie = [...jar].map(([name, value]) => `${name}=${value}`).join('; ')
    const answer = await request(`http://127.0.0.1:${app}${path}`, { dispatcher: agent, headers: { cookie } })
    await answer.body.dump()
    for (const line of [answer.headers['set-cookie'] ?? []].flat()) {
      const [, name = '', value = ''] = /^([^=]+)=([^;]*)/.exec(line) ?? []
      jar.set(name, value)
    }
    return String(answer.headers.location)
  }
  const back = new URL(op.logIn(await visit(loginPath), 'RS256'))
  await visit(back.pathname + back.search)
  return [...jar].map(([name, value]) => `${name}=${value}`).join('; ')
}

async function startRp(settings: RpProcess): Promise<LoadedRp> {
  const { greeting, ask, stop } = await startAsked<object | 'cpu'>('rp-under-load.ts', [JSON.stringify(settings)])
  return {
    ports: greeting as LoadedRp['ports'],
    open: async (sids, alg) => void (await ask({ sids, alg })),
    cpu: async () => (await ask('cpu')) as number,
    stop,
  }
}
