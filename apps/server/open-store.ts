import { mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import type { OpStore } from 'lockstep/op'
import { postgresStore } from 'lockstep/op/postgres'
import { sqliteStore } from 'lockstep/op/sqlite'
import type { ServerConfig } from './config.ts'
import { ConfigError } from './config-error.ts'

/** Opens what `store` names. @throws ConfigError when that cannot be right. */
export function openStore({ source, store }: ServerConfig): OpStore {
  if ('postgres' in store) {
    try {
      return postgresStore({ connectionString: store.postgres, allowInsecure: store.allowInsecure })
    } catch (cause) {
      throw new ConfigError(`${source}: "store.postgres": ${messageOf(cause)}.`, { cause })
    }
  }
  const { sqlite } = store
  try {
    if (sqlite !== ':memory:') mkdirSync(dirname(sqlite), { recursive: true, mode: 0o700 })
    return sqliteStore(sqlite)
  } catch (cause) {
    throw new ConfigError(
      `${source}: "store.sqlite" cannot be opened at ${sqlite}: ${messageOf(cause)}. Write the path of a file this program may write.`,
      { cause },
    )
  }
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause)
}
