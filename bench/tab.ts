import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { gzipSync } from 'node:zlib'
import { build } from 'esbuild'
import { type BenchOptions, type Figure, quantile, type Report, reportOf } from './report.ts'
import { type BenchBrowser, openBrowser } from './tab-browsers.ts'
import { openScriptedTab, type ScriptedTab } from './tab-clients.ts'
import type { StageNews, StageQuestion } from './tab-stage.ts'

type Told = Extract<StageNews, { news: 'told' }>

/** The OP and the apps, in a process of their own. */
interface Stage {
  readonly urls: Extract<StageNews, { news: 'open' }>['urls']
  ask(question: Asked): Promise<number>
  /** The next `count` times that a browser's tab was told that it is signed out. */
  told(browser: string, count: number): Promise<Told[]>
  alive(browser: string): Promise<void>
  stop(): void
}

type Asked = StageQuestion extends infer Question ? (Question extends unknown ? Omit<Question, 'id'> : never) : never

interface Plan {
  /** How many tabs are open, and how many of them are signed out one after the other meanwhile. */
  readonly crowds: readonly { readonly tabs: number; readonly logouts: number }[]
  /** Logouts in each of the two real browsers. */
  readonly rounds: number
  /** Seconds of looking on while nothing happens: more than the 300 s between two questions of our monitor. */
  readonly idle: number
}

const FULL: Plan = {
  crowds: [
    { tabs: 1, logouts: 200 },
    { tabs: 100, logouts: 200 },
    { tabs: 1_000, logouts: 300 },
  ],
  rounds: 30,
  idle: 320,
}
const SHORT: Plan = { crowds: [{ tabs: 2, logouts: 2 }], rounds: 1, idle: 2 }

/** What p99 may be with 1,000 open tabs, in milliseconds, and a monitor in bytes. */
const LATENCY = 250
const SIZE = 3_000

/**
 * What a page pays for its monitor, and how soon it is signed out, beside oidc-client-ts with its own defaults.
 *
 * The peer polls the OP iframe of the same OP in a Chromium of its own, in a page that is looked at and may see the OP's
 * cookies: the best case there is for it. How many tabs are open changes nothing for it, so its figures
 * stand beside each of ours. Our many tabs are scripts that hold the stream a page would hold, each of an RP session of its own.
 */
export async function tab({ short }: BenchOptions): Promise<Report> {
  const loadBefore = loadavg()[0] ?? 0
  const plan = short ? SHORT : FULL
  const folder = mkdtempSync(join(tmpdir(), 'lockstep-bench-'))
  const stage = await openStage(folder)
  try {
    const sizes = await compareSizes(stage)
    const [ours, peer] = await Promise.all([
      realLatencies(stage, 'ours', `${stage.urls.notes}/auth/login?return_to=/tab`, plan.rounds),
      realLatencies(stage, 'peer', `${stage.urls.spa}/`, plan.rounds),
    ])
    // An idle page costs its own processes nothing more when others are busy.
    const [crowds, idle] = await Promise.all([signOutCrowds(stage, plan, peer), compareIdle(stage, plan.idle)])
    return reportOf('tab', [...sizes, ...percentiles('a real tab', ours, peer), ...crowds, ...idle], loadBefore)
  } finally {
    stage.stop()
    rmSync(folder, { recursive: true, force: true })
  }
}

async function compareSizes({ urls }: Stage): Promise<Figure[]> {
  const script = await fetch(`${urls.notes}/auth/session-monitor.js`)
  const served = gzipSync(await script.bytes(), { level: 9 }).length
  const spa = await sizeOf(`import { startSpaMonitor, promptNone } from 'lockstep/browser'; startSpaMonitor({
    ...globalThis.settings, silentCheck: promptNone(globalThis.settings) })`)
  const clientTs = await sizeOf(`import { UserManager } from 'oidc-client-ts'; new UserManager(globalThis.settings)`)
  const keycloak = await sizeOf(`import Keycloak from 'keycloak-js'; new Keycloak(globalThis.settings)`)
  const unit = 'B gzip'
  const limited = (ours: number) => ({ limit: SIZE, ratioToLimit: ours / SIZE, goal: 1, met: ours <= SIZE })
  return [
    { ...figure('size, beside oidc-client-ts', unit, served, clientTs), ...limited(served) },
    { ...figure('size, beside keycloak-js', unit, served, keycloak), ...limited(served) },
    figure('size without a backend, beside oidc-client-ts', unit, spa, clientTs),
    figure('size without a backend, beside keycloak-js', unit, spa, keycloak),
  ]
}

/** Bundled, minified and gzipped, as a page would load it. */
async function sizeOf(contents: string): Promise<number> {
  const { outputFiles } = await build({
    stdin: { contents, resolveDir: import.meta.dirname },
    bundle: true,
    minify: true,
    format: 'esm',
    target: 'es2022',
    conditions: ['@lockstep/source'],
    write: false,
  })
  return gzipSync(outputFiles[0]?.contents ?? '', { level: 9 }).length
}

async function signOutCrowds(stage: Stage, { crowds }: Plan, peer: readonly number[]): Promise<Figure[]> {
  const figures: Figure[] = []
  const tabs: ScriptedTab[] = []
  for (const crowd of crowds) {
    const found: number[] = []
    for (let done = 0; done < crowd.logouts; done++) {
      while (tabs.length < crowd.tabs) tabs.push(await openScriptedTab(stage.urls.notes))
      const [leaving] = tabs.splice(Math.floor(Math.random() * tabs.length), 1)
      if (!leaving) throw new Error('no tab is open')
      const at = await stage.ask({ ask: 'end', account: leaving.account })
      found.push((await leaving.ended) - at)
      leaving.close()
    }
    const [median, high] = percentiles(`${crowd.tabs} open tabs`, found, peer)
    if (!median || !high) throw new Error('no figure')
    const slowest = high.ours / LATENCY
    const limited = { limit: LATENCY, ratioToLimit: slowest, goal: 1, met: slowest <= 1 }
    figures.push(median, crowd.tabs === 1_000 ? { ...high, ...limited } : high)
  }
  const before = await stage.ask({ ask: 'cpu' })
  const seconds = crowds === FULL.crowds ? 60 : 1
  await wait(seconds * 1000)
  const perHour = (((await stage.ask({ ask: 'cpu' })) - before) / seconds) * 3_600
  figures.push(figure(`${tabs.length} idle tabs at OP and app`, 's CPU/h', perHour, null))
  for (const { close } of tabs) close()
  return figures
}

/** Another app in the same browser signs out, again and again. */
async function realLatencies(stage: Stage, name: string, url: string, rounds: number): Promise<number[]> {
  const browser = openBrowser(name, url)
  try {
    const told = await stage.told(name, rounds)
    if (told.some(({ visible }) => !visible)) throw new Error('the page was hidden, which slows a poll down')
    return told.map(({ ms }) => ms)
  } finally {
    await browser.close()
  }
}

function percentiles(what: string, ours: readonly number[], peer: readonly number[]): Figure[] {
  return [0.5, 0.99].map((share) =>
    figure(`signed out, ${what}, p${share * 100}`, 'ms', quantile(ours, share), quantile(peer, share)),
  )
}

async function compareIdle(stage: Stage, seconds: number): Promise<Figure[]> {
  const [ours, peer] = await Promise.all([
    idleCost(stage, 'ours idle', `${stage.urls.notes}/auth/login?return_to=/tab%23idle`, seconds),
    idleCost(stage, 'peer idle', `${stage.urls.spa}/#idle`, seconds),
  ])
  return [
    figure('idle, requests', '1/h', ours.requests, peer.requests),
    figure('idle, the browser', 's CPU/h', ours.cpu, peer.cpu),
  ]
}

async function idleCost(stage: Stage, name: string, url: string, seconds: number) {
  const browser: BenchBrowser = openBrowser(name, url)
  try {
    await stage.alive(name)
    await wait(Math.min(seconds, 20) * 500) // until what loading a page costs is over
    const measure = async () => ({ cpu: browser.cpu(), requests: await stage.ask({ ask: 'requests', browser: name }) })
    const before = await measure()
    await wait(seconds * 1000)
    const after = await measure()
    const perHour = (key: 'cpu' | 'requests') => ((after[key] - before[key]) / seconds) * 3_600
    return { cpu: perHour('cpu'), requests: perHour('requests') }
  } finally {
    await browser.close()
  }
}

function figure(id: string, unit: string, ours: number, peer: number | null): Figure {
  const ratioToPeer = peer === null || peer === 0 ? null : ours / peer
  return { id, unit, ours, peer, limit: null, ratioToPeer, ratioToLimit: null, spread: null, goal: null, met: null }
}

async function openStage(folder: string): Promise<Stage> {
  const child = fork(new URL('tab-stage.ts', import.meta.url), [folder], { execArgv: ['-C', '@lockstep/source'] })
  const answers = new Map<number, (answer: number) => void>()
  const news: StageNews[] = []
  const bell = new EventTarget()
  let asked = 0
  child.on('message', (message: StageNews | { id: number; answer: number }) => {
    if ('id' in message) return answers.get(message.id)?.(message.answer)
    news.push(message)
    bell.dispatchEvent(new Event('news'))
  })

  /** Waits for so many pieces of news, and fails when the child ends or nothing is heard for two minutes. */
  async function heard<Kind extends StageNews['news']>(kind: Kind, count: number, browser?: string) {
    for (;;) {
      const found = news
        .filter((one): one is Extract<StageNews, { news: Kind }> => one.news === kind)
        .filter((one) => !('browser' in one) || one.browser === browser)
      if (found.length >= count) return found.slice(0, count)
      const signal = AbortSignal.any([AbortSignal.timeout(120_000), gone.signal])
      await once(bell, 'news', { signal })
    }
  }

  const gone = new AbortController()
  child.once('exit', (code) => gone.abort(new Error(`the stage ended with ${code}`)))
  const [opened] = await heard('open', 1)
  if (!opened) throw new Error('the stage did not open')
  return {
    urls: opened.urls,
    ask(question) {
      const id = ++asked
      return new Promise((resolve) => {
        answers.set(id, resolve)
        child.send({ id, ...question })
      })
    },
    told: (browser, count) => heard('told', count, browser),
    async alive(browser) {
      await heard('alive', 1, browser)
    },
    stop: () => child.disconnect(),
  }
}
