import { readFileSync } from 'node:fs'
import { basename, dirname, resolve } from 'node:path'
import { z } from 'zod'
import { ConfigError } from './config-error.ts'
import { isNetworkOrHost } from './loopback.ts'

/** Client metadata as in Dynamic Client Registration, plus `client_id` and `client_secret`; oidc-provider judges the rest. */
export interface ConfiguredClient {
  readonly client_id: string
  readonly client_secret?: string | undefined
  readonly [metadata: string]: unknown
}

/** Somebody who can sign in. The subject is `claims.sub`, else `username`. */
export interface ConfiguredAccount {
  readonly username: string
  readonly password: string
  readonly claims: Readonly<Record<string, unknown>>
}

/** What the server runs on, checked; past this point nothing is optional. */
export interface ServerConfig {
  /** Names the file in messages. */
  readonly source: string
  readonly issuer: string
  readonly listen: { readonly host: string; readonly port: number }
  /** An absolute path, or `:memory:`. */
  readonly store: { readonly sqlite: string }
  readonly clients: readonly ConfiguredClient[]
  readonly accounts: readonly ConfiguredAccount[]
  readonly egress: { readonly allow: readonly string[] }
  /** True for the built-in demo: accounts are shown on the login page. */
  readonly demo: boolean
}

const text = z.string().min(1)

const schema = z.strictObject({
  issuer: text,
  listen: z.strictObject({ host: text.default('127.0.0.1'), port: z.number().int().min(1).max(65_535) }),
  store: z.strictObject({ sqlite: text }),
  clients: z.array(z.looseObject({ client_id: text, client_secret: text.optional() })),
  accounts: z.array(
    z.strictObject({ username: text, password: text, claims: z.record(z.string(), z.unknown()).default({}) }),
  ),
  egress: z.strictObject({ allow: z.array(text).default([]) }).default({ allow: [] }),
})

/** What to write where, for each key that can be missing or wrong. */
const advice: Readonly<Record<string, string>> = {
  issuer: 'Write the URL at which browsers and apps reach this OP, such as "https://login.example.com".',
  listen: 'Write the address to listen on, such as {"host": "127.0.0.1", "port": 4000}.',
  'listen.host': 'Write an address of this machine, such as "127.0.0.1".',
  'listen.port': 'Write a whole number from 1 to 65535, without quotes.',
  store: 'Write where logins are kept, such as {"sqlite": "op.db"}.',
  'store.sqlite': 'Write the path of the SQLite file, such as "op.db".',
  clients: 'Write a list of clients, each with client_id, redirect_uris and, unless it is public, client_secret.',
  'clients.client_id': 'Give every client a client_id.',
  'clients.client_secret': 'Write the secret as text, or leave it out and set token_endpoint_auth_method to "none".',
  accounts: 'Write a list of accounts, each with username and password.',
  'accounts.username': 'Give every account a username.',
  'accounts.password': 'Give every account a password.',
  'accounts.claims': 'Write an object of claims, such as {"name": "Ada", "email": "ada@example.com"}.',
  egress: 'Write the networks this OP may call, such as {"allow": ["10.0.0.0/8"]}, or leave it out.',
  'egress.allow': 'Write a list of CIDRs and host names, such as ["10.0.0.0/8", "mail.internal"].',
}

/**
 * Reads a configuration file.
 *
 * @param file Its path; a relative `store.sqlite` is taken from `dataFolder`, else from the file's own folder.
 * @throws ConfigError naming the key, and the client or account it belongs to.
 */
export function loadConfig(file: string, dataFolder?: string): ServerConfig {
  const source = basename(file)
  const config = parseConfig(source, parseJson(source, readText(file)))
  const { sqlite } = config.store
  const folder = dataFolder ?? dirname(file)
  return { ...config, store: { sqlite: sqlite === ':memory:' ? sqlite : resolve(folder, sqlite) } }
}

/** Checks the content of a configuration file; every complaint is one line that names the key. */
export function parseConfig(source: string, content: unknown): ServerConfig {
  const parsed = schema.safeParse(content)
  if (!parsed.success) {
    const [first, ...others] = parsed.error.issues
    const more = others.length > 0 ? ` (And ${others.length} more.)` : ''
    throw new ConfigError(`${source}: ${first ? complaint(first, content) : 'is not valid.'}${more}`)
  }
  const config = { source, demo: false, ...parsed.data }
  checkIssuer(config)
  checkUnique(config)
  for (const entry of config.egress.allow) {
    if (!isNetworkOrHost(entry)) {
      throw new ConfigError(
        `${source}: "egress.allow" has "${entry}", which is neither a CIDR nor a host name. ${advice['egress.allow']}`,
      )
    }
  }
  return config
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : 'unknown error'
    const why = code === 'ENOENT' ? 'does not exist' : `cannot be read (${code})`
    throw new ConfigError(`The configuration file ${file} ${why}. Check the path after --config.`, { cause })
  }
}

function parseJson(source: string, content: string): unknown {
  try {
    return JSON.parse(content.replace(/^\uFEFF/, ''))
  } catch (cause) {
    // The engine's message quotes the file, secrets included: only the position is safe to repeat.
    const place = cause instanceof Error ? /line \d+ column \d+/.exec(cause.message)?.[0] : undefined
    throw new ConfigError(
      `${source} is not valid JSON${place ? `: look at ${place}` : ''}. Check quotes, commas and brackets there.`,
    )
  }
}

function complaint(issue: z.core.$ZodIssue, content: unknown): string {
  const path = issue.path.map((part) => (typeof part === 'symbol' ? String(part) : part))
  const owner = ownerOf(path, content)
  const key = spell(path)
  const plain = path.filter((part) => typeof part === 'string').join('.')
  const help = advice[plain] ?? 'Correct it.'
  if (issue.code === 'unrecognized_keys') {
    const names = issue.keys.map((name) => `"${spell([...path, name])}"`).join(', ')
    const known = Object.keys(advice).filter(
      (name) => name.startsWith(plain) && name.split('.').length === depth(plain),
    )
    return `${names}${owner} is not a known key. Remove it or correct its spelling; known are ${known
      .map((name) => name.slice(name.lastIndexOf('.') + 1))
      .join(', ')}.`
  }
  if (path.length === 0) return 'must hold one JSON object. Start it with { and end it with }.'
  const value = path.reduce<unknown>((at, part) => Object(at)[part], content)
  if (value === undefined) return `"${key}"${owner} is missing. ${help}`
  if (issue.code === 'invalid_type') {
    return `"${key}"${owner} must be ${article(issue.expected)}, not ${article(kindOf(value))}. ${help}`
  }
  if (issue.code === 'too_small' && issue.origin === 'string') return `"${key}"${owner} must not be empty. ${help}`
  return `"${key}"${owner} is out of range. ${help}`
}

/** Who a key belongs to, in words: ` of client "mail"`. */
function ownerOf(path: readonly (string | number)[], content: unknown): string {
  const [list, index] = path
  if (typeof index !== 'number' || typeof content !== 'object' || content === null) return ''
  const entry: unknown = Object(Object(content)[String(list)])[index]
  const name = Object(entry)[list === 'clients' ? 'client_id' : 'username']
  if (typeof name !== 'string' || name === '') return ''
  return list === 'clients' ? ` of client "${name}"` : list === 'accounts' ? ` of account "${name}"` : ''
}

function spell(path: readonly (string | number)[]): string {
  return path.map((part, i) => (typeof part === 'number' ? `[${part}]` : i === 0 ? part : `.${part}`)).join('')
}

function depth(plain: string): number {
  return plain === '' ? 1 : plain.split('.').length + 1
}

function kindOf(value: unknown): string {
  return value === null ? 'null' : Array.isArray(value) ? 'array' : typeof value
}

function article(kind: string): string {
  const words: Readonly<Record<string, string>> = {
    string: 'text',
    array: 'a list',
    object: 'an object',
    record: 'an object',
    int: 'a whole number',
    number: 'a number',
    boolean: 'true or false',
  }
  return words[kind] ?? kind
}

function checkIssuer({ source, issuer }: ServerConfig): void {
  const url = URL.parse(issuer)
  const plain = url && (url.protocol === 'https:' || url.protocol === 'http:') && !url.search && !url.hash
  if (!plain || url.username || url.password) {
    throw new ConfigError(`${source}: "issuer" must be an https URL without query or fragment. ${advice.issuer}`)
  }
}

function checkUnique({ source, clients, accounts }: ServerConfig): void {
  const twice = (values: readonly string[]) => values.find((value, i) => values.indexOf(value) !== i)
  const clientId = twice(clients.map((client) => client.client_id))
  if (clientId !== undefined) {
    throw new ConfigError(
      `${source}: "clients" has client_id "${clientId}" twice. Give every client its own client_id.`,
    )
  }
  const username = twice(accounts.map((account) => account.username))
  if (username !== undefined) {
    throw new ConfigError(
      `${source}: "accounts" has username "${username}" twice. Give every account its own username.`,
    )
  }
  for (const account of accounts) {
    const sub = subjectOf(account)
    if (typeof sub !== 'string' || !/^[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?$/.test(sub)) {
      throw new ConfigError(
        `${source}: "claims.sub" of account "${account.username}" (or its username) must be 1 to 255 ASCII characters. ` +
          'Write such a claims.sub.',
      )
    }
  }
  const sub = twice(accounts.map((account) => String(subjectOf(account))))
  if (sub !== undefined) {
    throw new ConfigError(`${source}: two "accounts" have the subject "${sub}". Give each its own "claims.sub".`)
  }
}

/** The subject of an account: `claims.sub`, else its username. */
export function subjectOf(account: ConfiguredAccount): unknown {
  return account.claims.sub ?? account.username
}
