import { Duplex } from 'node:stream'
import { setImmediate } from 'node:timers/promises'
import type { Redis } from 'ioredis'
import { expect, it } from 'vitest'
import { writeTogether } from '../../../src/rp/store/redis-writes.ts'

/** A connection that keeps what each of its system calls would carry. */
function connection() {
  const calls: string[] = []
  const stream = new Duplex({
    read() {},
    writev(chunks, done) {
      calls.push(chunks.map(({ chunk }) => String(chunk)).join(''))
      done()
    },
  })
  return { calls, stream, client: { isCluster: false, stream } as unknown as Redis }
}

it('commands of one turn of the event loop leave in one write, in their order, and those of the next in another', async () => {
  const { calls, stream, client } = connection()
  for (const command of ['a', 'b', 'c']) {
    writeTogether(client)
    stream.write(command)
  }
  expect(calls).toEqual([])
  await setImmediate()
  expect(calls).toEqual(['abc'])
  writeTogether(client)
  stream.write('d')
  await setImmediate()
  expect(calls).toEqual(['abc', 'd'])
})

it('a connection that is not there yet, and a cluster, are left as they are', () => {
  const { stream } = connection()
  writeTogether({ isCluster: false } as unknown as Redis)
  writeTogether({ isCluster: true, stream } as unknown as Redis)
  expect(stream.writableCorked).toBe(0)
})
