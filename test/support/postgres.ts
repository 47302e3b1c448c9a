import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chownSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** A private PostgreSQL server on loopback; it commits to disk as a real one does. */
export interface TestPostgres {
  /** Connects as its superuser. */
  readonly connectionString: string
  readonly port: number
  /** Ends the server: `fast` in order, `immediate` as a crash does, without a word to the disk. */
  stop(how: 'fast' | 'immediate'): Promise<void>
  /** Starts it again on the same data and port, with other settings where given. */
  start(settings?: Readonly<Record<string, string>>): Promise<void>
  /** Stops all of its processes where they stand (SIGSTOP): connections stay open, and nobody answers. Returns the way to go on. */
  freeze(): () => void
  /** Ends it and removes its data. */
  close(): Promise<void>
}

const binaries = findBinaries()

/** Whether this machine has PostgreSQL. In CI it must. */
export const hasPostgres: boolean = binaries !== undefined || process.env.CI === 'true'

/** Makes a new database cluster in a folder of its own and starts it. */
export async function startPostgres(): Promise<TestPostgres> {
  if (!binaries) throw new Error('PostgreSQL is not installed (Debian: apt-get install postgresql)')
  const folder = mkdtempSync(join(tmpdir(), 'lockstep-postgres-'))
  const owner = unprivilegedUser()
  if (owner) chownSync(folder, owner.uid, owner.gid)
  const data = join(folder, 'data')
  writeFileSync(join(folder, 'password'), 'secret of the test')
  execFileSync(
    join(binaries, 'initdb'),
    ['-D', data, '-U', 'tester', '-A', 'scram-sha-256', `--pwfile=${join(folder, 'password')}`].concat([
      '-E',
      'UTF8',
      '--locale=C',
      '--no-sync',
      '--no-instructions',
    ]),
    { ...owner, stdio: ['ignore', 'ignore', 'inherit'], cwd: folder },
  )
  const port = await freePort()
  let server: ChildProcess | undefined

  const postgres: TestPostgres = {
    connectionString: `postgres://tester:${encodeURIComponent('secret of the test')}@127.0.0.1:${port}/postgres`,
    port,
    async stop(how) {
      const running = server
      server = undefined
      if (!running || running.exitCode !== null || running.signalCode !== null) return
      const ended = once(running, 'exit')
      running.kill(how === 'fast' ? 'SIGINT' : 'SIGQUIT')
      await ended
    },
    async start(settings = {}) {
      const all = { listen_addresses: '127.0.0.1', port: String(port), unix_socket_directories: '', ...settings }
      const flags = Object.entries(all).flatMap(([name, value]) => ['-c', `${name}=${value}`])
      server = spawn(join(binaries, 'postgres'), ['-D', data, ...flags], {
        ...owner,
        stdio: ['ignore', 'ignore', 'pipe'],
        cwd: folder,
      })
      await isReady(server)
    },
    freeze() {
      const main = server?.pid
      if (main === undefined) throw new Error('PostgreSQL does not run')
      process.kill(main, 'SIGSTOP') // first, so that it starts no others
      const others = readFileSync(`/proc/${main}/task/${main}/children`, 'utf8').trim().split(' ').map(Number)
      for (const pid of others) process.kill(pid, 'SIGSTOP')
      return () => {
        for (const pid of [...others, main]) process.kill(pid, 'SIGCONT')
      }
    },
    async close() {
      await postgres.stop('immediate')
      process.off('exit', killAtExit)
      rmSync(folder, { recursive: true, force: true })
    },
  }
  const killAtExit = (): void => {
    server?.kill('SIGQUIT')
  }
  process.on('exit', killAtExit)
  await postgres.start()
  return postgres
}

/** Resolves when the server takes connections; fails with what it wrote when it ends before. */
function isReady(server: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    let said = ''
    server.stderr?.setEncoding('utf8').on('data', (text: string) => {
      said = (said + text).slice(-10_000) // clients that are turned away while it recovers make it say a lot
      if (said.includes('ready to accept connections')) resolve()
    })
    server.on('error', reject)
    server.on('exit', () => reject(new Error(`PostgreSQL did not start: ${said}`)))
  })
}

/** On the path, or where Debian keeps them: the newest. */
function findBinaries(): string | undefined {
  const debian = '/usr/lib/postgresql'
  const versions = existsSync(debian) ? readdirSync(debian).sort((a, b) => Number(b) - Number(a)) : []
  const folders = [...versions.map((version) => join(debian, version, 'bin')), ...(process.env.PATH ?? '').split(':')]
  return folders.find((folder) => existsSync(join(folder, 'initdb')) && existsSync(join(folder, 'postgres')))
}

/** PostgreSQL refuses to run as root. */
export function unprivilegedUser(): { uid: number; gid: number } | undefined {
  if (process.getuid?.() !== 0) return undefined
  for (const name of ['postgres', 'nobody']) {
    try {
      const id = (what: '-u' | '-g'): number =>
        Number(execFileSync('id', [what, name], { stdio: ['ignore', 'pipe', 'ignore'] }))
      return { uid: id('-u'), gid: id('-g') }
    } catch {
      // the next one
    }
  }
  throw new Error('PostgreSQL does not run as root, and there is neither a user "postgres" nor "nobody"')
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}
