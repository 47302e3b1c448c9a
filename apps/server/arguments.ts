import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import type { RotationOptions } from 'lockstep/op'
import { loadConfig, type ServerConfig } from './config.ts'
import { ConfigError } from './config-error.ts'
import { demoConfig } from './demo-config.ts'

/** What `--help` prints. */
export const USAGE = `Usage: npm run server -- --config FILE [--data DIR] [--port PORT]
       npm run server -- --demo [--data DIR] [--port PORT]
       npm run server -- --config FILE [--data DIR] --rotate-keys [--compromised KID]...

  --config FILE  run an OpenID Provider from a JSON file (docs/server.md describes every key)
  --demo         run the built-in demo's OpenID Provider, on loopback
  --data DIR     folder of the SQLite file (default: the folder of FILE; with --demo .lockstep/data)
  --port PORT    listen on this port instead (with --demo: the apps are at PORT+1 and PORT+2; default 4000)
  --rotate-keys  let the next signing keys sign from the next start on, and leave
  --compromised  with --rotate-keys: withdraw the key with this kid instead ("all": every key)`

/**
 * Turns a command line into a configuration; `help` when that was all that was asked.
 *
 * @throws ConfigError when an argument or the file it names is wrong.
 */
export function configFromArguments(args: readonly string[]): ServerConfig | 'help' {
  const given = parse(args)
  if (given.help) return 'help'
  if (given.demo === (given.config !== undefined)) {
    throw new ConfigError('Say either --config FILE or --demo; --help shows more.')
  }
  const port = given.port === undefined ? undefined : parsePort(given.port)
  const dataFolder = given.data === undefined ? undefined : resolve(given.data)
  if (given.config === undefined) {
    if (port !== undefined && port > 65_533) throw new ConfigError('With --demo, --port must be at most 65533.')
    return demoConfig({ port: port ?? 4000, dataFolder: dataFolder ?? join(process.cwd(), '.lockstep', 'data') })
  }
  const config = loadConfig(resolve(given.config), dataFolder)
  return port === undefined ? config : { ...config, listen: { ...config.listen, port } }
}

/** What `--rotate-keys` asks for; `undefined` when it was not said. */
export function rotationFromArguments(args: readonly string[]): Pick<RotationOptions, 'compromised'> | undefined {
  const { 'rotate-keys': rotate, compromised } = parse(args)
  if (!rotate && compromised) throw new ConfigError('--compromised goes with --rotate-keys.')
  if (!rotate) return undefined
  if (!compromised) return {}
  return { compromised: compromised.includes('all') ? 'all' : compromised }
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        config: { type: 'string' },
        demo: { type: 'boolean', default: false },
        data: { type: 'string' },
        port: { type: 'string' },
        'rotate-keys': { type: 'boolean', default: false },
        compromised: { type: 'string', multiple: true },
        help: { type: 'boolean', short: 'h', default: false },
      },
    }).values
  } catch (cause) {
    const message = cause instanceof Error ? cause.message.split('. ')[0] : 'Wrong arguments'
    throw new ConfigError(`${message}. --help shows what there is.`, { cause })
  }
}

function parsePort(given: string): number {
  const port = Number(given)
  if (!/^\d+$/.test(given) || port < 1 || port > 65_535) {
    throw new ConfigError(`--port must be a whole number from 1 to 65535, not "${given}".`)
  }
  return port
}
