import { mkdtempSync, rmSync } from 'node:fs'
import { loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import { setTimeout as wait } from 'node:timers/promises'
import { logIn, logoutUrl } from '../test/support/op-flow.ts'
import { createUserAgent } from '../test/support/user-agent.ts'
import { startAsked } from './asked-process.ts'
import { bulkFigures, memoryFigures } from './fan-out-bulk.ts'
import type { Commit } from './fan-out-op.ts'
import { type BenchOp, type BenchRps, clientsOf, figure, startOp } from './fan-out-parts.ts'
import type { Heard, RpHealth, RpsOrder } from './fan-out-rps.ts'
import { type BenchOptions, type Figure, quantile, type Report, reportOf } from './report.ts'

/** How one logout went; milliseconds. */
interface Logout {
  readonly commit: number
  readonly wait: number
  readonly share: number
  readonly drain: number
}

const algorithms = ['RS256', 'ES256'] as const
/** The attempts that the product has under way at once, by default. */
const concurrency = 128
/** What can be measured alone. */
export const fanOutParts = ['drain', 'sick', 'memory', 'bulk'] as const

/**
 * Ends OP sessions in which many RPs are logged in, with Lockstep and with stock oidc-provider on an adapter that is as
 * durable, in turns: what the user waits for, whether every RP is told, and how fast. Then what sick RPs, a million owed
 * deliveries and the end of a hundred thousand OP sessions cost (`--big`; without it, a part of that).
 */
export async function fanOut({ short, big, only }: BenchOptions): Promise<Report> {
  const loadBefore = loadavg()[0] ?? 0
  const folder = mkdtempSync(join(tmpdir(), 'lockstep-bench-'))
  const sizes = short ? [20] : [100, 1000]
  const most = Math.max(...sizes)
  const asked = await startAsked<RpsOrder>('fan-out-rps.ts', [])
  const { urls, refusing } = (await asked.ask({ start: most })) as { urls: string[]; refusing: number }
  const rps: BenchRps = { urls, refusing: `http://127.2.255.1:${refusing}/logout`, ask: asked.ask }
  const where = (name: string): string => mkdtempSync(join(folder, name))
  const parts: Readonly<Record<(typeof fanOutParts)[number], () => Promise<Figure[]>>> = {
    drain: () => drainFigures(where, rps, { short, sizes }),
    sick: async () => [await sickRps(where('sick-'), rps, { short })],
    memory: () => memoryFigures(where, rps, { short, big }),
    bulk: () => bulkFigures(where('bulk-'), rps, { short, big }),
  }
  try {
    const figures: Figure[] = []
    for (const name of fanOutParts) if (only === undefined || name === only) figures.push(...(await parts[name]()))
    return reportOf('fan-out', figures, loadBefore)
  } finally {
    await asked.stop()
    rmSync(folder, { recursive: true, force: true })
  }
}

/** Everything about one logout, with each algorithm and number of RPs. */
async function drainFigures(
  where: (name: string) => string,
  rps: BenchRps,
  { short, sizes }: { short: boolean; sizes: readonly number[] },
): Promise<Figure[]> {
  const rounds = short ? 1 : 5
  const figures: Figure[] = []
  for (const alg of algorithms) {
    const folder = where(`${alg}-`)
    const clients = clientsOf(rps.urls, alg)
    const ours = await startOp({ kind: 'ours', folder, clients })
    const stock = await startOp({ kind: 'stock', folder, clients })
    for (const size of sizes) figures.push(...(await compare({ alg, size, rounds }, ours, stock, rps)))
    await stock.stop()
    await ours.stop()
  }
  return figures
}

async function compare(
  { alg, size, rounds }: { alg: (typeof algorithms)[number]; size: number; rounds: number },
  ours: BenchOp,
  stock: BenchOp,
  rps: BenchRps,
): Promise<Figure[]> {
  const found: { ours: Logout; stock: Logout; limit: number; bare: number }[] = []
  const urls = rps.urls.slice(0, size)
  const bare = async (atOnce: number): Promise<number> => {
    await rps.ask('hang up')
    return (await ours.ask({ bare: { alg, urls, atOnce } })) as number
  }
  for (let round = -1; round < rounds; round++) {
    const sides = round % 2 === 0 ? [ours, stock] : [stock, ours]
    const [first, second] = [
      await logOutOnce(sides[0] as BenchOp, size, rps),
      await logOutOnce(sides[1] as BenchOp, size, rps),
    ]
    const limits = { limit: await bare(1), bare: await bare(concurrency) }
    await rps.ask('heard')
    const both = sides[0] === ours ? { ours: first, stock: second } : { ours: second, stock: first }
    if (round >= 0) found.push({ ...both, ...limits }) // the first warms up
  }
  const median = (of: (one: (typeof found)[number]) => number): number => quantile(found.map(of), 0.5)
  const quartiles = (of: (one: (typeof found)[number]) => number): [number, number] => [
    quantile(found.map(of), 0.25),
    quantile(found.map(of), 0.75),
  ]
  const id = (what: string): string => `${what}, ${size} RPs, ${alg}`
  const rate = (one: Logout): number => (size / one.drain) * 1000
  const commit = median((one) => one.ours.commit)
  const share = Math.min(...found.map((one) => one.ours.share))
  const toLimit = median((one) => rate(one.ours) / one.limit)
  return [
    {
      ...figure(id('commit the user waits for'), 'ms', commit),
      goal: size >= 1000 ? 50 : null,
      met: size >= 1000 ? commit <= 50 : null,
    },
    {
      ...figure(
        id('the whole wait'),
        'ms',
        median((one) => one.ours.wait),
      ),
      peer: median((one) => one.stock.wait),
      ratioToPeer: median((one) => one.ours.wait / one.stock.wait),
      spread: quartiles((one) => one.ours.wait / one.stock.wait),
    },
    {
      ...figure(id('RPs told'), 'share', share),
      peer: Math.min(...found.map((one) => one.stock.share)),
      goal: 1,
      goalIs: 'at least',
      met: share >= 1,
    },
    {
      ...figure(
        id('drain'),
        'POST/s',
        median((one) => rate(one.ours)),
      ),
      peer: median((one) => rate(one.stock) * one.stock.share),
      limit: median((one) => one.limit),
      ratioToPeer: median((one) => rate(one.ours) / (rate(one.stock) * one.stock.share)),
      ratioToLimit: toLimit,
      spread: quartiles((one) => rate(one.ours) / one.limit),
      goal: 0.6,
      goalIs: 'at least',
      met: toLimit >= 0.6,
    },
    {
      ...figure(
        id(`drain, beside ${concurrency} at once without an OP`),
        'POST/s',
        median((one) => rate(one.ours)),
      ),
      limit: median((one) => one.bare),
      ratioToLimit: median((one) => rate(one.ours) / one.bare),
      spread: quartiles((one) => rate(one.ours) / one.bare),
    },
  ]
}

let made = 0

/** Signs somebody in at so many RPs and out again by the browser. */
async function logOutOnce(op: BenchOp, size: number, rps: BenchRps): Promise<Logout> {
  const browser = createUserAgent()
  const accountId = `user ${++made}`
  const [first, ...others] = op.clients.slice(0, size)
  if (!first) throw new Error('there are no RPs')
  const { tokens } = await logIn(browser, op, first, { login_hint: accountId })
  await op.ask({ fill: { accountId, clientIds: others.map(({ client_id }) => client_id) } })
  await op.ask('commits')
  await rps.ask('heard')
  await rps.ask('hang up') // each logout opens its connections, as after some minutes without one

  const request = logoutUrl(op, {
    id_token_hint: tokens.id_token,
    post_logout_redirect_uri: first.post_logout_redirect_uris?.[0] ?? '',
  })
  // stock oidc-provider always asks; what is measured is the request that logs out
  const question = op.kind === 'stock' ? await browser.open(request) : undefined
  const from = performance.timeOrigin + performance.now()
  const page = question ? await browser.submit(question, { logout: 'yes' }) : await browser.open(request)
  const wait = performance.timeOrigin + performance.now() - from
  if (page.status !== 200 && page.status !== 404)
    throw new Error(`the logout was answered ${page.status}: ${page.body}`)
  const heard = await hearAll(op, size, rps)
  const [commit] = (await op.ask('commits')) as Commit[]
  await browser.close()
  const last = Math.max(...heard.map(([, at]) => at))
  return {
    commit: commit?.took ?? Number.NaN,
    wait,
    share: new Set(heard.map(([rp]) => rp)).size / size,
    drain: last - (commit?.at ?? from),
  }
}

/** What the RPs hear until all have heard, or until nothing more comes. */
async function hearAll(op: BenchOp, size: number, rps: BenchRps): Promise<Heard> {
  const all: [number, number][] = []
  const end = performance.now() + (op.kind === 'ours' ? 120_000 : 5_000) // stock tries once, in the request
  while (new Set(all.map(([rp]) => rp)).size < size && performance.now() < end) {
    for (const [rp, at] of (await rps.ask('heard')) as Heard) all.push([rp, at])
    await wait(20)
  }
  return all
}

/** What the healthy RPs' p99 is beside sick ones, in times of what it is without. */
async function sickRps(folder: string, rps: BenchRps, { short }: { short: boolean }): Promise<Figure> {
  const size = short ? 20 : 200
  const health = Object.fromEntries(
    Array.from({ length: size }, (_, i): [number, RpHealth] => {
      const nth = i % 20
      return [i, nth < 2 ? 'hangs' : nth < 4 ? 'refuses' : nth < 5 ? 'fails once' : 'well']
    }),
  )
  const wells = new Set(Array.from({ length: size }, (_, i) => i).filter((i) => health[i] === 'well'))
  const p99 = async (isSick: boolean, round: number): Promise<number> => {
    const urls = rps.urls.slice(0, size).map((url, i) => (isSick && health[i] === 'refuses' ? rps.refusing : url))
    const op = await startOp({ kind: 'ours', folder: join(folder), clients: clientsOf(urls, 'ES256') })
    await rps.ask({ sick: isSick ? health : {} })
    const waits: number[] = []
    for (let logout = 0; logout < (short ? 1 : 5); logout++) {
      const browser = createUserAgent()
      const accountId = `sick ${round} ${isSick} ${logout}`
      const [, , , , , first = op.clients[0]] = op.clients
      if (!first) throw new Error('there are no RPs')
      const { tokens } = await logIn(browser, op, first, { login_hint: accountId })
      const others = op.clients.filter((client) => client !== first).map(({ client_id }) => client_id)
      await op.ask({ fill: { accountId, clientIds: others } })
      await rps.ask('heard')
      await op.ask('commits')
      await browser.open(logoutUrl(op, { id_token_hint: tokens.id_token }))
      const told = new Map<number, number>()
      while ([...wells].some((rp) => !told.has(rp))) {
        for (const [rp, at] of (await rps.ask('heard')) as Heard) if (wells.has(rp)) told.set(rp, at)
        await wait(20)
      }
      const [commit] = (await op.ask('commits')) as Commit[]
      for (const at of told.values()) waits.push(at - (commit?.at ?? Number.NaN))
      await browser.close()
    }
    await rps.ask({ sick: {} })
    await op.stop()
    return quantile(waits, 0.99)
  }
  const found: { without: number; beside: number }[] = []
  for (let round = 0; round < (short ? 1 : 3); round++) {
    found.push({ without: await p99(false, round), beside: await p99(true, round) })
  }
  const ratios = found.map(({ without, beside }) => beside / without)
  const ratio = quantile(ratios, 0.5)
  return {
    ...figure(
      `p99 of the healthy, 10 % hang, 10 % refuse, 5 % fail, ${size} RPs`,
      'ms',
      quantile(
        found.map(({ beside }) => beside),
        0.5,
      ),
    ),
    limit: quantile(
      found.map(({ without }) => without),
      0.5,
    ),
    ratioToLimit: ratio,
    spread: [quantile(ratios, 0.25), quantile(ratios, 0.75)],
    goal: 1.2,
    met: ratio <= 1.2,
  }
}
