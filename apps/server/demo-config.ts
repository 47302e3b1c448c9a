import { join } from 'node:path'
import type { ConfiguredAccount, ConfiguredClient, ServerConfig } from './config.ts'

/**
 * The built-in file of `--demo`: an OP at `port`, Notes and Mail at the two ports after it, all on loopback.
 *
 * Browsers resolve `*.localhost` by themselves, Node and glibc may not, so the OP reaches the apps at 127.0.0.1.
 */
export function demoConfig({ port, dataFolder }: { port: number; dataFolder: string }): ServerConfig {
  return {
    source: 'the demo',
    issuer: `http://localhost:${port}`,
    listen: { host: '127.0.0.1', port },
    store: { sqlite: join(dataFolder, 'op.db') },
    clients: [demoApp('Notes', port + 1), demoApp('Mail', port + 2)],
    accounts: demoAccounts,
    egress: { allow: ['127.0.0.0/8'] },
    signing_alg: 'RS256',
    secrets: { key_file: join(dataFolder, 'op.key') },
    demo: true,
  }
}

function demoApp(name: string, port: number): ConfiguredClient {
  const id = name.toLowerCase()
  const appUrl = `http://${id}.localhost:${port}`
  return {
    client_id: id,
    client_secret: `demo-secret-of-${id}`, // worthless anywhere else: the demo starts on loopback only (T22)
    client_name: name,
    client_uri: appUrl,
    redirect_uris: [`${appUrl}/auth/callback`],
    post_logout_redirect_uris: [`${appUrl}/auth/logged-out`],
    backchannel_logout_uri: `http://127.0.0.1:${port}/auth/backchannel-logout`,
    backchannel_logout_session_required: true,
    lockstep_logout_details: true,
  }
}

const demoAccounts: readonly ConfiguredAccount[] = [
  { username: 'ada', password: 'analytical', claims: { name: 'Ada Lovelace', email: 'ada@example.com' } },
  { username: 'grace', password: 'nanosecond', claims: { name: 'Grace Hopper', email: 'grace@example.com' } },
  { username: 'alan', password: 'bombe', claims: { name: 'Alan Turing', email: 'alan@example.com' } },
]
