import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type PostgresStoreOptions, postgresStore } from '../../../src/rp-postgres.ts'
import { rpStoreContract } from '../../../src/testing.ts'
import { hasPostgres, startPostgres, type TestPostgres } from '../../support/postgres.ts'

let postgres: TestPostgres
let schemas = 0

beforeAll(async () => {
  if (hasPostgres) postgres = await startPostgres()
})
afterAll(() => postgres?.close())

describe.runIf(hasPostgres)('postgresStore', () => {
  rpStoreContract(
    { describe, it },
    {
      durable: true,
      async open(clock) {
        const options: PostgresStoreOptions = {
          connectionString: postgres.connectionString,
          schema: `rp_${++schemas}`,
          clock: clock.now,
        }
        const store = postgresStore(options)
        return { store, reopen: async () => postgresStore(options), dispose: () => store.close() }
      },
    },
  )
})

it('x', () => expect(1).toBe(1))
