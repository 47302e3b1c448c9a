import { randomBytes } from 'node:crypto'
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import {
  type OpIssuerStore,
  type OpSecrets,
  type OpStore,
  openSecrets,
  type RotationOptions,
  rotateKeys,
  type SecretsOptions,
  type SigningAlgorithm,
} from 'lockstep/op'
import type { ServerConfig } from './config.ts'
import { ConfigError } from './config-error.ts'

/** Keys of 32 bytes in base64url, separated by commas: the first encrypts, all decrypt. */
const VARIABLE = 'LOCKSTEP_SECRETS_KEY'

/** What a server's OPs are built with, one after the other. */
export interface ServerSecrets {
  /** Under these the secrets are encrypted in the store; empty where that is in memory. */
  readonly encryptionKeys: readonly Uint8Array[]
  /**
   * Reads what stands in the store now.
   *
   * @throws ConfigError when no key fits, or the store cannot be used.
   */
  read(): Promise<OpSecrets>
}

/**
 * Opens the OP's secrets, encrypted in the store under a key from the environment or from a file that nobody else may read
 * (T6); the first start makes both.
 *
 * @throws ConfigError when there is no such key.
 */
export function serverSecrets(store: OpStore, config: ServerConfig): ServerSecrets {
  const options = secretsOptions(config)
  let ofIssuer: OpIssuerStore | undefined // for each one SQLite prepares all its statements: one for all looks
  const looked: OpStore = {
    forIssuer: (...asked) => {
      ofIssuer ??= store.forIssuer(...asked)
      return ofIssuer
    },
    close: () => store.close(),
  }
  return {
    encryptionKeys: options.encryptionKeys ?? [],
    read: () => explained(config, () => openSecrets(looked, config.issuer, options)),
  }
}

/** Rotates the signing keys in the store of a configuration; returns the `kid`s that sign from the next start on. */
export async function rotateServerKeys(
  store: OpStore,
  config: ServerConfig,
  rotation: Pick<RotationOptions, 'compromised'>,
): Promise<readonly string[]> {
  return explained(config, () => rotateKeys(store, config.issuer, { ...secretsOptions(config), ...rotation }))
}

async function explained<T>({ source, secrets, store }: ServerConfig, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? cause.code : undefined
    if (code === 'key_too_young' || code === 'key_unknown')
      throw new ConfigError(`${(cause as Error).message}.`, { cause })
    if ('postgres' in store && code !== 'secrets_unreadable') {
      const why = cause instanceof Error ? cause.message : String(cause) // the first time that PostgreSQL is asked
      throw new ConfigError(
        `${source}: "store.postgres" cannot be used: ${why}. Start the database, or correct the connection string.`,
        { cause },
      )
    }
    if (code !== 'secrets_unreadable') throw cause
    throw new ConfigError(
      `${source}: the secrets in the store are encrypted under another key than ${VARIABLE} or ${secrets.key_file} holds. Put that key back.`,
      { cause },
    )
  }
}

function secretsOptions(config: ServerConfig): SecretsOptions {
  const named = config.clients.map(({ id_token_signed_response_alg: alg }) => alg).filter(isOurs)
  const algorithms = [...new Set<SigningAlgorithm>([config.signing_alg, 'RS256', 'ES256', ...named])]
  if ('sqlite' in config.store && config.store.sqlite === ':memory:') return { algorithms }
  return { algorithms, encryptionKeys: keysFromEnvironment() ?? [keyFromFile(config)] }
}

function isOurs(alg: unknown): alg is SigningAlgorithm {
  return alg === 'PS256' || alg === 'EdDSA' || alg === 'RS256' || alg === 'ES256'
}

function keysFromEnvironment(): Uint8Array[] | undefined {
  const value = process.env[VARIABLE]
  if (!value) return undefined
  return value.split(',').map((text) => decoded(text, VARIABLE))
}

function keyFromFile({ source, secrets: { key_file: file } }: ServerConfig): Uint8Array {
  try {
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 })
    writeFileSync(file, `${randomBytes(32).toString('base64url')}\n`, { mode: 0o600, flag: 'wx' })
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : 'unknown error'
    if (code !== 'EEXIST') {
      throw new ConfigError(
        `${source}: "secrets.key_file" cannot be written at ${file} (${code}). Write a path this program may write, or set ${VARIABLE}.`,
        { cause },
      )
    }
  }
  if (process.platform !== 'win32' && (statSync(file).mode & 0o077) !== 0) {
    throw new ConfigError(`${source}: "secrets.key_file" may be read by others. Run: chmod 600 ${file}`)
  }
  return decoded(readFileSync(file, 'utf8').trim(), file)
}

function decoded(text: string, where: string): Uint8Array {
  const key = Buffer.from(text, 'base64url')
  if (key.length !== 32) throw new ConfigError(`${where} must hold 32 bytes in base64url: openssl rand -base64 32`)
  return key
}
