import { type ChildProcess, fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, rm, stat, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { resolveBackchannelOptions } from '../../../src/op/delivery/backchannel-options.ts'
import { startOutbox } from '../../../src/op/delivery/outbox.ts'
import { openSecrets } from '../../../src/op.ts'
import { sqliteStore } from '../../../src/op-sqlite.ts'
import { world } from '../../../src/runtime/runtime.ts'
import { issuer } from '../../../src/testing/op-store-bench.ts'
import type { OpProcessParts } from '../delivery/crash/op-process.ts'

// One SQLite file, two OPs: real processes, since it is the kernel that takes the lock back from one that dies.

let folder: string
let file: string
const cleanups: (() => unknown)[] = []
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lockstep-worker-'))
  file = join(folder, 'op.db')
})
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
  await rm(folder, { recursive: true })
})

/** Starts an OP on the file, as an operator runs it. */
function startOp(at = file): ChildProcess {
  const script = new URL('../delivery/crash/op-process.ts', import.meta.url).pathname
  const parts: OpProcessParts = { issuer, clients: [], store: { file: at } }
  const child = fork(script, [JSON.stringify(parts)], {
    execArgv: ['-C', '@lockstep/source'],
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  })
  cleanups.push(() => child.kill('SIGKILL'))
  return child
}

const isReady = async (child: ChildProcess): Promise<unknown> =>
  Promise.race([once(child, 'message'), once(child, 'exit')]).then(([said]) => said)

function open(): ReturnType<typeof sqliteStore> {
  const store = sqliteStore(file)
  cleanups.push(() => store.close())
  return store
}

it('a second OP on the file is refused at its start with one sentence, and the first goes on [design §4]', async () => {
  const first = startOp()
  expect(await isReady(first)).toBe('ready')
  await symlink(file, join(folder, 'other-name.db'))
  for (const name of [file, join(folder, 'other-name.db')]) {
    const second = startOp(name)
    const said = text(second.stderr ?? expect.unreachable())
    expect(await isReady(second)).toBe(1)
    expect(await said).toMatch(/SQLite file \S+ is in use by another OP: .* Stop the other first/)
    expect(await said).toContain('store_in_use')
  }
  expect(first.exitCode).toBe(null)
})

it('one that is started right after a kill -9 is not held up by what the dead one left [design §4]', async () => {
  for (let kill = 0; kill < 3; kill++) {
    const op = startOp()
    expect(await isReady(op)).toBe('ready')
    op.kill('SIGKILL')
    await once(op, 'exit')
  }
  expect((await stat(`${file}-worker`)).mode & 0o777).toBe(0o600)
  await expect(open().forIssuer(issuer, world).takeOver()).resolves.toBe(0)
})

it('an outbox that is started all the same sends nothing while the first OP lives, and all of it afterwards [design §4]', async () => {
  const first = startOp()
  expect(await isReady(first)).toBe('ready')
  const op = open().forIssuer(issuer, world)
  const posted: string[] = []
  const failures: unknown[] = []
  const outbox = startOutbox({
    store: op,
    runtime: {
      ...world,
      async post({ url }) {
        posted.push(url)
        return { status: 200, headers: {}, body: '' }
      },
    },
    options: resolveBackchannelOptions(),
    log: (entry) => failures.push(entry),
    findReceiver: async () => ({ url: 'https://notes.example/logout', isRegistered: false }),
    mint: async () => 'token',
  })
  cleanups.push(() => outbox.stop())
  await expect.poll(() => failures).toMatchObject([{ event: 'op_failed', task: 'outbox' }])
  // the first OP is stopped in the middle, so that what it does not send is sent by nobody
  first.kill('SIGSTOP')
  await op.saveOpSession({
    uid: 'uid-1',
    handle: 'handle-1',
    accountId: 'alice',
    payload: {},
    rps: [],
    expiresAt: Math.floor(world.now() / 1000) + 60,
    extend: true,
  })
  await op.endOpSession('uid-1', { cause: 'admin' }, () => [{ clientId: 'notes', sid: 'sid' }])
  outbox.wake()
  await expect(op.takeOver()).rejects.toMatchObject({ code: 'store_in_use' })
  expect(posted).toEqual([])
  first.kill('SIGKILL')
  await expect.poll(() => posted, { timeout: 10_000 }).toEqual(['https://notes.example/logout'])
})

it('a second store of the same process does not deliver beside the first either [design §4]', async () => {
  const [first, second] = [open(), open()]
  await first.forIssuer(issuer, world).takeOver()
  await first.forIssuer('https://other.example', world).takeOver()
  await expect(second.forIssuer(issuer, world).takeOver()).rejects.toMatchObject({ code: 'store_in_use' })
  await first.close()
  await second.forIssuer(issuer, world).takeOver()
})

it('a lock file that this process may not open is said so, with what to do, and nothing is delivered [design §4]', async () => {
  const store = open()
  await mkdir(`${file}-worker`) // root may open any file, so here it is none
  await expect(store.forIssuer(issuer, world).takeOver()).rejects.toMatchObject({
    code: 'store_failed',
    message: expect.stringMatching(/op\.db-worker cannot be opened \(SQLITE_CANTOPEN\w*\): .*the user of this process/),
  })
})

it('a tool reads and writes keys beside a running OP, and its coming and going costs the OP no lock', async () => {
  const first = startOp()
  expect(await isReady(first)).toBe('ready')
  const tool = sqliteStore(file)
  expect((await openSecrets(tool, issuer)).jwks.keys.length).toBeGreaterThan(0)
  await tool.close()
  await expect(open().forIssuer(issuer, world).takeOver()).rejects.toMatchObject({ code: 'store_in_use' })
})

it('a file on which SQLite would not survive a loss of power is refused', async () => {
  // SQLite trims the name, and what has none is a temporary file without a write-ahead log
  const script = `const { sqliteStore } = await import(${JSON.stringify(new URL('../../../src/op-sqlite.ts', import.meta.url).href)})
    try { sqliteStore(' ') } catch ({ code, message }) { console.log(code, message) }`
  const child = spawn(process.execPath, ['-C', '@lockstep/source', '--input-type=module', '-e', script], {
    cwd: folder,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  expect(await text(child.stdout)).toMatch(
    /^store_not_durable SQLite file .* runs with journal_mode=delete and synchronous=FULL; Lockstep needs WAL with synchronous=FULL/,
  )
})
