import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'vitest'
import { sqliteStore } from '../../../src/op-sqlite.ts'
import { opStoreContract } from '../../../src/testing.ts'

describe('in memory', () => {
  opStoreContract(
    { describe, it },
    {
      durable: false,
      open: async () => {
        const store = sqliteStore(':memory:')
        return { store, dispose: () => store.close() }
      },
    },
  )
})

describe('in a file', () => {
  opStoreContract(
    { describe, it },
    {
      durable: true,
      open: async () => {
        const folder = await mkdtemp(join(tmpdir(), 'lockstep-op-store-'))
        const store = sqliteStore(join(folder, 'op.db'))
        return {
          store,
          reopen: async () => sqliteStore(join(folder, 'op.db')),
          dispose: async () => {
            await store.close()
            await rm(folder, { recursive: true })
          },
        }
      },
    },
  )
})
