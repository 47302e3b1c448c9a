import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { Redis } from 'ioredis'

/** A private Redis server on loopback. */
export interface TestRedis {
  readonly port: number
  /** Ends the server without a word to its clients, as a crash does. */
  kill(): Promise<void>
  /** Holds it still, as a machine that does not answer, and lets it go on. */
  freeze(): void
  thaw(): void
  /** Starts it again on the same data and port. */
  start(): Promise<void>
  /** Runs a command as another client. */
  command(...words: readonly [string, ...string[]]): Promise<unknown>
  /** Ends it and removes its data. */
  close(): Promise<void>
}

const binary = ['/usr/bin', '/usr/local/bin', '/opt/homebrew/bin', ...(process.env.PATH ?? '').split(':')]
  .map((folder) => join(folder, 'redis-server'))
  .find((file) => existsSync(file))

/** Whether this machine has Redis. In CI it must. */
export const hasRedis: boolean = binary !== undefined || process.env.CI === 'true'

/**
 * Starts a server in a folder of its own.
 *
 * @param settings Lines of its configuration; nothing is written to disk unless they say so.
 */
export async function startRedis(
  settings: readonly string[] = [],
  mode: 'server' | 'sentinel' = 'server',
): Promise<TestRedis> {
  if (!binary) throw new Error('Redis is not installed (Debian: apt-get install redis-server)')
  const executable = binary
  const folder = mkdtempSync(join(tmpdir(), 'lockstep-redis-'))
  const port = await freePort()
  const file = join(folder, 'redis.conf')
  const lines = [`port ${port}`, 'bind 127.0.0.1', `dir "${folder}"`, 'daemonize no']
  const server = mode === 'server' ? ['save ""', 'repl-diskless-sync-delay 0'] : []
  writeFileSync(file, [...lines, ...server, ...settings, ''].join('\n'))
  let child: ChildProcess | undefined

  const redis: TestRedis = {
    port,
    async kill() {
      const running = child
      child = undefined
      if (!running || running.exitCode !== null || running.signalCode !== null) return
      const ended = once(running, 'exit')
      running.kill('SIGKILL')
      await ended
    },
    freeze() {
      child?.kill('SIGSTOP')
    },
    thaw() {
      child?.kill('SIGCONT')
    },
    async start() {
      child = spawn(executable, [file, ...(mode === 'sentinel' ? ['--sentinel'] : [])], {
        stdio: ['ignore', 'pipe', 'inherit'],
        cwd: folder,
      })
      await isReady(child)
    },
    async command(...words) {
      const client = new Redis({ host: '127.0.0.1', port, lazyConnect: true, protocol: 2, retryStrategy: () => null })
      try {
        await client.connect()
        const [name, ...rest] = words
        return await client.call(name, ...rest)
      } finally {
        client.disconnect()
      }
    },
    async close() {
      await redis.kill()
      process.off('exit', killAtExit)
      rmSync(folder, { recursive: true, force: true })
    },
  }
  const killAtExit = (): void => {
    child?.kill('SIGKILL')
  }
  process.on('exit', killAtExit)
  await redis.start()
  return redis
}

/** Repeats a question until the answer is yes; the server that is asked decides when. */
export async function until(isSo: () => Promise<boolean>, what: string, patience = 10_000): Promise<void> {
  for (let waited = 0; waited < patience; waited += 25) {
    if (await isSo().catch(() => false)) return
    await new Promise((resolve) => setTimeout(resolve, 25))
  }
  throw new Error(`waited in vain: ${what}`)
}

/** Three masters that share the slots, each with as many replicas; the masters come first. */
export async function startCluster(replicas = 0): Promise<readonly TestRedis[]> {
  const settings = ['cluster-enabled yes', 'cluster-config-file nodes.conf', 'cluster-node-timeout 1000']
  const nodes = await Promise.all(Array.from({ length: 3 * (1 + replicas) }, () => startRedis(settings)))
  const addresses = nodes.map(({ port }) => `127.0.0.1:${port}`)
  const options = ['--cluster-replicas', String(replicas), '--cluster-yes']
  const cli = binary ? join(dirname(binary), 'redis-cli') : 'redis-cli'
  execFileSync(cli, ['--cluster', 'create', ...addresses, ...options], { stdio: 'ignore' })
  const says = async (node: TestRedis, what: string, section: readonly [string, string]) =>
    String(await node.command(...section)).includes(what)
  for (const [i, node] of nodes.entries()) {
    await until(() => says(node, 'cluster_state:ok', ['CLUSTER', 'INFO']), 'a cluster')
    if (i >= 3) await until(() => says(node, 'master_link_status:up', ['INFO', 'replication']), 'a replica')
  }
  return nodes
}

function isReady(server: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    let said = ''
    server.stdout?.setEncoding('utf8').on('data', (text: string) => {
      if (said.length < 20_000) said += text
      if (/Ready to accept connections|Sentinel ID is/.test(said)) resolve()
    })
    server.on('error', reject)
    server.on('exit', () => reject(new Error(`Redis did not start: ${said}`)))
  })
}

export async function freePort(): Promise<number> {
  // Cluster nodes talk on another port, 10,000 above theirs.
  for (;;) {
    const server = createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    const address = server.address()
    server.close()
    await once(server, 'close')
    if (address !== null && typeof address === 'object' && address.port < 55_000) return address.port
  }
}
