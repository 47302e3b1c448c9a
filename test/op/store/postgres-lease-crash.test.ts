import { afterAll, beforeAll, expect, it } from 'vitest'
import { postgresStore } from '../../../src/op-postgres.ts'
import { owe } from '../../../src/testing/op-store-bench.ts'
import { startPostgres, type TestPostgres } from '../../support/postgres.ts'

let postgres: TestPostgres
beforeAll(async () => {
  postgres = await startPostgres()
}, 60_000)
afterAll(() => postgres.close())

it('does not lease a delivery again under the same fence after PostgreSQL crashed', async () => {
  const runtime = {
    now: () => Date.now(),
    random: (length: number) => crypto.getRandomValues(new Uint8Array(length)),
    pass: () => {},
  }
  const open = () => {
    const store = postgresStore({ connectionString: postgres.connectionString })
    return { store, issuer: store.forIssuer('https://op.example', runtime) }
  }
  const first = open()
  await owe({ op: first.issuer, runtime }, 'u1', ['rp'])
  const [claimed] = await first.issuer.claimDue({ limit: 10, lease: 35_000 })
  expect(claimed?.fence).toBe(1)

  await postgres.stop('immediate')
  await postgres.start()
  await first.store.close()

  const other = open()
  expect(await other.issuer.claimDue({ limit: 10, lease: 35_000 })).toEqual([])
  const chosen = claimed && (await other.issuer.claimEarly({ deliveryId: claimed.id }, 35_000))
  expect(chosen).toBeUndefined()
  await other.store.close()
}, 60_000)
