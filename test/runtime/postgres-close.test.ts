import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { postgresStore } from '../../src/op-postgres.ts'
import { postgresStore as rpPostgresStore } from '../../src/rp-postgres.ts'
import { world } from '../../src/runtime/runtime.ts'
import { identity } from '../../src/testing/rp-store-bench.ts'
import { hasPostgres, startPostgres, type TestPostgres } from '../support/postgres.ts'

// PostgreSQL that hangs (here: SIGSTOP; elsewhere a disk that is gone) keeps its connections open and answers nothing.

const sockets = (): number => process.getActiveResourcesInfo().filter((kind) => kind === 'TCPSocketWrap').length

describe.runIf(hasPostgres)('a store whose PostgreSQL hangs', () => {
  let postgres: TestPostgres
  let before: number

  beforeAll(async () => {
    postgres = await startPostgres()
  })
  afterAll(() => postgres?.close())
  beforeEach(() => {
    before = sockets()
  })

  it('of an OP is closed all the same, and leaves no socket that would keep the process alive', async () => {
    const store = postgresStore({ connectionString: postgres.connectionString })
    const op = store.forIssuer('https://op.example', world)
    const stopListening = op.onWake?.(() => {})
    await op.nextDueAt() // from here on it listens
    const thaw = postgres.freeze()
    try {
      await store.close()
      expect(sockets()).toBe(before)
    } finally {
      stopListening?.()
      thaw()
    }
  })

  it('fails what is under way when it is closed, and what listens for the first time', async () => {
    const store = postgresStore({ connectionString: postgres.connectionString })
    const op = store.forIssuer('https://op.example', world)
    await op.takeOver()
    await op.listEndJobs(1)
    const stopListening = op.onWake?.(() => {})
    const thaw = postgres.freeze()
    try {
      const underWay = [op.getLogout('of nobody'), op.claimDue({ limit: 1, lease: 1000 }), op.nextDueAt()]
      const failures = Promise.allSettled(underWay)
      await store.close()
      expect((await failures).map((ended) => ended.status === 'rejected' && ended.reason.code)).toEqual(
        Array(3).fill('store_failed'),
      )
      expect(sockets()).toBe(before)
    } finally {
      stopListening?.()
      thaw()
    }
  })

  it('of an RP is closed all the same', async () => {
    const store = rpPostgresStore({ connectionString: postgres.connectionString })
    const rp = store.forClient(identity, world)
    await rp.subscribe('a handle', () => {}) // from here on it listens
    const thaw = postgres.freeze()
    try {
      await store.close()
      expect(sockets()).toBe(before)
    } finally {
      thaw()
    }
  })
})
