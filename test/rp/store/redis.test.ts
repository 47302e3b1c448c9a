import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { redisStore } from '../../../src/rp-redis.ts'
import { rpStoreContract } from '../../../src/testing.ts'
import { hasRedis, startRedis, type TestRedis } from '../../support/redis.ts'

let redis: TestRedis
let prefixes = 0

beforeAll(async () => {
  if (hasRedis) redis = await startRedis(['appendonly yes', 'appendfsync always'])
})
afterAll(() => redis?.close())

describe.runIf(hasRedis)('redisStore', () => {
  rpStoreContract(
    { describe, it },
    {
      durable: true,
      shared: true,
      async open(clock) {
        const place = { host: '127.0.0.1', port: redis.port }
        const options = { prefix: `test${++prefixes}`, clock }
        const store = redisStore(place, options)
        return { store, reopen: async () => redisStore(place, options), dispose: () => store.close() }
      },
    },
  )
})

it('x', () => expect(1).toBe(1))
