import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { getCACertificates, setDefaultCACertificates } from 'node:tls'
import { fileURLToPath } from 'node:url'
import { selfSigned } from '../../test/support/self-signed.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))

/** A client as a configuration file and Dynamic Client Registration write it. */
export type ClientEntry = Readonly<Record<string, unknown>>

/** What discovery says. */
export interface Metadata {
  readonly [name: string]: unknown
  readonly issuer: string
  readonly authorization_endpoint: string
  readonly token_endpoint: string
  readonly userinfo_endpoint: string
  readonly jwks_uri: string
  readonly end_session_endpoint: string
  readonly check_session_iframe: string
}

/** The server program under test: known by its issuer alone. */
export interface OpUnderTest {
  readonly metadata: Metadata
  close(): Promise<void>
}

/** How a start that was refused ended. */
export interface RefusedStart {
  readonly code: number | null
  readonly said: string
}

/** Starts the server program on https, and trusts its certificate in this process. */
export async function startOp(clients: readonly ClientEntry[]): Promise<OpUnderTest> {
  const certificate = selfSigned()
  const started = await start(clients, certificate)
  if ('code' in started) throw new Error(`the server program left with code ${started.code}: ${started.said}`)
  const before = getCACertificates('default')
  setDefaultCACertificates([...before, certificate.cert])
  const response = await fetch(`${started.issuer}/.well-known/openid-configuration`)
  return {
    metadata: (await response.json()) as Metadata,
    close: async () => {
      await started.stop()
      setDefaultCACertificates(before)
    },
  }
}

/** Starts the server program with clients that it must refuse. */
export async function refusedStart(clients: readonly ClientEntry[]): Promise<RefusedStart> {
  const started = await start(clients, selfSigned())
  if ('code' in started) return started
  await started.stop()
  throw new Error('the server program started')
}

async function start(
  clients: readonly ClientEntry[],
  { cert, key }: { cert: string; key: string },
): Promise<RefusedStart | { issuer: string; stop(): Promise<void> }> {
  const folder = mkdtempSync(join(tmpdir(), 'lockstep-conformance-'))
  const port = await freePort()
  const issuer = `https://localhost:${port}`
  writeFileSync(join(folder, 'op.crt'), cert)
  writeFileSync(join(folder, 'op.pem'), key)
  const config = {
    issuer,
    listen: { host: '127.0.0.1', port },
    tls: { cert: 'op.crt', key: 'op.pem' },
    store: { sqlite: 'op.db' },
    clients,
    accounts: [
      { username: 'ada', password: 'analytical', claims: { name: 'Ada Lovelace' } },
      { username: 'grace', password: 'nanosecond', claims: { name: 'Grace Hopper' } },
    ],
    egress: { allow: ['127.0.0.1'] },
  }
  writeFileSync(join(folder, 'op.json'), JSON.stringify(config))
  const program = join(root, 'apps/server/main.ts')
  const child = spawn(process.execPath, ['-C', '@lockstep/source', program, '--config', join(folder, 'op.json')], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let said = ''
  child.stderr.on('data', (chunk) => {
    said += String(chunk)
  })
  const gone = once(child, 'close').then(([code]) => {
    rmSync(folder, { recursive: true, force: true })
    return { code: code as number | null, said }
  })
  const listening = (async () => {
    for await (const line of createInterface({ input: child.stdout })) {
      if (line.includes('"event":"listening"')) return true
    }
    return false
  })()
  if (!(await listening)) return gone
  child.stdout.resume()
  return {
    issuer,
    stop: async () => {
      child.kill('SIGTERM')
      await gone
    },
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}
