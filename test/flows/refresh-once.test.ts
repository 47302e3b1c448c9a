import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import type { RpStore } from '../../src/rp.ts'
import { postgresStore } from '../../src/rp-postgres.ts'
import { redisStore } from '../../src/rp-redis.ts'
import { sqliteStore } from '../../src/rp-sqlite.ts'
import { lasting, startRefreshingApp } from '../rp/refreshing-app.ts'
import { hasPostgres, startPostgres } from '../support/postgres.ts'
import { hasRedis, startRedis } from '../support/redis.ts'
import type { RefreshingProcess } from '../support/refreshing-process.ts'

/* An OP that rotates refresh tokens takes a second use of one for theft, and ends the grant. */

const cleanup: (() => unknown)[] = []
afterEach(async () => {
  for (const step of cleanup.splice(0).reverse()) await step()
})

interface Shared {
  readonly place: RefreshingProcess['store']
  readonly store: RpStore
}

const kinds: readonly (readonly [string, boolean, () => Promise<Shared>])[] = [
  [
    'SQLite',
    true,
    async () => {
      const folder = mkdtempSync(join(tmpdir(), 'lockstep-refresh-'))
      cleanup.push(() => rmSync(folder, { recursive: true, force: true }))
      const sqlite = join(folder, 'app.db')
      return { place: { sqlite }, store: sqliteStore(sqlite) }
    },
  ],
  [
    'Redis',
    hasRedis,
    async () => {
      const redis = await startRedis()
      cleanup.push(() => redis.close())
      return { place: { redis: redis.port }, store: redisStore({ host: '127.0.0.1', port: redis.port }) }
    },
  ],
  [
    'PostgreSQL',
    hasPostgres,
    async () => {
      const { connectionString, close } = await startPostgres()
      cleanup.push(() => close())
      return { place: { postgres: connectionString }, store: postgresStore({ connectionString }) }
    },
  ],
]

async function startProcess(settings: RefreshingProcess): Promise<ChildProcess> {
  const program = resolve(import.meta.dirname, '../support/refreshing-process.ts')
  const child = fork(program, [JSON.stringify(settings)], { execArgv: ['-C', '@lockstep/source'] })
  cleanup.push(() => child.kill('SIGKILL'))
  await once(child, 'message')
  return child
}

describe.each(kinds)('an access token that many requests at three processes want, with %s', (_kind, isThere, share) => {
  it.runIf(isThere)('is refreshed once, and all of them get the new one', async () => {
    const { place, store } = await share()
    const app = await startRefreshingApp(store)
    cleanup.push(() => app.close())
    const cookie = await app.signIn(lasting)
    app.answerRefresh({ access_token: 'a1', expires_in: 600, refresh_token: 'r1' })
    const settings = { issuer: app.op.issuer, cookie, store: place, ahead: 571, requests: 20 }
    const children = await Promise.all([1, 2, 3].map(() => startProcess(settings)))
    const answers = children.map(async (child) => {
      const [tokens] = (await once(child, 'message')) as [string[]]
      return tokens
    })
    for (const child of children) child.send('go')
    const tokens = (await Promise.all(answers)).flat()
    expect(tokens).toEqual(Array.from({ length: 60 }, () => 'a1'))
    expect(app.refreshed()).toEqual(['r0'])
  })
})
