import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { describe, expect, it } from 'vitest'
import { sqliteStore } from '../../../src/op-sqlite.ts'
import { issuer, loggedIn, opSession, testRuntime } from '../../../src/testing/op-store-bench.ts'
import { opStoreContract } from '../../../src/testing.ts'

describe('in memory', () => {
  opStoreContract(
    { describe, it },
    {
      durable: false,
      open: async () => {
        const store = sqliteStore(':memory:')
        return { store, dispose: () => store.close() }
      },
    },
  )
})

it('a background check that brings nothing new writes nothing: who asks every few seconds costs no disk', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'lockstep-op-store-'))
  const store = sqliteStore(join(folder, 'op.db'))
  const other = new Database(join(folder, 'op.db'))
  const changes = () => other.pragma('data_version', { simple: true })
  try {
    const runtime = testRuntime()
    const op = store.forIssuer(issuer, runtime)
    const session = opSession(runtime, { rps: [loggedIn('notes', { grantId: 'grant-1' })] })
    await op.saveOpSession(session)
    const before = changes()
    await op.saveOpSession({ ...session, extend: false, expiresAt: session.expiresAt + 60, payload: { later: true } })
    await op.claimLogin(session.uid, { clientId: 'notes', sid: 'another', grantId: 'grant-2' })
    expect(changes()).toBe(before)
    await op.saveOpSession({ ...session, extend: false, rps: [loggedIn('mail')] })
    expect(changes()).not.toBe(before)
  } finally {
    other.close()
    await store.close()
    await rm(folder, { recursive: true })
  }
})

describe('in a file', () => {
  opStoreContract(
    { describe, it },
    {
      durable: true,
      open: async () => {
        const folder = await mkdtemp(join(tmpdir(), 'lockstep-op-store-'))
        const store = sqliteStore(join(folder, 'op.db'))
        return {
          store,
          reopen: async () => sqliteStore(join(folder, 'op.db')),
          dispose: async () => {
            await store.close()
            await rm(folder, { recursive: true })
          },
        }
      },
    },
  )
})

it('a long backlog is brought forward in steps, between which the OP answers others', async () => {
  const store = sqliteStore(':memory:')
  const runtime = testRuntime()
  const op = store.forIssuer(issuer, runtime)
  await op.saveOpSession(opSession(runtime))
  await op.endOpSession('uid-1', { cause: 'op_logout' }, () =>
    Array.from({ length: 5000 }, (_, i) => ({ clientId: 'down', sid: `sid-${i}` })),
  )
  runtime.pass(-3_600_000)
  let turnsOfOthers = 0
  let isDone = false
  const others = (): void => {
    turnsOfOthers += 1
    if (!isDone) setImmediate(others)
  }
  setImmediate(others)
  expect(await op.hasten('all', 1000)).toBe(5000)
  isDone = true
  expect(turnsOfOthers).toBeGreaterThanOrEqual(4)
  await store.close()
})
