import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { type DemoApp, demoApps } from './demo-apps.ts'

/** What one demo app runs on. */
export interface DemoOptions {
  readonly app: DemoApp
  readonly port: number
  readonly issuer: string
  readonly dataFolder: string
}

/** A command line that cannot be run; its message is one line for the terminal. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}

export const USAGE = `Usage: npm run app -- --name Notes|Mail [--port PORT] [--issuer URL] [--data DIR]

  --name NAME   which app to be
  --port PORT   port to listen on (default 4001 for Notes, 4002 for Mail)
  --issuer URL  the OpenID Provider (default http://localhost:4000)
  --data DIR    folder of its SQLite file (default .lockstep/data)`

/** Turns a command line into options; `help` when that was all that was asked. */
export function readArguments(args: readonly string[]): DemoOptions | 'help' {
  const given = parse(args)
  if (given.help) return 'help'
  const app = demoApps.find(({ name }) => name.toLowerCase() === given.name?.toLowerCase())
  if (!app) throw new UsageError(`--name must be ${demoApps.map(({ name }) => name).join(' or ')}. --help shows more.`)
  const port = Number(given.port ?? app.port)
  if (!/^\d+$/.test(String(given.port ?? app.port)) || port < 1 || port > 65_535) {
    throw new UsageError(`--port must be a whole number from 1 to 65535, not "${given.port}".`)
  }
  const dataFolder = resolve(given.data ?? join('.lockstep', 'data'))
  return { app, port, issuer: checkIssuer(given.issuer ?? 'http://localhost:4000'), dataFolder }
}

/** This app is for one machine, so that an OP elsewhere must at least be https. */
function checkIssuer(issuer: string): string {
  const url = URL.canParse(issuer) ? new URL(issuer) : undefined
  if (!url) throw new UsageError('--issuer must be an absolute URL.')
  if (url.protocol !== 'https:' && url.protocol !== 'http:') throw new UsageError('--issuer must be an https URL.')
  if (url.username !== '' || url.password !== '' || url.hash !== '') {
    throw new UsageError('--issuer must not have credentials or a fragment.')
  }
  if (url.protocol === 'http:' && !/^(.+\.)?localhost$|^127\.|^\[::1\]$/.test(url.hostname)) {
    throw new UsageError('--issuer must be https; http is only for this machine.')
  }
  return issuer
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        name: { type: 'string' },
        port: { type: 'string' },
        issuer: { type: 'string' },
        data: { type: 'string' },
        help: { type: 'boolean', short: 'h', default: false },
      },
    }).values
  } catch (cause) {
    const message = cause instanceof Error ? cause.message.split('. ')[0] : 'Wrong arguments'
    throw new UsageError(`${message}. --help shows what there is.`, { cause })
  }
}
