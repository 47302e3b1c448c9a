import { LockstepError } from '../../protocol/errors.ts'
import { createHints, type HintWatcher } from './hints.ts'
import type { RedisConnection } from './redis-connection.ts'

/** Hints that reach the subscribers on all nodes. */
export interface RedisHints {
  /** Hints on this node; the script that made the change has told the others. */
  publish(key: string): void
  /** Resolves when hints from other nodes would be heard. */
  subscribe(key: string, onHint: () => void): Promise<() => void>
  /** Hears every key of these on this node; on others, while {@link listening} resolves. */
  watch(prefix: string, watcher: HintWatcher): void
  /** Resolves when hints from other nodes would be heard. */
  listening(): Promise<unknown>
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
  let isHearing = false
  let isClosed = false

  async function listen(): Promise<RedisConnection> {
    const connection = connect()
    connection.onMessage((message) => {
      const [from, ...keys] = message.split(' ')
      if (from !== node) for (const key of keys) hints.publish(key)
    })
    try {
      await connection.subscribe(channel)
    } catch (error) {
      await connection.close()
      throw error
    }
    isHearing = true
    hints.publishAll() // for what was told while nobody listened here
    connection.onLost(() => {
      isHearing = false
      hints.interrupt()
    })
    // What was told before the subscription was renewed is lost, so it is waited for; if it fails, the connection does too.
    connection.onReady(() => {
      connection.subscribe(channel).then(hearAgain, () => undefined)
    })
    return connection
  }

  function hearAgain(): void {
    isHearing = true
    if (!isClosed) hints.publishAll()
  }

  function opened(): Promise<RedisConnection> {
    listening ??= listen().catch((error: unknown) => {
      listening = undefined
      throw error
    })
    return listening
  }

  return {
    publish: (key) => hints.publish(key),
    async subscribe(key, onHint) {
      await opened()
      return hints.subscribe(key, onHint)
    },
    watch: hints.watch,
    async listening() {
      await opened()
      if (!isHearing) throw new LockstepError('store_failed', 'Redis tells this node of no logouts at present')
    },
    async close() {
      isClosed = true
      const connection = await listening?.catch(() => undefined)
      await connection?.close()
    },
  }
}
