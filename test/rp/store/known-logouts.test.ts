import { Client } from 'pg'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { createKnownLogouts } from '../../../src/rp/store/known-logouts.ts'
import type { RpSessionStore, RpStore } from '../../../src/rp.ts'
import { postgresStore } from '../../../src/rp-postgres.ts'
import { redisStore } from '../../../src/rp-redis.ts'
import { frozenClock, identity, START, someNotice } from '../../../src/testing/rp-store-bench.ts'
import { hasPostgres, startPostgres, type TestPostgres } from '../../support/postgres.ts'
import { hasRedis, startRedis, type TestRedis } from '../../support/redis.ts'

const strict = { sidReused: false }
const ada = { sid: 'of ada', sub: 'ada', firstIat: START }
const grace = { sid: 'of grace', sub: 'grace', firstIat: START }

/** A scripted server, and how often it was asked. */
function scripted(most?: number) {
  const clock = frozenClock()
  const arrivals: [key: string, arrivedAt: number][] = []
  const marks = new Map<string, number>()
  const asked = { read: 0, since: 0 }
  let watcher: { heard(key: string): void; lost(): void } | undefined
  let isHearing = true
  let slow: Promise<void> | undefined
  const known = createKnownLogouts(
    clock,
    async () => ({
      prefix: '!',
      hints: {
        watch: (_prefix, one) => {
          watcher = one
        },
        listening: async () => {
          if (!isHearing) throw new Error('nobody tells')
        },
      },
      keyOf: (kind, name) => `!${kind}:${name}`,
      async arrivedSince(since, limit) {
        asked.since += 1
        await slow
        const found = arrivals.filter(([, at]) => at >= since).sort((a, b) => b[1] - a[1])
        return { now: clock.now(), arrivals: found.slice(0, limit) }
      },
      async read({ sid, sub }) {
        asked.read += 1
        return { sid: marks.get(`!sid:${sid}`), sub: marks.get(`!sub:${sub}`) }
      },
    }),
    most,
  )
  const settle = () => new Promise((resolve) => setImmediate(resolve))
  return {
    clock,
    asked,
    known,
    /** Asks until what began in the background is done. */
    async warm() {
      await known.loggedOutAt(grace, strict)
      await settle()
      asked.read = 0
    },
    logOut(key: string, { told = true } = {}) {
      arrivals.push([key, clock.now()])
      marks.set(key, clock.now() / 1000)
      if (told) watcher?.heard(key)
    },
    forge: (key: string) => watcher?.heard(key),
    lose() {
      isHearing = false
      watcher?.lost()
    },
    hearAgain() {
      isHearing = true
      watcher?.lost()
    },
    /** Makes full reads take until the answer is called. */
    slowDown(): () => void {
      let go = () => {}
      slow = new Promise((resolve) => {
        go = resolve
      })
      return go
    },
    settle,
  }
}

describe('what a node knows of logouts', () => {
  it('is read by one full read at a time, however long that takes', async () => {
    const { clock, known, asked, slowDown, settle } = scripted()
    const answer = slowDown()
    for (let second = 0; second < 30; second++) {
      await known.loggedOutAt(ada, strict)
      clock.pass(1_000)
    }
    expect(asked.since).toBe(1)
    answer()
    await settle()
    clock.pass(60_000)
    await known.loggedOutAt(ada, strict)
    await settle()
    expect(asked.since).toBe(2)
  })

  it('answers ordinary requests without a read, and a logged-out one with a single read', async () => {
    const { known, warm, logOut, asked } = scripted()
    await warm()
    for (let i = 0; i < 1_000; i++) expect(await known.loggedOutAt({ ...ada, sid: `s${i}` }, strict)).toBeUndefined()
    expect(asked).toEqual({ read: 0, since: 1 })
    logOut('!sid:of ada')
    for (let i = 0; i < 10; i++) expect(await known.loggedOutAt(ada, strict)).toBe(START)
    expect(asked).toEqual({ read: 1, since: 1 })
    logOut('!sub:grace')
    for (let i = 0; i < 10; i++) {
      expect(await known.loggedOutAt({ ...grace, firstIat: START + 1 }, strict)).toBeUndefined() // signed in again since
    }
    expect(asked.read).toBe(2)
  })

  it('reads for everybody while nobody tells it of logouts, and misses none of that time [T18]', async () => {
    const { known, warm, logOut, lose, hearAgain, settle, asked, clock } = scripted()
    await warm()
    lose()
    logOut('!sid:of ada', { told: false })
    expect(await known.loggedOutAt(ada, strict)).toBe(START)
    expect(await known.loggedOutAt(grace, strict)).toBeUndefined()
    expect(asked.read).toBe(2)
    clock.pass(2)
    hearAgain()
    await known.loggedOutAt(grace, strict)
    await settle()
    asked.read = 0
    expect(await known.loggedOutAt(grace, strict)).toBeUndefined()
    expect(asked.read).toBe(0)
    expect(await known.loggedOutAt(ada, strict)).toBe(START)
    expect(asked.read).toBe(1)
  })

  it('relies on no read for longer than a minute, and waits for none while requests come [T18]', async () => {
    const { known, warm, logOut, settle, asked, clock } = scripted()
    await warm()
    logOut('!sid:of ada', { told: false })
    expect(await known.loggedOutAt(ada, strict)).toBeUndefined() // the hint was lost
    clock.pass(30)
    expect(await known.loggedOutAt(grace, strict)).toBeUndefined()
    await settle()
    expect(asked).toEqual({ read: 0, since: 2 })
    expect(await known.loggedOutAt(ada, strict)).toBe(START)
    clock.pass(3_600)
    asked.read = 0
    await known.loggedOutAt(grace, strict) // nobody asked for an hour
    expect(asked.read).toBe(1)
  })

  it('believes no hint: who only seems to be logged out is looked up, once [T18]', async () => {
    const { known, warm, forge, asked } = scripted()
    await warm()
    forge('!sid:of ada')
    for (let i = 0; i < 10; i++) expect(await known.loggedOutAt(ada, strict)).toBeUndefined()
    expect(asked.read).toBe(1)
  })

  it('keeps a bounded number in mind, and looks up who may have been among the dropped ones', async () => {
    const { known, warm, logOut, asked, clock } = scripted(100)
    await warm()
    logOut('!sid:of ada')
    clock.pass(10)
    for (let i = 0; i < 1_000; i++) logOut(`!sid:flood ${i}`)
    expect(await known.loggedOutAt(ada, strict)).toBe(START)
    expect(await known.loggedOutAt(grace, strict)).toBeUndefined()
    expect(asked.read).toBe(2) // both logged in before what was dropped
    clock.pass(20)
    const young = { ...grace, firstIat: START + 3_700 }
    expect(await known.loggedOutAt(young, strict)).toBeUndefined()
    expect(asked.read).toBe(2)
  })

  it('starts with the latest of more than it keeps in mind', async () => {
    const { known, settle, logOut, asked, clock } = scripted(100)
    for (let i = 0; i < 1_000; i++) {
      clock.pass(1)
      logOut(`!sid:flood ${i}`, { told: false })
    }
    await known.loggedOutAt(grace, strict)
    await settle()
    asked.read = 0
    expect(await known.loggedOutAt({ ...ada, sid: 'flood 0' }, strict)).toBe(START + 1)
    const young = { sub: 'x', firstIat: START + 10_000 }
    expect(await known.loggedOutAt({ ...young, sid: 'flood 999' }, strict)).toBe(START + 1_000)
    asked.read = 0
    expect(await known.loggedOutAt({ ...young, sid: 'other' }, strict)).toBeUndefined()
    expect(asked.read).toBe(0)
  })
})

const cleanup: (() => unknown)[] = []
afterEach(async () => {
  for (const step of cleanup.splice(0).reverse()) await step()
})

/** Waits until a node answers from memory; `isAsked` says whether a question still reaches the server. */
async function untilKnown(rp: RpSessionStore, silent: () => Promise<boolean>): Promise<void> {
  await vi.waitFor(async () => {
    await rp.loggedOutAt(grace, strict)
    expect(await silent()).toBe(true)
  }, 20_000)
}

describe.runIf(hasRedis)('logouts on nodes that share Redis', () => {
  let redis: TestRedis
  beforeAll(async () => {
    redis = await startRedis(['appendonly yes', 'appendfsync always'])
  })
  afterAll(() => redis?.close())

  let prefixes = 0
  function twoNodes(): readonly [RpSessionStore, RpSessionStore] {
    const prefix = `known${++prefixes}`
    const open = (): RpStore => {
      const store = redisStore({ host: '127.0.0.1', port: redis.port }, { prefix })
      cleanup.push(() => store.close())
      return store
    }
    const clock = { now: () => Date.now() }
    return [open().forClient(identity, clock), open().forClient(identity, clock)]
  }
  const scriptsRun = async () => {
    const info = String(await redis.command('INFO', 'commandstats'))
    return Number(/cmdstat_evalsha:calls=(\d+)/.exec(info)?.[1] ?? 0)
  }
  const silentAt = (rp: RpSessionStore) => async () => {
    const before = await scriptsRun()
    await rp.loggedOutAt(grace, strict)
    return (await scriptsRun()) === before
  }
  const now = () => Math.floor(Date.now() / 1000)
  const notice = () =>
    someNotice({
      jti: crypto.randomUUID(),
      jtiExpiresAt: now() + 180,
      watermark: now(),
      watermarkExpiresAt: now() + 86_400,
    })

  it('a server that stands still holds up no ordinary request', async () => {
    const [here] = twoNodes()
    await untilKnown(here, silentAt(here))
    redis.freeze()
    cleanup.push(() => redis.thaw())
    for (let i = 0; i < 100; i++) expect(await here.loggedOutAt({ ...ada, sid: `s${i}` }, strict)).toBeUndefined()
  })

  it('a logout on one node is known on the other by its message alone [BC §2.7]', async () => {
    const [here, there] = twoNodes()
    await untilKnown(there, silentAt(there))
    await here.endBy({ sid: 'of ada' }, notice())
    await vi.waitFor(async () => expect(await there.loggedOutAt(ada, strict)).toBeDefined())
    expect(await here.loggedOutAt(ada, strict)).toBeDefined()
    expect(await there.loggedOutAt(grace, strict)).toBeUndefined()
  })

  it('what happened while the server was away is known again after the reconnect, and nothing is made up meanwhile [T18]', async () => {
    const [here, there] = twoNodes()
    await untilKnown(there, silentAt(there))
    await here.endBy({ sid: 'before' }, notice())
    await redis.kill()
    await vi.waitFor(() => expect(there.loggedOutAt(grace, strict)).rejects.toMatchObject({ code: 'store_failed' }))
    await redis.start()
    await vi.waitFor(() => here.endBy({ sid: 'of ada' }, notice()), 20_000)
    await vi.waitFor(async () => expect(await there.loggedOutAt(ada, strict)).toBeDefined(), 20_000)
    expect(await there.loggedOutAt({ ...ada, sid: 'before' }, strict)).toBeDefined()
    await untilKnown(there, silentAt(there))
    expect(await there.loggedOutAt(ada, strict)).toBeDefined()
  })
})

describe.runIf(hasPostgres)('logouts on nodes that share PostgreSQL', () => {
  let postgres: TestPostgres
  beforeAll(async () => {
    postgres = await startPostgres()
  })
  afterAll(() => postgres?.close())

  let schemas = 0
  async function twoNodes() {
    const schema = `known_${++schemas}`
    const clock = frozenClock()
    const open = (): RpSessionStore => {
      const store = postgresStore({ connectionString: postgres.connectionString, schema, clock: clock.now })
      cleanup.push(() => store.close())
      return store.forClient(identity, clock)
    }
    const admin = new Client({ connectionString: postgres.connectionString, options: `-c search_path=${schema}` })
    admin.on('error', () => {}) // the server is stopped under it
    await admin.connect()
    cleanup.push(() => admin.end())
    return { here: open(), there: open(), clock, sql: (text: string) => admin.query(text) }
  }

  it('a table that nobody may read holds up no ordinary request, and a logout is known by its message [BC §2.7]', async () => {
    const { here, there, sql } = await twoNodes()
    await there.loggedOutAt(grace, strict)
    const silent = async () => {
      await sql('BEGIN; LOCK TABLE rp_logged_out IN ACCESS EXCLUSIVE MODE')
      const answered = there.loggedOutAt(grace, strict).then(() => true)
      const unlocked = new Promise<false>((resolve) => setTimeout(() => resolve(false), 200))
      const first = await Promise.race([answered, unlocked])
      await sql('COMMIT')
      await answered
      return first
    }
    await untilKnown(there, silent)
    await here.endBy({ sid: 'of ada' }, someNotice())
    await vi.waitFor(async () => expect(await there.loggedOutAt(ada, strict)).toBe(START))
  })

  it('what happened while a node heard nothing is known to it all the same [T18]', async () => {
    const { here, there, sql, clock } = await twoNodes()
    await there.loggedOutAt(grace, strict)
    await there.subscribe({ sid: 'x' }, () => {})
    await sql(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN "rp_%'`)
    await here.endBy({ sid: 'of ada' }, someNotice())
    await vi.waitFor(async () => expect(await there.loggedOutAt(ada, strict)).toBe(START))
    clock.pass(31)
    await vi.waitFor(async () => expect(await there.loggedOutAt(ada, strict)).toBe(START))
    expect(await there.loggedOutAt(grace, strict)).toBeUndefined()
  })
})
