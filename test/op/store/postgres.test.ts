import { afterAll, beforeAll, describe, it } from 'vitest'
import { postgresStore } from '../../../src/op-postgres.ts'
import { opStoreContract } from '../../../src/testing.ts'
import { hasPostgres, startPostgres, type TestPostgres } from '../../support/postgres.ts'

let postgres: TestPostgres
let made = 0

describe.skipIf(!hasPostgres)('in PostgreSQL', () => {
  beforeAll(async () => {
    postgres = await startPostgres()
  }, 60_000)
  afterAll(() => postgres?.close())

  opStoreContract(
    { describe, it },
    {
      durable: true,
      shared: true,
      open: async (clock) => {
        const options = { connectionString: postgres.connectionString, schema: `contract_${++made}`, clock }
        const store = postgresStore(options)
        return {
          store,
          reopen: async () => postgresStore(options),
          dispose: () => store.close(),
        }
      },
    },
  )
})
