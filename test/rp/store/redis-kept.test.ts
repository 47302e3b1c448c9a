import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { SessionEnd } from '../../../src/protocol/session-document.ts'
import { redisStore } from '../../../src/rp-redis.ts'
import {
  frozenClock,
  identity,
  opened,
  START,
  someNotice,
  someSession,
  statesOf,
} from '../../../src/testing/rp-store-bench.ts'
import { hasRedis, startRedis, type TestRedis } from '../../support/redis.ts'

let redis: TestRedis
let prefixes = 0

beforeAll(async () => {
  if (hasRedis) redis = await startRedis()
})
afterAll(() => redis?.close())

function openBench() {
  const clock = frozenClock()
  const prefix = `test${++prefixes}`
  const store = redisStore({ host: '127.0.0.1', port: redis.port }, { prefix, clock: clock.now })
  const rp = store.forClient(identity, clock)
  return {
    store,
    clock,
    rp,
    /** The one key that ends so. */
    async keyOf(end: string): Promise<string> {
      const keys = (await redis.command('KEYS', `${prefix}:{*}${end}`)) as readonly string[]
      expect(keys).toHaveLength(1)
      return keys[0] ?? ''
    },
    owed: async () => (await rp.claimOwed({ limit: 9, lease: 60_000 })).map(({ debt }) => debt),
  }
}

const framed: SessionEnd = { cause: 'frontchannel', at: START }
const offline = { sealed: 'offline', offline: true }
const online = { sealed: 'online', offline: false }

describe.runIf(hasRedis)('what the front channel ended in Redis', () => {
  it('is found until its absolute expiry, whatever it leaves [BC §2.7] [T7]', async () => {
    const { store, rp, clock, keyOf, owed } = openBench()
    await opened(rp, someSession({ handle: 'h', sid: 's', refreshToken: offline }))
    await rp.deleteBySid('s', framed)
    for (const end of [':rp:h', ':sid:s', ':sub:ada']) {
      expect(Number(await redis.command('PTTL', await keyOf(end)))).toBeGreaterThan(86_000_000)
    }
    clock.pass(86_399)
    const late = { watermark: START + 86_399, jtiExpiresAt: START + 90_000, watermarkExpiresAt: START + 172_800 }
    await rp.endBy({ sid: 's' }, someNotice({ ...late, revokeOffline: true }))
    expect(await owed()).toEqual(['offline'])
    await store.close()
  })

  it('stays ended when the clock goes back, as in a failover', async () => {
    const { store, rp, clock } = openBench()
    const session = someSession({ sid: 's' })
    await opened(rp, session)
    clock.pass(60)
    await rp.deleteBySid('s', framed)
    clock.pass(-5)
    expect(await rp.get(session.handle)).toEqual({ state: 'ended', publicId: session.publicId, end: framed })
    expect(await rp.updateIfExists(session.handle, { idleExpiresAt: START + 9_000 })).toBe(false)
    expect(await rp.listBySub('ada')).toEqual([])
    await store.close()
  })
})

describe.runIf(hasRedis)('what an earlier version left in Redis', () => {
  it('is an RP session that does not say when its login was asked for', async () => {
    const { store, rp, keyOf } = openBench()
    const session = someSession({ handle: 'h', createdAt: START - 5, requestedAt: (START - 9) * 1000 })
    await opened(rp, session)
    expect(await redis.command('HDEL', await keyOf(':rp:h'), 'requested')).toBe(1)
    const found = await rp.get('h')
    expect(found).toEqual({ state: 'alive', session: { ...session, requestedAt: (START - 5) * 1000 } })
    await store.close()
  })

  it('is what the front channel had ended: owed at its absolute expiry', async () => {
    const { store, rp, clock, keyOf, owed } = openBench()
    const late = { idleExpiresAt: START + 172_800, expiresAt: START + 172_800 }
    await opened(rp, someSession({ handle: 'h', sid: 's', refreshToken: online }))
    const key = await keyOf(':rp:h')
    await redis.command('HDEL', key, 'idle', 'rest', 'tokens', 'requested')
    await redis.command('HSET', key, 'ended', JSON.stringify(framed))
    expect(await rp.get('h')).toEqual({ state: 'ended', publicId: 'public-h', end: framed })
    await rp.endBy({ sid: 's' }, someNotice())
    expect(await owed()).toEqual([])
    clock.pass(86_461)
    await opened(rp, someSession({ ...late, requestedAt: await rp.now() }))
    expect(await owed()).toEqual(['online'])
    expect(await statesOf(rp, 'h')).toEqual(['none'])
    await store.close()
  })
})
