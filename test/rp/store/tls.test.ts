import { chownSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import type { LookupFunction } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Client } from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { RpStore } from '../../../src/rp.ts'
import { postgresStore } from '../../../src/rp-postgres.ts'
import { redisStore } from '../../../src/rp-redis.ts'
import {
  frozenClock,
  identity,
  opened,
  someNotice,
  someSession,
  statesOf,
} from '../../../src/testing/rp-store-bench.ts'
import { hasPostgres, startPostgres, type TestPostgres, unprivilegedUser } from '../../support/postgres.ts'
import { freePort, hasRedis, startRedis, type TestRedis } from '../../support/redis.ts'
import { selfSigned } from '../../support/self-signed.ts'

/* Real servers that speak TLS with a certificate of their own; names of other machines lead to this one. */

const certificate = selfSigned()
const stranger = selfSigned()
let folder: string

/** Every name is this machine, so that no packet leaves it. */
const lookup: LookupFunction = (_name, { all }, callback) =>
  all ? callback(null, [{ address: '127.0.0.1', family: 4 }]) : callback(null, '127.0.0.1', 4)

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'lockstep-tls-'))
  const owner = unprivilegedUser()
  if (owner) chownSync(folder, owner.uid, owner.gid)
  for (const [name, text] of [
    ['cert.pem', certificate.cert],
    ['key.pem', certificate.key],
  ] as const) {
    writeFileSync(join(folder, name), text, { mode: 0o600 })
    if (owner) chownSync(join(folder, name), owner.uid, owner.gid)
  }
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

/** Opens an RP session, and ends it by a Logout Token. */
async function tryOut(store: RpStore): Promise<readonly string[]> {
  const rp = store.forClient(identity, frozenClock())
  const [handle = ''] = await opened(rp, someSession({ sid: 's' }))
  await rp.subscribe(handle, () => {})
  await rp.endBy({ sid: 's' }, someNotice())
  return statesOf(rp, handle)
}

describe.runIf(hasRedis)('redisStore over TLS', () => {
  let redis: TestRedis
  let port: number

  beforeAll(async () => {
    port = await freePort()
    const files = ['cert', 'key'].map((one) => `tls-${one}-file "${join(folder, `${one}.pem`)}"`)
    const ca = `tls-ca-cert-file "${join(folder, 'cert.pem')}"`
    redis = await startRedis([`tls-port ${port}`, ...files, ca, 'tls-auth-clients no', 'requirepass "a secret"'])
  })
  afterAll(() => redis?.close())

  const clock = { clock: frozenClock().now }
  const tls = { ca: certificate.cert, servername: 'localhost', lookup }

  it('keeps RP sessions on another machine, by a certificate that is checked and a password [T19]', async () => {
    const store = redisStore({ host: 'redis.example', port, password: 'a secret', tls }, { prefix: 'good', ...clock })
    expect(await tryOut(store)).toEqual(['ended'])
    await store.close()
  })

  it('tells a server nothing whose certificate is a stranger’s, or of another name [T19]', async () => {
    for (const wrong of [
      { ...tls, ca: stranger.cert },
      { ...tls, servername: 'redis.example' },
    ]) {
      const place = { host: 'redis.example', port, password: 'a secret', tls: wrong }
      const store = redisStore(place, { prefix: 'wrong', ...clock })
      await expect(tryOut(store)).rejects.toMatchObject({ code: 'store_failed' })
      await store.close()
    }
  })

  it('takes a certificate that is not checked only where it is told that the network is safe [T19]', async () => {
    const place = { host: 'redis.example', port, password: 'a secret', tls: { lookup, rejectUnauthorized: false } }
    expect(() => redisStore(place)).toThrow(/is not protected/)
    const store = redisStore(place, { prefix: 'unchecked', allowInsecure: true, ...clock })
    expect(await tryOut(store)).toEqual(['ended'])
    await store.close()
  })
})

describe.runIf(hasPostgres)('postgresStore over TLS', () => {
  let postgres: TestPostgres

  beforeAll(async () => {
    postgres = await startPostgres()
    await postgres.stop('fast')
    const [ssl_cert_file, ssl_key_file] = [join(folder, 'cert.pem'), join(folder, 'key.pem')]
    await postgres.start({ ssl: 'on', ssl_cert_file, ssl_key_file })
  })
  afterAll(() => postgres?.close())

  const options = (schema: string) => ({
    connectionString: postgres.connectionString,
    schema,
    clock: frozenClock().now,
  })

  it('has every connection encrypted, the one that listens too [T19]', async () => {
    const store = postgresStore({ ...options('good'), ssl: { ca: certificate.cert } })
    expect(await tryOut(store)).toEqual(['ended'])
    const admin = new Client({ connectionString: postgres.connectionString })
    await admin.connect()
    const { rows } = await admin.query(
      `SELECT ssl, query LIKE 'LISTEN%' AS listens FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
       WHERE application_name = 'lockstep'`,
    )
    expect(rows.length).toBeGreaterThan(1)
    expect(rows.every(({ ssl }) => ssl === true)).toBe(true)
    expect(rows.some(({ listens }) => listens === true)).toBe(true)
    await admin.end()
    await store.close()
  })

  it('is closed also while PostgreSQL hangs, and leaves no socket that would keep the process alive', async () => {
    const sockets = (): number =>
      process.getActiveResourcesInfo().filter((kind) => kind === 'TCPSocketWrap' || kind === 'TLSWRAP').length
    const before = sockets()
    const store = postgresStore({ ...options('hangs'), ssl: { ca: certificate.cert } })
    await tryOut(store)
    const thaw = postgres.freeze()
    try {
      const read = store.forClient(identity, frozenClock()).now()
      const failed = expect(read).rejects.toMatchObject({ code: 'store_failed' })
      await store.close()
      await failed
      expect(sockets()).toBe(before)
    } finally {
      thaw()
    }
  })

  it('tells a server nothing whose certificate is a stranger’s [T19]', async () => {
    const store = postgresStore({ ...options('wrong'), ssl: { ca: stranger.cert } })
    await expect(tryOut(store)).rejects.toMatchObject({ code: 'store_failed' })
    await store.close()
    const admin = new Client({ connectionString: postgres.connectionString })
    await admin.connect()
    const { rows } = await admin.query("SELECT 1 FROM pg_namespace WHERE nspname = 'wrong'")
    expect(rows).toEqual([])
    await admin.end()
  })
})
