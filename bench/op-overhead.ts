import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { Agent, request } from 'undici'
import { type BenchOptions, type Figure, quantile, type Report, reportOf } from './report.ts'

/** An OP in a process of its own. */
interface LoadedOp {
  readonly issuer: string
  readonly agent: Agent
  /** Milliseconds of CPU its process has used. */
  cpu(): Promise<number>
  stop(): Promise<void>
}

/** One kind of request; `prepare` makes what it needs and is not measured. */
interface Flow {
  readonly id: string
  /** True when it reads or writes an OP session. */
  readonly touchesSession: boolean
  readonly requests: number
  prepare(op: LoadedOp): Promise<(index: number) => Promise<void>>
}

/**
 * Rounds are short, so that what else the machine does hits both sides of a ratio alike, and long enough that a collection of
 * garbage in one of them is no tenth of it: about a tenth of a second of CPU.
 */
const ROUNDS = 31
const SHORT_ROUNDS = 1
const CONCURRENCY = 4
const BROWSERS = 8

/**
 * CPU per request of oidc-provider's own flows, with Lockstep and without.
 *
 * The peer is the same oidc-provider with the same configuration and an adapter on SQLite that is as durable as Lockstep's
 * store: the choice an operator of one node has. Its default adapter keeps everything in memory and is no such choice. Both
 * sign by ES256, since RSA's cost would hide the difference. Each round runs each flow on both, in turns; a
 * ratio is taken within its round.
 */
export async function opOverhead({ short }: BenchOptions): Promise<Report> {
  const loadBefore = loadavg()[0] ?? 0
  const folder = mkdtempSync(join(tmpdir(), 'lockstep-bench-'))
  const [ours, peer] = await Promise.all([start('ours', folder), start('stock', folder)])
  try {
    const figures: Figure[] = []
    for (const flow of flows) figures.push(await compare(flow, ours, peer, short ? SHORT_ROUNDS : ROUNDS))
    return reportOf('op-overhead', figures, loadBefore)
  } finally {
    await Promise.all([ours.stop(), peer.stop()])
    rmSync(folder, { recursive: true, force: true })
  }
}

async function compare(flow: Flow, ours: LoadedOp, peer: LoadedOp, count: number): Promise<Figure> {
  const [runOurs, runPeer] = [await flow.prepare(ours), await flow.prepare(peer)]
  const rounds: { ours: number; peer: number }[] = []
  for (let round = -2; round < count; round++) {
    const sides = [
      async () => ({ ours: await measure(flow, ours, runOurs) }),
      async () => ({ peer: await measure(flow, peer, runPeer) }),
    ]
    const found = { ours: 0, peer: 0 }
    for (const side of round % 2 === 0 ? sides : sides.toReversed()) Object.assign(found, await side())
    if (round >= 0) rounds.push(found) // the first two warm up
  }
  const ratios = rounds.map((found) => found.ours / found.peer)
  const ratio = quantile(ratios, 0.5)
  const goal = flow.touchesSession ? null : 1.05
  return {
    id: flow.id,
    unit: 'ms CPU',
    ours: quantile(
      rounds.map((found) => found.ours),
      0.5,
    ),
    peer: quantile(
      rounds.map((found) => found.peer),
      0.5,
    ),
    limit: null,
    ratioToPeer: ratio,
    ratioToLimit: null,
    spread: [quantile(ratios, 0.25), quantile(ratios, 0.75)],
    goal,
    met: goal === null ? null : ratio <= goal,
  }
}

async function measure({ requests }: Flow, op: LoadedOp, run: (index: number) => Promise<void>): Promise<number> {
  const before = await op.cpu()
  let next = 0
  const worker = async (): Promise<void> => {
    while (next < requests) await run(next++)
  }
  await Promise.all(Array.from({ length: CONCURRENCY }, worker))
  return ((await op.cpu()) - before) / requests
}

const flows: readonly Flow[] = [
  {
    id: 'discovery',
    touchesSession: false,
    requests: 800,
    prepare: async (op) => async () => {
      await ask(op, '/.well-known/openid-configuration', 200)
    },
  },
  {
    id: 'client_credentials',
    touchesSession: false,
    requests: 240,
    prepare: async (op) => async () => {
      await tokens(op, { grant_type: 'client_credentials' })
    },
  },
  {
    id: 'refresh, offline_access',
    touchesSession: false,
    requests: 150,
    prepare: (op) => refreshing(op, { scope: 'openid offline_access', prompt: 'consent' }),
  },
  {
    id: 'refresh, bound to the OP session',
    touchesSession: true,
    requests: 100,
    prepare: (op) => refreshing(op, { scope: 'openid' }),
  },
  {
    id: 'code flow, signed in (authorization and token request)',
    touchesSession: true,
    requests: 30,
    prepare: async (op) => {
      const jars = await Promise.all(Array.from({ length: BROWSERS }, () => signedIn(op)))
      return async (index) => {
        const code = await authorize(op, jars[index % BROWSERS] ?? new Map(), { scope: 'openid', prompt: 'none' })
        await redeem(op, code)
      }
    },
  },
  {
    id: 'code flow, new login (5 requests)',
    touchesSession: true,
    requests: 16,
    prepare: async (op) => async () => {
      await redeem(op, await authorize(op, new Map(), { scope: 'openid' }))
    },
  },
]

type Jar = Map<string, string>

async function signedIn(op: LoadedOp): Promise<Jar> {
  const jar: Jar = new Map()
  await authorize(op, jar, { scope: 'openid' })
  return jar
}

async function refreshing(op: LoadedOp, params: Record<string, string>): Promise<() => Promise<void>> {
  const { refresh_token = '' } = await redeem(op, await authorize(op, new Map(), params))
  return async () => {
    await tokens(op, { grant_type: 'refresh_token', refresh_token })
  }
}

/** Goes through the OP like a browser, interaction included, until there is a code. */
async function authorize(op: LoadedOp, jar: Jar, params: Record<string, string>): Promise<string> {
  const query = { client_id: 'app', response_type: 'code', redirect_uri: 'https://app.example/cb', ...params }
  let path = `/auth?${new URLSearchParams(query)}`
  for (let hop = 0; hop < 10; hop++) {
    const cookie = [...jar].map(([name, value]) => `${name}=${value}`).join('; ')
    const { headers } = await ask(op, path, 303, { headers: { cookie } })
    for (const line of [headers['set-cookie'] ?? []].flat()) {
      const [, name = '', value = ''] = /^([^=]+)=([^;]*)/.exec(line) ?? []
      if (value === '') jar.delete(name)
      else jar.set(name, value)
    }
    const location = new URL(String(headers.location), op.issuer)
    if (location.origin !== op.issuer) {
      const code = location.searchParams.get('code')
      if (code === null) throw new Error(`the OP answered ${location.search}`)
      return code
    }
    path = location.pathname + location.search
  }
  throw new Error('too many redirects')
}

function redeem(op: LoadedOp, code: string): Promise<{ refresh_token?: string }> {
  return tokens(op, { grant_type: 'authorization_code', code, redirect_uri: 'https://app.example/cb' })
}

async function tokens(op: LoadedOp, params: Record<string, string>): Promise<{ refresh_token?: string }> {
  const body = new URLSearchParams({ client_id: 'app', client_secret: 'a secret for the bench', ...params }).toString()
  const headers = { 'content-type': 'application/x-www-form-urlencoded' }
  return JSON.parse((await ask(op, '/token', 200, { method: 'POST', headers, body })).text) as {
    refresh_token?: string
  }
}

async function ask(
  op: LoadedOp,
  path: string,
  expected: number,
  init: { method?: 'POST'; headers?: Record<string, string>; body?: string } = {},
): Promise<{ headers: Readonly<Record<string, string | string[] | undefined>>; text: string }> {
  const { statusCode, headers, body } = await request(op.issuer + path, { dispatcher: op.agent, ...init })
  const text = await body.text()
  if (statusCode !== expected) throw new Error(`${path.split('?')[0]} answered ${statusCode}: ${text.slice(0, 300)}`)
  return { headers, text }
}

async function start(kind: 'ours' | 'stock', folder: string): Promise<LoadedOp> {
  const child = fork(join(import.meta.dirname, 'op-under-load.ts'), [kind, folder], {
    execArgv: ['-C', '@lockstep/source'],
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  })
  const { issuer } = (await answerOf(child)) as { issuer: string }
  const agent = new Agent({
    connections: CONCURRENCY,
    connect: { lookup: (_host, _options, found) => found(null, [{ address: '127.0.0.1', family: 4 }]) },
  })
  return {
    issuer,
    agent,
    async cpu() {
      const answer = answerOf(child)
      child.send('cpu')
      return ((await answer) as { cpu: number }).cpu
    },
    async stop() {
      await agent.close()
      const gone = once(child, 'exit')
      child.disconnect()
      await gone
    },
  }
}

function answerOf(child: ChildProcess): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const gone = (code: number | null): void => reject(new Error(`the OP's process ended with code ${code}`))
    child.once('exit', gone)
    child.once('message', (message) => {
      child.off('exit', gone)
      resolve(message)
    })
  })
}
