import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import { parseConfig, type ServerConfig } from '../../apps/server/config.ts'
import type { Log } from '../../apps/server/log.ts'
import { type RunningServer, startServer } from '../../apps/server/serve.ts'
import { createUserAgent, type UserAgent } from '../support/user-agent.ts'

/** A port of 127.0.0.1 that nobody used a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

/** A folder that is gone after the test. */
export function scratchFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'lockstep-apps-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/** A browser that is closed after the test. */
export function browser(): UserAgent {
  const userAgent = createUserAgent()
  onTestFinished(() => userAgent.close())
  return userAgent
}

/** An app as far as an OP sees it: a callback that shows what came, and a place for Logout Tokens. */
export async function startApp(): Promise<{ origin: string; logoutTokens: string[] }> {
  const logoutTokens: string[] = []
  const server = createServer(async (req, res) => {
    let body = ''
    for await (const chunk of req) body += String(chunk)
    if (req.url === '/backchannel') logoutTokens.push(new URLSearchParams(body).get('logout_token') ?? '')
    res.end(`${req.method} ${req.url}`)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  return { origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, logoutTokens }
}

/** What a test's configuration file holds: one app, two accounts. */
export function fileFor(port: number, appOrigin: string): Record<string, unknown> {
  return {
    issuer: `http://localhost:${port}`,
    listen: { host: '127.0.0.1', port },
    store: { sqlite: ':memory:' },
    clients: [
      {
        client_id: 'notes',
        client_secret: 'secret-of-notes',
        client_name: 'Notes',
        grant_types: ['authorization_code', 'refresh_token'],
        redirect_uris: [`${appOrigin}/callback`],
        post_logout_redirect_uris: [`${appOrigin}/bye`],
        backchannel_logout_uri: `${appOrigin}/backchannel`,
      },
    ],
    accounts: [
      { username: 'ada', password: 'analytical', claims: { name: 'Ada Lovelace' } },
      { username: 'grace', password: 'nanosecond', claims: { sub: 'g-1' } },
    ],
    egress: { allow: ['127.0.0.1'] },
  }
}

/** Runs a server in this process until the test is over. */
export async function running(
  config: ServerConfig,
  lines: string[] = [],
): Promise<RunningServer & { stop(): Promise<void> }> {
  const log: Log = (level, event, fields) => {
    lines.push(JSON.stringify({ level, event, ...fields }))
  }
  const server = await startServer(config, log)
  let stopped: Promise<void> | undefined
  const stop = (): Promise<void> => {
    stopped ??= server.close()
    return stopped
  }
  onTestFinished(stop)
  return { ...server, stop }
}

/** The configuration of a file's content, with changes. */
export function configOf(content: Record<string, unknown>, changes: Partial<ServerConfig> = {}): ServerConfig {
  return { ...parseConfig('op.json', content), ...changes }
}

/** The URL at which the app of {@link fileFor} begins a login. */
export function loginUrl(issuer: string, appOrigin: string, more: Record<string, string> = {}): string {
  const params = {
    client_id: 'notes',
    response_type: 'code',
    scope: 'openid profile',
    redirect_uri: `${appOrigin}/callback`,
  }
  return `${issuer}/auth?${new URLSearchParams({ ...params, state: 's', nonce: 'n', ...more })}`
}
