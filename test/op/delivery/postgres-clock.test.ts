import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { resolveBackchannelOptions } from '../../../src/op/delivery/backchannel-options.ts'
import { startOutbox } from '../../../src/op/delivery/outbox.ts'
import { postgresStore } from '../../../src/op-postgres.ts'
import { world } from '../../../src/runtime/runtime.ts'
import { owe } from '../../../src/testing/op-store-bench.ts'
import { hasPostgres, startPostgres, type TestPostgres } from '../../support/postgres.ts'

describe.skipIf(!hasPostgres)('the clock of the database', () => {
  let postgres: TestPostgres
  beforeAll(async () => {
    postgres = await startPostgres()
  }, 60_000)
  afterAll(() => postgres?.close())

  it('set back by an hour delays nothing by an hour', async () => {
    let off = 0
    const clock = (): number => Date.now() + off
    const store = postgresStore({ connectionString: postgres.connectionString, clock })
    const op = store.forIssuer('https://op.example', world)
    let status = 503
    const outbox = startOutbox({
      store: op,
      options: resolveBackchannelOptions(),
      log: () => {},
      runtime: {
        ...world,
        post: async (request) => {
          await request.body()
          return { status, headers: {}, body: '' }
        },
      },
      findReceiver: async () => ({ url: 'https://notes.example/', isRegistered: false }),
      mint: async () => 'token',
    })
    const { logout } = await owe({ op, runtime: { ...world, pass: () => {} } }, 'u', ['notes'])
    const found = async () => (await op.getLogout(logout.id))?.deliveries[0]
    outbox.wake()
    await expect.poll(found, { timeout: 20_000 }).toMatchObject({ state: 'due', attempts: 1 })
    off = -3_600_000
    status = 200
    outbox.wake()
    await expect.poll(found, { timeout: 20_000 }).toMatchObject({ state: 'delivered' })
    await outbox.stop()
    await store.close()
  })
})
