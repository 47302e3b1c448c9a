import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { resolveBackchannelOptions } from '../../../src/op/delivery/backchannel-options.ts'
import { startOutbox } from '../../../src/op/delivery/outbox.ts'
import type { OpIssuerStore } from '../../../src/op/store/contract.ts'
import { sqliteStore } from '../../../src/op-sqlite.ts'
import { egress } from '../../../src/runtime/egress.ts'
import { world } from '../../../src/runtime/runtime.ts'

// Real processes, real files, real sockets: what the virtual world cannot show.

let folder: string
let server: Server
let url: string
/** What the RP does with the next POST's answer; its body is given. */
let onPost: (body: string, response: ServerResponse) => void
const cleanups: (() => Promise<unknown>)[] = []

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lockstep-crash-'))
  server = createServer((request, response) => {
    let body = ''
    request.setEncoding('utf8')
    request.on('data', (chunk: string) => {
      body += chunk
    })
    request.on('end', () => onPost(body, response))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/logout`
})

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
  server.closeAllConnections()
  server.close()
  await rm(folder, { recursive: true })
})

function runUntilKilled(moment: string): ChildProcess {
  const script = new URL('crash-child.ts', import.meta.url).pathname
  const child = spawn(process.execPath, ['-C', '@lockstep/source', script, join(folder, 'op.db'), url, moment], {
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  cleanups.push(async () => child.kill('SIGKILL'))
  return child
}

function reopen(): OpIssuerStore {
  const store = sqliteStore(join(folder, 'op.db'))
  cleanups.push(() => store.close())
  return store.forIssuer('https://op.example', world)
}

function startAgain(store: OpIssuerStore): void {
  const network = egress({ allow: ['127.0.0.1'] })
  const outbox = startOutbox({
    store,
    runtime: { ...world, post: network.post },
    options: resolveBackchannelOptions(),
    log: () => {},
    findReceiver: async () => ({ url, isRegistered: false }),
    mint: async () => 'fresh token',
  })
  cleanups.push(async () => {
    await outbox.stop()
    await network.close()
  })
}

/** The token of the next POST, which is answered with 200. */
function nextToken(): Promise<string | null> {
  return new Promise((resolve) => {
    onPost = (body, response) => {
      response.writeHead(200).end()
      resolve(new URLSearchParams(body).get('logout_token'))
    }
  })
}

it('tells the RP again after a kill between the POST and its outcome', async () => {
  const posted = new Promise<string>((resolve) => {
    onPost = resolve // and no answer
  })
  const child = runUntilKilled('while the RP holds the POST')
  expect(await posted).toContain('killed')
  child.kill('SIGKILL')
  await once(child, 'exit')

  const token = nextToken()
  const store = reopen()
  startAgain(store)
  expect(await token).toBe('fresh token')
})

it('tells the RP after a kill right after the commit', async () => {
  onPost = () => expect.unreachable('the process is dead before it posts')
  const [, signal] = await once(runUntilKilled('after the commit'), 'exit')
  expect(signal).toBe('SIGKILL')

  const token = nextToken()
  const store = reopen()
  expect(await store.getOpSession({ uid: 'uid' })).toBeUndefined()
  startAgain(store)
  expect(await token).toBe('fresh token')
})

it('leaves the user signed in after a kill inside the transaction: never half a logout', async () => {
  onPost = () => expect.unreachable('nothing was committed')
  const [, signal] = await once(runUntilKilled('in the transaction'), 'exit')
  expect(signal).toBe('SIGKILL')

  const store = reopen()
  expect(await store.getOpSession({ handle: 'handle' })).toMatchObject({ uid: 'uid', rps: [{ clientId: 'notes' }] })
  expect(await store.getModel('Grant', { handle: 'grant-handle' })).toBeDefined()
  expect(await store.nextDueAt()).toBeUndefined()
})
