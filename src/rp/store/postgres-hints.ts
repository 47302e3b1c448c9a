import type { Listening, Postgres } from '../../runtime/postgres.ts'
import { createHints, type HintWatcher } from './hints.ts'
import { notify } from './postgres-statements.ts'

/** Hints that reach the subscribers on all nodes. */
export interface PostgresHints {
  /** Hints at once on this node, and soon on the others. Never fails. */
  publish(keys: readonly string[]): void
  /** Resolves when hints from other nodes would be heard. */
  subscribe(key: string, onHint: () => void): Promise<() => void>
  /** Hears every key of these on this node; on others, while {@link listening} resolves. */
  watch(prefix: string, watcher: HintWatcher): void
  /** Resolves when hints from other nodes would be heard. */
  listening(): Promise<unknown>
  /** Listens again after the connection broke, where somebody subscribed; whoever reads the store calls it. */
  attend(): void
  close(): Promise<void>
}

/**
 * LISTEN and NOTIFY: the payload is a hash that names an RP session to whoever knows it already, and whoever hears it reads
 * the store, where the truth is (T18).
 *
 * Nodes are told after the commit and not in it, since transactions that notify commit one after the other. What gets
 * lost, with the node that was to tell it or with the connection, is found when a tab's stream reads the store again.
 *
 * @param node Names this process in payloads, so that it does not hear itself.
 */
export function postgresHints(db: Postgres, channel: string, node: string): PostgresHints {
  const hints = createHints()
  const waiting = new Set<string>()
  let telling: Promise<void> | undefined
  let listening: Promise<Listening> | undefined
  let subscribed = 0
  let isClosed = false

  async function tellAll(): Promise<void> {
    while (waiting.size > 0) {
      const payloads = [...waiting].map((key) => `${node} ${key}`)
      waiting.clear()
      await db.transaction((queries) => queries.all(notify, channel, payloads), { soon: true })
    }
  }

  function listen(): Promise<Listening> {
    listening ??= db
      .listen(channel, {
        heard(payload) {
          const [from, key = ''] = payload.split(' ')
          if (from !== node) hints.publish(key)
        },
        lost() {
          listening = undefined
          hints.interrupt()
          // Everybody reads once it is heard again, and not before that too; whoever reads while it is not also attends.
          if (subscribed > 0 && !isClosed) listen().catch(() => hints.publishAll())
        },
      })
      .then((opened) => {
        hints.publishAll() // for what was told while nobody listened here
        return opened
      })
      .catch((error: unknown) => {
        listening = undefined
        throw error
      })
    return listening
  }

  return {
    publish(keys) {
      for (const key of keys) {
        hints.publish(key)
        waiting.add(key)
      }
      if (keys.length === 0 || isClosed) return
      telling ??= tellAll()
        .catch(() => waiting.clear())
        .finally(() => {
          telling = undefined
        })
    },

    async subscribe(key, onHint) {
      await listen()
      const unsubscribe = hints.subscribe(key, onHint)
      let isOver = false
      subscribed += 1
      return () => {
        if (!isOver) subscribed -= 1
        isOver = true
        unsubscribe()
      }
    },

    watch: hints.watch,
    listening: listen,

    attend() {
      // Who called has an error of his own if the database is away; if only listening fails, the next reader tries again.
      if (subscribed > 0 && listening === undefined && !isClosed) listen().catch(() => {})
    },

    async close() {
      isClosed = true
      await telling
      const opened = await listening?.catch(() => undefined)
      await opened?.close()
    },
  }
}
