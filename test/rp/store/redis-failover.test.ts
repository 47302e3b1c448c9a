import { connect, createServer } from 'node:net'
import { Cluster } from 'ioredis'
import { afterEach, describe, expect, it } from 'vitest'
import type { EndByResult } from '../../../src/rp/store/contract.ts'
import { redisStore } from '../../../src/rp-redis.ts'
import {
  frozenClock,
  identity,
  opened,
  someNotice,
  someSession,
  statesOf,
} from '../../../src/testing/rp-store-bench.ts'
import { hasRedis, startCluster, startRedis, type TestRedis, until } from '../../support/redis.ts'

const running: { close(): Promise<void> }[] = []
afterEach(async () => {
  for (const one of running.splice(0).reverse()) await one.close()
})

function closing<T extends { close(): Promise<void> }>(one: T): T {
  running.push(one)
  return one
}

const at = ({ port }: TestRedis) => ({ host: '127.0.0.1', port })

/** A master and its replica, in step. */
async function startPair(settings: readonly string[] = []): Promise<readonly [TestRedis, TestRedis]> {
  const master = closing(await startRedis(settings))
  const replica = closing(await startRedis([...settings, `replicaof 127.0.0.1 ${master.port}`]))
  await until(
    async () => String(await replica.command('INFO', 'replication')).includes('master_link_status:up'),
    'a replica',
  )
  return [master, replica]
}

describe.runIf(hasRedis)('redisStore after the 200', () => {
  it('keeps a logout through a crash of the server that has an append-only file [T7]', async () => {
    const redis = closing(await startRedis(['appendonly yes', 'appendfsync always']))
    const clock = frozenClock()
    const rp = closing(redisStore(at(redis), { clock: clock.now })).forClient(identity, clock)
    const refreshToken = { sealed: 'token', offline: false }
    const [handle = '', alive = ''] = await opened(rp, someSession({ sid: 's', refreshToken }), someSession())
    const notice = someNotice()
    const requestedAt = await rp.now()
    clock.pass(1)
    await rp.endBy({ sid: 's' }, notice)
    await redis.kill()
    await redis.start()
    expect(await statesOf(rp, handle, alive)).toEqual(['ended', 'alive'])
    expect(await rp.endBy({ sid: 's' }, notice)).toEqual({ outcome: 'replay' })
    expect((await rp.create(someSession({ sid: 's', requestedAt }))).outcome).toBe('outdated')
    expect(await rp.claimOwed({ limit: 5, lease: 1 })).toHaveLength(1)
  })

  it('keeps a logout that a replica confirmed when the master dies the moment after [T7]', async () => {
    const [master, replica] = await startPair()
    const clock = frozenClock()
    const rp = closing(redisStore(at(master), { clock: clock.now, replicas: 1 })).forClient(identity, clock)
    for (let round = 0; round < 20; round++) await opened(rp, someSession({ handle: `h${round}`, sid: `s${round}` }))
    const notices = Array.from({ length: 20 }, () => someNotice())
    await Promise.all(notices.map((notice, i) => rp.endBy({ sid: `s${i}` }, notice)))
    await master.kill()
    await replica.command('REPLICAOF', 'NO', 'ONE')
    const after = closing(redisStore(at(replica), { clock: clock.now })).forClient(identity, clock)
    for (const [i, notice] of notices.entries()) {
      expect(await statesOf(after, `h${i}`)).toEqual(['ended'])
      expect(await after.endBy({ sid: `s${i}` }, notice)).toEqual({ outcome: 'replay' })
    }
  })

  it('follows Sentinel to the new master, where the logout is [T7]', async () => {
    const [master, replica] = await startPair()
    const lines = [
      `sentinel monitor apps 127.0.0.1 ${master.port} 1`,
      'sentinel down-after-milliseconds apps 400',
      'sentinel failover-timeout apps 3000',
    ]
    const sentinel = closing(await startRedis(lines, 'sentinel'))
    await until(
      async () => String(await sentinel.command('INFO', 'sentinel')).includes('slaves=1'),
      'a Sentinel that knows the replica',
    )
    const clock = frozenClock()
    const place = { sentinels: [at(sentinel)], name: 'apps' }
    const rp = closing(redisStore(place, { clock: clock.now, replicas: 1 })).forClient(identity, clock)
    const [handle = '', other = ''] = await opened(rp, someSession({ sid: 's' }), someSession({ sid: 't' }))
    let hints = 0
    await rp.subscribe(handle, () => hints++)
    const notice = someNotice()
    await rp.endBy({ sid: 's' }, notice)
    const heard = hints
    await master.kill()
    await until(async () => (await statesOf(rp, handle))[0] === 'ended', 'the new master')
    expect(String(await replica.command('INFO', 'replication'))).toContain('role:master')
    expect(await statesOf(rp, other)).toEqual(['alive'])
    await until(async () => hints > heard, 'a hint after the connection broke')
    // The new master has no replica yet: what cannot be made safe is not confirmed.
    await expect(rp.endBy({ sid: 't' }, someNotice())).rejects.toMatchObject({ code: 'store_failed' })
  })
})

describe.runIf(hasRedis)('redisStore on a cluster', () => {
  it('keeps a logout that a replica confirmed when the master of the client dies the moment after [T7]', async () => {
    const nodes = await startCluster(1)
    for (const node of nodes) closing(node)
    const app = new Cluster(nodes.map(at))
    closing({ close: async () => app.disconnect() })
    const clock = frozenClock()
    const rp = closing(redisStore(app, { clock: clock.now, replicas: 1 })).forClient(identity, clock)
    const [handle = '', other = ''] = await opened(rp, someSession({ sid: 's' }), someSession({ sid: 't' }))
    const masters = nodes.slice(0, 3)
    const keys = await Promise.all(masters.map((node) => node.command('KEYS', 'lockstep:*')))
    const owner = masters[keys.findIndex((found) => Array.isArray(found) && found.length > 0)]
    const notice = someNotice()
    await rp.endBy({ sid: 's' }, notice)
    await owner?.kill()
    await until(async () => (await statesOf(rp, handle))[0] === 'ended', 'the new master', 20_000)
    expect(await statesOf(rp, other)).toEqual(['alive'])
    // It has no replica of its own yet. On a busy machine the cluster may be down once more in between, and say so.
    let answer = ''
    const isUp = async (): Promise<boolean> => {
      answer = await rp.endBy({ sid: 't' }, someNotice()).then(() => 'confirmed', String)
      return !answer.includes('CLUSTERDOWN')
    }
    await until(isUp, 'a cluster that is up', 20_000)
    expect(answer).toContain('0 of 1')
    await Promise.all(nodes.map((node) => node.kill()))
    await expect(rp.endBy({ sid: 't' }, someNotice())).rejects.toMatchObject({ code: 'store_failed' })
  }, 40_000)
})

describe.runIf(hasRedis)('redisStore on a server that knows WAITAOF', () => {
  /** Redis 7.0 does not know it: on the way there, the command becomes a script that answers what is wanted. */
  async function startNewer(redis: TestRedis, answer: () => string) {
    const asked: string[] = []
    const wire = (...words: readonly string[]) =>
      `*${words.length}\r\n${words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join('')}`
    const proxy = createServer((client) => {
      const server = connect(redis.port, '127.0.0.1')
      client.on('data', (chunk) => {
        const text = chunk
          .toString('latin1')
          .replace(/\*3\r\n\$7\r\ncommand\r\n\$4\r\nINFO\r\n\$7\r\nWAITAOF\r\n/i, wire('COMMAND', 'INFO', 'GET'))
          .replace(
            /\*4\r\n\$7\r\nwaitaof\r\n\$\d+\r\n(\d+)\r\n\$\d+\r\n(\d+)\r\n\$\d+\r\n(\d+)\r\n/i,
            (_all, ...words) => {
              asked.push(words.slice(0, 3).join(' '))
              return wire('EVAL', `return ${answer()}`, '0')
            },
          )
        server.write(Buffer.from(text, 'latin1'))
      })
      server.pipe(client)
      for (const one of [client, server]) {
        one.on('error', () => {})
        one.on('close', () => {
          client.destroy()
          server.destroy()
        })
      }
    })
    await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve))
    closing({ close: async () => void proxy.close() })
    const address = proxy.address()
    return { asked, port: address !== null && typeof address === 'object' ? address.port : 0 }
  }

  it('waits for the disks instead, its own included [T7]', async () => {
    const redis = closing(await startRedis(['appendonly yes']))
    let answer = '{1, 2}'
    const { asked, port } = await startNewer(redis, () => answer)
    const clock = frozenClock()
    const options = { clock: clock.now, replicas: 2, replicaTimeout: 0.5 }
    const rp = closing(redisStore({ host: '127.0.0.1', port }, options)).forClient(identity, clock)
    const session = someSession({ sid: 's' })
    await opened(rp, session)
    expect(await rp.endBy({ sid: 'nobody' }, someNotice())).toEqual({ outcome: 'ended', sessions: [] })
    expect(asked.at(-1)).toBe('1 2 500')
    for (answer of ['{1, 1}', '{0, 2}']) {
      await expect(rp.endBy({ sid: 's' }, someNotice())).rejects.toMatchObject({ code: 'store_failed' })
    }
    answer = '{1, 3}'
    expect(await rp.endBy({ sid: 's' }, someNotice())).toEqual({ outcome: 'ended', sessions: [session] })
  })

  it('waits for the replicas alone where no append-only file is kept [T7]', async () => {
    const [master] = await startPair()
    const { asked, port } = await startNewer(master, () => '{0, 0}')
    const clock = frozenClock()
    const options = { clock: clock.now, replicas: 1 }
    const rp = closing(redisStore({ host: '127.0.0.1', port }, options)).forClient(identity, clock)
    expect(await rp.endBy({ sid: 's' }, someNotice())).toEqual({ outcome: 'ended', sessions: [] })
    expect(asked).toEqual([])
  })
})

describe.runIf(hasRedis)('redisStore that cannot confirm', () => {
  it('fails a logout that no replica has, and lets the next attempt report it whole [BC §2.8]', async () => {
    const [master, replica] = await startPair()
    const clock = frozenClock()
    const options = { clock: clock.now, replicas: 1, replicaTimeout: 0.2 }
    const rp = closing(redisStore(at(master), options)).forClient(identity, clock)
    const [first, second] = [someSession({ sid: 's' }), someSession({ sid: 's' })]
    await opened(rp, first, second)
    const notice = someNotice()
    replica.freeze()
    await expect(rp.endBy({ sid: 's' }, notice)).rejects.toMatchObject({
      code: 'store_failed',
      message: expect.stringContaining('0 of 1'),
    })
    expect(await statesOf(rp, first.handle)).toEqual(['ended'])
    await expect(rp.endBy({ sid: 's' }, notice)).rejects.toMatchObject({ code: 'store_failed' })
    replica.thaw()
    const answers: EndByResult[] = []
    await until(async () => answers.push(await rp.endBy({ sid: 's' }, notice)) > 0, 'the replica')
    const [result] = answers
    expect(result?.outcome === 'ended' && new Set(result.sessions)).toEqual(new Set([first, second]))
    expect(await rp.endBy({ sid: 's' }, notice)).toEqual({ outcome: 'replay' })
    expect(await rp.endBy({ sid: 's' }, someNotice())).toEqual({ outcome: 'ended', sessions: [] })
  })

  it('serves reads meanwhile: only logouts wait for replicas [BC §2.8]', async () => {
    const [master, replica] = await startPair()
    const clock = frozenClock()
    const options = { clock: clock.now, replicas: 1, replicaTimeout: 4 }
    const rp = closing(redisStore({ ...at(master), commandTimeout: 1000 }, options)).forClient(identity, clock)
    const [handle = ''] = await opened(rp, someSession({ sid: 's' }))
    replica.freeze()
    let isOver = false
    const logout = rp.endBy({ sid: 's' }, someNotice()).finally(() => {
      isOver = true
    })
    await until(async () => (await statesOf(rp, handle))[0] === 'ended', 'the logout')
    expect(isOver).toBe(false)
    replica.thaw()
    expect(await logout).toMatchObject({ outcome: 'ended' })
  })

  it('fails at once while the server is away, claims nothing, and recovers by itself [T7]', async () => {
    const redis = closing(await startRedis(['appendonly yes', 'appendfsync always']))
    const clock = frozenClock()
    const rp = closing(redisStore(at(redis), { clock: clock.now })).forClient(identity, clock)
    const [handle = ''] = await opened(rp, someSession({ sid: 's' }))
    const notice = someNotice()
    await redis.kill()
    await expect(rp.endBy({ sid: 's' }, notice)).rejects.toMatchObject({ code: 'store_failed' })
    await expect(rp.create(someSession())).rejects.toMatchObject({ code: 'store_failed' })
    await redis.start()
    await until(async () => (await statesOf(rp, handle))[0] === 'alive', 'Redis again')
    expect(await rp.endBy({ sid: 's' }, notice)).toMatchObject({ outcome: 'ended', sessions: [{ handle }] })
  })

  it('lets a copy of a token work when the answer to the first was lost [BC §2.8]', async () => {
    const redis = closing(await startRedis())
    const clock = frozenClock()
    const place = { ...at(redis), commandTimeout: 300 }
    const rp = closing(redisStore(place, { clock: clock.now })).forClient(identity, clock)
    const [handle = ''] = await opened(rp, someSession({ sid: 's' }))
    await rp.endBy({ sid: 'nobody' }, someNotice())
    const notice = someNotice()
    redis.freeze()
    await expect(rp.endBy({ sid: 's' }, notice)).rejects.toMatchObject({ code: 'store_failed' })
    redis.thaw() // and now does what it was sent
    await until(async () => (await statesOf(rp, handle))[0] === 'ended', 'the late logout')
    expect(await rp.endBy({ sid: 's' }, notice)).toEqual({ outcome: 'ended', sessions: [] })
  })

  it('looks at the server again after a reconnect, since it may be another one [T19]', async () => {
    const redis = closing(await startRedis())
    const clock = frozenClock()
    const rp = closing(redisStore(at(redis), { clock: clock.now })).forClient(identity, clock)
    expect(await rp.get('any')).toBeUndefined()
    await redis.command('CONFIG', 'SET', 'maxmemory-policy', 'volatile-lru')
    await redis.command('CLIENT', 'KILL', 'TYPE', 'normal')
    await until(
      () =>
        rp.get('any').then(
          () => false,
          (error: unknown) => error instanceof Error && 'code' in error && error.code === 'store_not_durable',
        ),
      'the refusal',
    )
  })

  it('loses nothing and claims nothing when the memory is full [BC §2.8]', async () => {
    const redis = closing(await startRedis())
    const clock = frozenClock()
    const rp = closing(redisStore(at(redis), { clock: clock.now })).forClient(identity, clock)
    const [handle = ''] = await opened(rp, someSession({ sid: 's' }))
    const notice = someNotice()
    await redis.command('CONFIG', 'SET', 'maxmemory', '1')
    await expect(rp.endBy({ sid: 's' }, notice)).rejects.toMatchObject({ code: 'store_failed' })
    expect(await statesOf(rp, handle)).toEqual(['alive'])
    await redis.command('CONFIG', 'SET', 'maxmemory', '0')
    expect(await rp.endBy({ sid: 's' }, notice)).toMatchObject({ outcome: 'ended', sessions: [{ handle }] })
  })
})
