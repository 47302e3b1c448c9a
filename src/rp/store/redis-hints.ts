import { createHints } from './hints.ts'
import type { RedisConnection } from './redis-connection.ts'

/** Hints that reach the subscribers on all nodes. */
export interface RedisHints {
  /** Hints on this node; the script that made the change has told the others. */
  publish(key: string): void
  /** Resolves when hints from other nodes would be heard. */
  subscribe(key: string, onHint: () => void): Promise<() => void>
  close(): Promise<void>
}

/**
 * Redis pub/sub on one connection and one channel, however many tabs listen. After the connection broke, everybody gets a
 * hint: some may have been lost (T18).
 *
 * @param node Names this process in messages, so that it does not hear itself.
 */
export function redisHints(connect: () => RedisConnection, channel: string, node: string): RedisHints {
  const hints = createHints()
  let listening: Promise<RedisConnection> | undefined
  let isClosed = false

  async function listen(): Promise<RedisConnection> {
    const connection = connect()
    connection.onMessage((message) => {
      const [from, key = ''] = message.split(' ')
      if (from !== node) hints.publish(key)
    })
    try {
      await connection.subscribe(channel)
    } catch (error) {
      await connection.close()
      throw error
    }
    connection.onReady(() => {
      if (!isClosed) hints.publishAll()
    })
    return connection
  }

  return {
    publish: (key) => hints.publish(key),
    async subscribe(key, onHint) {
      listening ??= listen().catch((error: unknown) => {
        listening = undefined
        throw error
      })
      await listening
      return hints.subscribe(key, onHint)
    },
    async close() {
      isClosed = true
      const connection = await listening?.catch(() => undefined)
      await connection?.close()
    },
  }
}
