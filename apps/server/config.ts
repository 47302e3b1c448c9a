import { readFileSync } from 'node:fs'
import { basename, dirname, resolve } from 'node:path'
import type { SigningAlgorithm } from 'lockstep/op'
import { z } from 'zod'
import { advice, complaintOf } from './config-complaint.ts'
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

/** Where logins are kept: the absolute path of a SQLite file (or `:memory:`), or a PostgreSQL connection string. */
export type ConfiguredStore =
  | { readonly sqlite: string }
  | { readonly postgres: string; readonly allowInsecure: boolean }

/** What the server runs on, checked; past this point nothing is optional. */
export interface ServerConfig {
  /** Names the file in messages. */
  readonly source: string
  readonly issuer: string
  readonly listen: { readonly host: string; readonly port: number }
  readonly store: ConfiguredStore
  readonly clients: readonly ConfiguredClient[]
  readonly accounts: readonly ConfiguredAccount[]
  readonly egress: {
    readonly allow: readonly string[]
    readonly proxy?: string | undefined
    readonly proxyEnforces?: boolean | undefined
  }
  /** Absolute paths of PEM files; with them the server speaks TLS itself. */
  readonly tls?: { readonly cert: string; readonly key: string } | undefined
  /** What ID Tokens and Logout Tokens are signed with where a client's metadata does not say. */
  readonly signing_alg: SigningAlgorithm
  /** Where the key is that encrypts the OP's secrets in the store; an absolute path. */
  readonly secrets: { readonly key_file: string }
  /** True for the built-in demo: accounts are shown on the login page. */
  readonly demo: boolean
}

const text = z.string().min(1)

const schema = z.strictObject({
  issuer: text,
  listen: z.strictObject({ host: text.default('127.0.0.1'), port: z.number().int().min(1).max(65_535) }),
  store: z.strictObject({ sqlite: text.optional(), postgres: text.optional(), allowInsecure: z.boolean().optional() }),
  clients: z.array(z.looseObject({ client_id: text, client_secret: text.optional() })),
  accounts: z.array(
    z.strictObject({ username: text, password: text, claims: z.record(z.string(), z.unknown()).default({}) }),
  ),
  egress: z
    .strictObject({
      allow: z.array(text).default([]),
      proxy: z.url({ protocol: /^https?$/ }).optional(),
      proxyEnforces: z.boolean().optional(),
    })
    .default({ allow: [] }),
  tls: z.strictObject({ cert: text, key: text }).optional(),
  signing_alg: z.enum(['RS256', 'PS256', 'ES256', 'EdDSA']).default('RS256'),
  secrets: z.strictObject({ key_file: text.default('op.key') }).default({ key_file: 'op.key' }),
})

/**
 * Reads a configuration file.
 *
 * @param file Its path; a relative `store.sqlite` or `secrets.key_file` is taken from `dataFolder`, else from the file's own folder.
 * @throws ConfigError naming the key, and the client or account it belongs to.
 */
export function loadConfig(file: string, dataFolder?: string): ServerConfig {
  const source = basename(file)
  const config = parseConfig(source, parseJson(source, readText(file)))
  const { store, secrets, tls } = config
  const folder = dataFolder ?? dirname(file)
  const inFolder = 'sqlite' in store && store.sqlite !== ':memory:' ? { sqlite: resolve(folder, store.sqlite) } : store
  return {
    ...config,
    store: inFolder,
    secrets: { key_file: resolve(folder, secrets.key_file) },
    tls: tls && { cert: resolve(dirname(file), tls.cert), key: resolve(dirname(file), tls.key) },
  }
}

/** Checks the content of a configuration file; every complaint is one line that names the key. */
export function parseConfig(source: string, content: unknown): ServerConfig {
  const parsed = schema.safeParse(content)
  if (!parsed.success) {
    // a misspelt key comes before the one that is missing because of it
    const [first, ...others] = parsed.error.issues.toSorted((a, b) => rank(a) - rank(b))
    const more = others.length > 0 ? ` (And ${others.length} more.)` : ''
    throw new ConfigError(`${source}: ${first ? complaintOf(first, content) : 'is not valid.'}${more}`)
  }
  const config = { source, demo: false, ...parsed.data, store: storeOf(source, parsed.data.store) }
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

function storeOf(
  source: string,
  { sqlite, postgres, allowInsecure }: z.infer<typeof schema>['store'],
): ConfiguredStore {
  if (sqlite !== undefined && postgres !== undefined) {
    throw new ConfigError(`${source}: "store" names both "sqlite" and "postgres". Remove one of them.`)
  }
  if (postgres !== undefined) return { postgres, allowInsecure: allowInsecure ?? false }
  if (sqlite === undefined) {
    throw new ConfigError(`${source}: "store.sqlite" or "store.postgres" is missing. ${advice.store}`)
  }
  if (allowInsecure !== undefined) {
    throw new ConfigError(`${source}: "store.allowInsecure" belongs to "store.postgres". Remove it.`)
  }
  return { sqlite }
}

function rank(issue: z.core.$ZodIssue): number {
  return issue.code === 'unrecognized_keys' ? 0 : 1
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

function checkIssuer({ source, issuer, tls }: ServerConfig): void {
  const url = URL.parse(issuer)
  const plain = url && (url.protocol === 'https:' || url.protocol === 'http:') && !url.search && !url.hash
  if (!plain || url.username || url.password) {
    throw new ConfigError(`${source}: "issuer" must be an https URL without query or fragment. ${advice.issuer}`)
  }
  if (tls && url.protocol === 'http:') {
    throw new ConfigError(`${source}: "tls" needs an "issuer" that is an https URL. ${advice.issuer}`)
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
