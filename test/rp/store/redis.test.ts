import { Cluster, Redis } from 'ioredis'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type RedisPlace, type RedisStoreOptions, redisStore } from '../../../src/rp-redis.ts'
import {
  frozenClock,
  identity,
  opened,
  someNotice,
  someSession,
  statesOf,
} from '../../../src/testing/rp-store-bench.ts'
import { rpStoreContract } from '../../../src/testing.ts'
import { hasRedis, startCluster, startRedis, type TestRedis } from '../../support/redis.ts'

let redis: TestRedis
let prefixes = 0

beforeAll(async () => {
  if (hasRedis) redis = await startRedis(['appendonly yes', 'appendfsync always'])
})
afterAll(() => redis?.close())

/** A store under a prefix of its own. */
function openBench(more: RedisStoreOptions = {}, place: RedisPlace = { host: '127.0.0.1', port: redis.port }) {
  const clock = frozenClock()
  const options = { prefix: `test${++prefixes}`, clock: clock.now, ...more }
  const store = redisStore(place, options)
  return { store, place, options, clock, rp: store.forClient(identity, clock) }
}

/** The keys of a store, without its prefix and the client. */
async function keysOf(prefix: string): Promise<readonly string[]> {
  const keys = (await redis.command('KEYS', `${prefix}:{*`)) as readonly string[]
  return keys.map((key) => key.replace(/^[^}]*\}/, '')).sort()
}

describe.runIf(hasRedis)('redisStore on one server', () => {
  rpStoreContract(
    { describe, it },
    {
      durable: true,
      shared: true,
      async open(clock) {
        const { store, place, options } = openBench({ clock })
        return { store, reopen: async () => redisStore(place, options), dispose: () => store.close() }
      },
    },
  )
})

describe.runIf(hasRedis)('redisStore on a cluster of three masters', () => {
  let nodes: readonly TestRedis[] = []
  let app: Cluster

  beforeAll(async () => {
    nodes = await startCluster()
    app = new Cluster(nodes.map(({ port }) => ({ host: '127.0.0.1', port })))
  })
  afterAll(async () => {
    app.disconnect()
    await Promise.all(nodes.map((node) => node.close()))
  })

  rpStoreContract(
    { describe, it },
    {
      durable: true,
      shared: true,
      async open(clock) {
        const { store, options } = openBench({ clock }, app)
        return { store, reopen: async () => redisStore(app, options), dispose: () => store.close() }
      },
    },
  )

  it('serves many requests that come before it is connected [BC §2.8]', async () => {
    for (let round = 0; round < 5; round++) {
      const { store, rp } = openBench({ replicas: 1, replicaTimeout: 0.1 }, app)
      const found = await Promise.all(Array.from({ length: 30 }, (_, i) => rp.get(`handle ${i}`)))
      expect(new Set(found)).toEqual(new Set([undefined]))
      await expect(rp.endBy({ sid: 's' }, someNotice())).rejects.toThrow('0 of 1') // these masters have no replicas
      await store.close()
    }
  })

  it('keeps one client in one slot, and spreads clients over the masters [T20]', async () => {
    const { store, clock, options } = openBench({}, app)
    for (let i = 0; i < 30; i++) {
      const rp = store.forClient({ ...identity, clientId: `client ${i}` }, clock)
      await opened(rp, someSession({ sid: 's', refreshToken: { sealed: 'token', offline: false } }), someSession())
      await rp.endBy({ sid: 's' }, someNotice())
    }
    const found = await Promise.all(nodes.map((node) => node.command('KEYS', `${options.prefix}:*`)))
    const clients = (found as readonly string[][]).map((keys) => new Set(keys.map((key) => /\{.*?\}/.exec(key)?.[0])))
    for (const { size } of clients) expect(size).toBeGreaterThan(0)
    expect(clients.reduce((sum, { size }) => sum + size, 0)).toBe(30)
    await store.close()
  })
})

describe.runIf(hasRedis)('redisStore', () => {
  it('takes the time from the server, not from the node [T3]', async () => {
    const { store, place } = openBench()
    const real = redisStore(place, { prefix: `test${++prefixes}` })
    const [seconds = 0] = (await redis.command('TIME')) as readonly string[]
    const now = await real.forClient(identity, { now: () => 0 }).now()
    expect(Math.abs(now / 1000 - Number(seconds))).toBeLessThan(60)
    await real.close()
    await store.close()
  })

  it('needs one round trip for a logout, whatever it ends [BC §2.7]', async () => {
    const { store, rp } = openBench()
    await opened(rp, ...Array.from({ length: 20 }, () => someSession({ sid: 's' })))
    await rp.endBy({ sid: 'nobody' }, someNotice())
    const received = async () => {
      const info = String(await redis.command('INFO', 'commandstats'))
      return ['eval', 'evalsha', 'publish', 'script|load', 'get', 'wait'].map((name) =>
        Number(new RegExp(`cmdstat_${name.replace('|', '\\|')}:calls=(\\d+)`).exec(info)?.[1] ?? 0),
      )
    }
    const [evals = 0, shas = 0] = await received()
    await rp.endBy({ sid: 's' }, someNotice())
    const [evalsNow, shasNow] = await received()
    expect([evalsNow, shasNow]).toEqual([evals, shas + 1])
    await store.close()
  })

  it('tells other nodes of a logout in one message, whatever it ends [T18]', async () => {
    const { store, rp, options, place, clock } = openBench()
    const handles = await opened(rp, someSession({ sid: 's' }), someSession({ sid: 's' }))
    const other = redisStore(place, options)
    const there = other.forClient(identity, clock)
    const hints = [...handles, { sid: 's' }].map(async (to) => {
      const hint = Promise.withResolvers<void>()
      await there.subscribe(to, hint.resolve)
      return hint
    })
    const heard = await Promise.all(hints)
    await redis.command('CONFIG', 'RESETSTAT')
    await rp.endBy({ sid: 's' }, someNotice())
    await Promise.all(heard.map(({ promise }) => promise))
    expect(String(await redis.command('INFO', 'commandstats'))).toContain('cmdstat_publish:calls=1,')
    await other.close()
    await store.close()
  })

  it('knows a replay of whoever of this process claimed the jti [BC §2.6]', async () => {
    const { store, rp, clock } = openBench()
    const again = store.forClient(identity, clock)
    const notice = someNotice()
    expect(await rp.endBy({ sid: 's' }, notice)).toMatchObject({ outcome: 'ended' })
    expect(await again.endBy({ sid: 's' }, notice)).toEqual({ outcome: 'replay' })
    await store.close()
  })

  it('does the same work for a logout however many others are signed in [BC §2.7]', async () => {
    const { store, rp } = openBench()
    const workOf = async (sid: string) => {
      await redis.command('CONFIG', 'RESETSTAT')
      await rp.endBy({ sid }, someNotice())
      const info = String(await redis.command('INFO', 'commandstats'))
      return info
        .split('\r\n')
        .flatMap((line) => /^cmdstat_(?!info|config|command)([^:]*):calls=\d+/.exec(line)?.[0] ?? [])
    }
    await opened(rp, someSession({ sid: 'first' }))
    const few = await workOf('first')
    for (let from = 0; from < 20; from++) {
      await Promise.all(Array.from({ length: 250 }, (_, i) => rp.create(someSession({ sub: `u${from}-${i}` }))))
    }
    await opened(rp, someSession({ sid: 'last' }))
    expect(await workOf('last')).toEqual(few)
    expect(few.join()).not.toMatch(/scan|keys/)
    await store.close()
  })

  it('lets nothing live longer than it must [T30]', async () => {
    const { store, rp, options } = openBench()
    const [handle = ''] = await opened(rp, someSession({ sid: 's', sub: 'u' }), someSession({ sub: 'v' }))
    await rp.endBy({ sid: 's' }, someNotice())
    expect(await statesOf(rp, handle)).toEqual(['ended'])
    const keys = (await redis.command('KEYS', `${options.prefix}:{*`)) as readonly string[]
    expect(keys.length).toBeGreaterThan(4)
    for (const key of keys) {
      const left = Number(await redis.command('PTTL', key))
      expect(left).toBeGreaterThan(0)
      expect(left).toBeLessThanOrEqual(86_400_000)
    }
    await store.close()
  })

  it('clears away index entries whose RP session is gone [BC §2.7] [A39]', async () => {
    const { store, rp, options } = openBench()
    const [gone = '', there = ''] = await opened(rp, someSession({ sid: 's' }), someSession({ sid: 's' }))
    const [key = ''] = (await redis.command('KEYS', `${options.prefix}:{*}:rp:${gone}`)) as readonly string[]
    await redis.command('DEL', key)
    expect((await rp.listBySub('ada')).map(({ handle }) => handle)).toEqual([there])
    expect(await rp.endBy({ sid: 's' }, someNotice())).toMatchObject({
      outcome: 'ended',
      sessions: [{ handle: there }],
    })
    expect((await keysOf(options.prefix)).filter((name) => name.startsWith(':sid:'))).toEqual([])
    await store.close()
  })

  it('copies the instance of the app, with its key prefix, and leaves it alone [T20]', async () => {
    const app = new Redis({ host: '127.0.0.1', port: redis.port, keyPrefix: 'app:' })
    const { store, rp, options, clock } = openBench({}, app)
    const [handle = ''] = await opened(rp, someSession({ sid: 's' }))
    const other = redisStore(app, options)
    const there = other.forClient(identity, clock)
    const hint = Promise.withResolvers<void>()
    await there.subscribe(handle, hint.resolve)
    await rp.endBy({ sid: 's' }, someNotice())
    await hint.promise
    expect(await statesOf(there, handle)).toEqual(['ended'])
    expect(await redis.command('KEYS', `${options.prefix}:{*`)).toEqual([])
    expect(await redis.command('KEYS', `app:${options.prefix}:{*`)).not.toEqual([])
    await store.close()
    await other.close()
    expect(await app.ping()).toBe('PONG')
    app.disconnect()
  })

  it('takes hints for hints: a forged one changes nothing [T18]', async () => {
    const { store, rp, options } = openBench()
    const [handle = ''] = await opened(rp, someSession({ sid: 's' }))
    const hints: string[] = []
    const channels = async () => redis.command('PUBSUB', 'CHANNELS', `${options.prefix}:*`)
    let wake = (): void => {}
    await rp.subscribe(handle, () => {
      hints.push('hint')
      wake()
    })
    expect(await channels()).toEqual([`${options.prefix}:hints`])
    const told = new Promise<void>((resolve) => {
      wake = resolve
    })
    const [key = ''] = (await redis.command('KEYS', `${options.prefix}:{*}:rp:*`)) as readonly string[]
    const scope = /\{(.*)\}/.exec(key)?.[1]
    const name = await redis.command('EVAL', 'return redis.sha1hex(ARGV[1])', '0', `${scope} ${handle}`)
    await redis.command('PUBLISH', `${options.prefix}:hints`, 'forged')
    await redis.command('PUBLISH', `${options.prefix}:hints`, `forged ${name}`)
    await told
    expect(hints).toEqual(['hint'])
    expect(await statesOf(rp, handle)).toEqual(['alive'])
    await store.close()
  })

  it('hints at everything when it may have missed something, and hears again [T18]', async () => {
    const { store, rp, options, place, clock } = openBench()
    const other = redisStore(place, options)
    const [handle = ''] = await opened(rp, someSession({ sid: 's' }))
    let wake = (): void => {}
    const next = () =>
      new Promise<void>((resolve) => {
        wake = resolve
      })
    await rp.subscribe(handle, () => wake())
    const again = next()
    await redis.command('CLIENT', 'KILL', 'TYPE', 'pubsub')
    await again
    const hint = next()
    await other.forClient(identity, clock).endBy({ sid: 's' }, someNotice())
    await hint
    expect(await statesOf(rp, handle)).toEqual(['ended'])
    await other.close()
    await store.close()
  })

  it('says what failed without saying what it was to store [T6]', async () => {
    const { store, rp, options } = openBench()
    await opened(rp, someSession())
    const [key = ''] = (await redis.command('KEYS', `${options.prefix}:{*}:sub:ada`)) as readonly string[]
    await redis.command('SET', key, 'not an index')
    const error = await rp.create(someSession({ tokens: 'very secret' })).catch((failure: unknown) => failure)
    expect(error).toMatchObject({ code: 'store_failed' })
    expect(JSON.stringify([error, error instanceof Error && error.cause, String(error)])).not.toContain('very secret')
    await store.close()
  })
})

describe.runIf(hasRedis)('redisStore refuses', () => {
  it.each([
    { prefix: '{x}' },
    { prefix: '' },
    { replicas: -1 },
    { replicas: 0.5 },
    { replicaTimeout: 0 },
    { replicaTimeout: 60 },
  ])('%o as options [T19]', (options) => {
    expect(() => redisStore('redis://localhost', options)).toThrow(TypeError)
  })

  const tls = {}
  it.each<[string, () => RedisPlace]>([
    ['a URL', () => 'redis://user:secret@192.0.2.1:6379'],
    ['TLS without a password', () => 'rediss://192.0.2.1:6379'],
    ['a password without TLS', () => ({ host: '192.0.2.1', password: 'secret' })],
    ['TLS that checks nothing', () => ({ host: '192.0.2.1', password: 's', tls: { rejectUnauthorized: false } })],
    ['sentinels', () => ({ sentinels: [{ host: '192.0.2.1', port: 26379 }], name: 'm' })],
    ['an instance', () => new Redis({ host: '192.0.2.1', lazyConnect: true })],
    ['a cluster', () => new Cluster([{ host: '192.0.2.1', port: 1 }], { lazyConnect: true })],
    ['a cluster by URL', () => new Cluster(['redis://192.0.2.1:1'], { lazyConnect: true, redisOptions: { tls } })],
  ])('to go over the network in clear or unknown: %s [T19]', async (_name, place) => {
    expect(() => redisStore(place())).toThrow(/not protected/)
    expect(() => redisStore(place())).not.toThrow(/secret/)
    await redisStore(place(), { allowInsecure: true }).close()
  })

  it.each<[string, RedisPlace]>([
    ['TLS and a password', { host: '192.0.2.1', password: 'secret', tls }],
    ['a URL with both', 'rediss://user:secret@192.0.2.1:6379'],
    ['a certificate of its own', { host: '192.0.2.1', tls: { cert: 'one' } }],
    ['a socket in the file system', { path: '/run/redis.sock' }],
    ['loopback', 'redis://[::1]:6379'],
  ])('nothing of %s [T19]', async (_name, place) => {
    await redisStore(place).close()
  })

  it('a server that may throw RP sessions away, until it is set right [T19]', async () => {
    const { store, rp } = openBench()
    await redis.command('CONFIG', 'SET', 'maxmemory-policy', 'allkeys-lru')
    await expect(rp.get('any')).rejects.toMatchObject({
      code: 'store_not_durable',
      message: expect.stringContaining('maxmemory-policy allkeys-lru'),
    })
    await redis.command('CONFIG', 'SET', 'maxmemory-policy', 'noeviction')
    expect(await rp.get('any')).toBeUndefined()
    await store.close()
  })
})
