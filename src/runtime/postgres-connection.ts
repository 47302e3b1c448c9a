import { BlockList, isIPv4, isIPv6 } from 'node:net'
import { Client, type ClientConfig, type PoolConfig, types } from 'pg'
import { fromText } from './postgres-text.ts'

/** Which PostgreSQL, and how: everything `pg` takes, and what is ours. */
export interface PostgresOptions extends Omit<PoolConfig, 'onConnect' | 'types' | 'Client'> {
  /** Name of the schema that holds the tables; made at the first start. */
  schema?: string
  /** Allows a connection over the network that is not encrypted, or whose certificate is not checked. Default false. */
  allowInsecure?: boolean
}

/** The options with every default in its place. */
export interface ResolvedPostgresOptions {
  readonly config: PoolConfig & ClientConfig
  readonly schema: string
  /** What each connection of the pool is set to. */
  readonly settings: Readonly<Record<string, string>>
  /** Names the database in messages: host, port and database, never the user's password. */
  readonly place: string
}

const loopback = new BlockList()
loopback.addSubnet('127.0.0.0', 8, 'ipv4')
loopback.addAddress('::1', 'ipv6')

/**
 * Checks the options and fills in the defaults.
 *
 * @throws TypeError when one is wrong, or when they lead over the network without TLS (T19).
 */
export function resolvePostgresOptions(options: PostgresOptions, defaultSchema: string): ResolvedPostgresOptions {
  const {
    schema = defaultSchema,
    allowInsecure = false,
    lock_timeout = 5_000,
    statement_timeout = 30_000,
    idle_in_transaction_session_timeout = 10_000, // a node that froze in a transaction keeps nobody waiting
    ...given
  } = options ?? {}
  if (!/^[a-z_][a-z0-9_]{0,62}$/.test(schema)) {
    throw new TypeError('schema must be lower-case letters, digits and "_", at most 63, not beginning with a digit')
  }
  const config: ResolvedPostgresOptions['config'] = {
    application_name: 'lockstep',
    connectionTimeoutMillis: 5_000,
    keepAlive: true,
    keepAliveInitialDelayMillis: 60_000,
    query_timeout: 35_000, // for a network that went away: the server's own limit comes first
    ...given,
    types: { getTypeParser },
  }
  const { host, port, database, isSecure } = judge(config)
  if (!isSecure && !isLocal(host) && !allowInsecure) {
    throw new TypeError(
      `the connection to PostgreSQL at ${host} is not protected: use TLS with a certificate that is checked ` +
        '(sslmode=verify-full), or set allowInsecure where the network itself is trusted',
    )
  }
  // set by statements and not in the greeting, where poolers refuse what they do not know
  const settings = {
    search_path: schema,
    lock_timeout: String(lock_timeout),
    statement_timeout: String(statement_timeout || 0),
    idle_in_transaction_session_timeout: String(idle_in_transaction_session_timeout),
  }
  return { config, schema, settings, place: `${host}:${port}/${database}` }
}

/** What `pg` makes of the options, connection string and environment: only a client that never connects can tell. */
function judge(config: ClientConfig): { host: string; port: number; database: string; isSecure: boolean } {
  let client: Client & { connectionParameters?: { ssl?: unknown } }
  try {
    client = new Client(config)
  } catch {
    // the original message quotes the string, password included
    throw new TypeError(
      'connectionString is not a PostgreSQL connection string: postgres://user:password@host/database',
    )
  }
  const ssl = client.connectionParameters?.ssl
  const isChecked =
    typeof ssl === 'object' && ssl !== null ? Reflect.get(ssl, 'rejectUnauthorized') !== false : ssl === true
  return { host: client.host, port: client.port, database: client.database ?? '', isSecure: isChecked }
}

/** This machine: a socket in the file system, or loopback. */
function isLocal(host: string): boolean {
  if (host.startsWith('/') || host === 'localhost' || host.endsWith('.localhost')) return true
  if (isIPv4(host)) return loopback.check(host, 'ipv4')
  return isIPv6(host) && loopback.check(host, 'ipv6')
}

const wholeNumber: number = types.builtins.INT8
const text: number = types.builtins.TEXT

/** Whole numbers come as numbers (ours all fit), text as it was before it was stored. */
const getTypeParser: typeof types.getTypeParser = (oid: number, format?: 'text' | 'binary') => {
  if (oid === wholeNumber) return Number
  if (oid === text) return fromText
  return format === 'binary' ? types.getTypeParser(oid, format) : types.getTypeParser(oid)
}
