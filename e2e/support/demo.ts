import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { eventually } from './eventually.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))

export type AppName = 'Notes' | 'Mail'

/** A program under test. */
export interface Program {
  readonly pid: number
  /** What it has written so far. */
  output(): string
  kill(signal: NodeJS.Signals): Promise<void>
}

/** The demo as `npm start` runs it. */
export interface Demo {
  readonly port: number
  readonly data: string
  readonly issuer: string
  url(app: AppName): string
  pid(program: 'OpenID Provider' | AppName): number
  /** `npm run server -- --demo --data DIR` */
  startServer(): Promise<void>
  startApp(app: AppName): Promise<void>
  stop(): Promise<void>
}

/** Starts the OP and both apps on free ports, with an empty data folder. */
export async function startDemo(): Promise<Demo> {
  const port = await freePorts(3)
  const data = mkdtempSync(join(tmpdir(), 'lockstep-e2e-'))
  const started: Program[] = []
  const launcher = start([process.execPath, join(root, 'scripts/start.mjs'), '--port', `${port}`, '--data', data])
  started.push(launcher)
  const pids = await eventually(() => {
    const found = [...launcher.output().matchAll(/^ *(OpenID Provider|Notes|Mail) .*pid (\d+)$/gm)]
    return found.length === 3 ? new Map(found.map(([, name, pid]) => [name, Number(pid)])) : undefined
  }, 'the demo to start')

  const issuer = `http://localhost:${port}`
  const ports = { Notes: port + 1, Mail: port + 2 }
  return {
    port,
    data,
    issuer,
    url: (app) => `http://${app.toLowerCase()}.localhost:${ports[app]}`,
    pid(program) {
      const pid = pids.get(program)
      if (pid === undefined) throw new Error(`${program} has no pid`)
      return pid
    },
    async startServer() {
      started.push(await startServer(['--demo', '--data', data, '--port', `${port}`], issuer))
    },
    async startApp(app) {
      started.push(await startApp(app, { port: ports[app], issuer, data }))
    },
    async stop() {
      await Promise.all(started.map((program) => program.kill('SIGTERM')))
      rmSync(data, { recursive: true, force: true })
    },
  }
}

/** Starts the OP as a program of its own and waits until it answers. */
export async function startServer(args: readonly string[], issuer: string): Promise<Program> {
  const program = start(['npm', 'run', '--silent', 'server', '--', ...args])
  await answers(`${issuer}/.well-known/openid-configuration`, program)
  return program
}

/** Starts one demo app and waits until it answers. */
export async function startApp(
  app: AppName,
  { port, issuer, data }: { port: number; issuer: string; data: string },
): Promise<Program> {
  const script = join(root, 'apps/demo-rp/main.ts')
  const settings = ['--name', app, '--port', `${port}`, '--issuer', issuer, '--data', data]
  const program = start([process.execPath, '-C', '@lockstep/source', script, ...settings])
  await answers(`http://127.0.0.1:${port}/`, program)
  return program
}

/** The first of `count` consecutive ports that nobody listens on. */
export async function freePorts(count: number): Promise<number> {
  for (;;) {
    const first = await canListen(0)
    if (!first || first + count > 65_535) continue
    const others = Array.from({ length: count - 1 }, (_, i) => canListen(first + i + 1))
    if ((await Promise.all(others)).every(Boolean)) return first
  }
}

async function canListen(port: number): Promise<number | undefined> {
  const server = createServer().listen(port, '127.0.0.1')
  try {
    await once(server, 'listening')
  } catch {
    return undefined // taken
  }
  const address = server.address()
  server.close()
  await once(server, 'close')
  return typeof address === 'object' ? address?.port : undefined
}

/** A process group of its own, so that what it starts ends with it. */
function start([command = '', ...args]: readonly string[]): Program {
  const child = spawn(command, args, { cwd: root, detached: true, stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => (output += text))
  const gone = once(child, 'close')
  const { pid } = child
  if (pid === undefined) throw new Error(`${command} did not start`)
  return {
    pid,
    output: () => output,
    async kill(signal) {
      if (isRunning(child)) process.kill(-pid, signal)
      await gone
    },
  }
}

function isRunning(child: ChildProcess): boolean {
  return child.exitCode === null && child.signalCode === null
}

async function answers(url: string, program: Program): Promise<void> {
  await eventually(async () => {
    const response = await fetch(url).catch(() => undefined)
    return response && response.status < 500 ? true : undefined
  }, `${url} to answer; its program said: ${program.output()}`)
}
