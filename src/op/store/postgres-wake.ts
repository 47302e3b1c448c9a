import { createHash } from 'node:crypto'
import { type Listening, type Postgres, statement } from '../../runtime/postgres.ts'

/** The doorbell of the outboxes of all nodes that share a database. */
export interface PostgresWake {
  /** Tells all nodes, this one included, that deliveries were planned, soon: a hint that nobody waits for, and that never fails. */
  ring(issuer: string): void
  /** Has the listener called when some node rang for the issuer, or may have. Returns the way to stop. */
  onRing(issuer: string, listener: () => void): () => void
  /** Sees to it that this node hears the others, where somebody listens: called again and again. */
  attend(): Promise<void>
  /** Resolves when the last ring is said, and nothing is heard any more. */
  close(): Promise<void>
}

const notify = statement('wake_notify', 'SELECT pg_notify($1, $2)')

/**
 * LISTEN and NOTIFY as a doorbell: the payload is only a hash of the issuer, and whoever hears it looks into the outbox,
 * where the truth is (T18).
 *
 * It is rung after the commit and not in it, since transactions that notify commit one after the other, and beside the answer,
 * since what is committed must be answered whatever the database does next. A ring may get lost, with a node that dies right
 * after the commit or with the connection; then the others look at their next turn.
 */
export function postgresWake(db: Postgres, channel: string): PostgresWake {
  const listeners = new Set<{ readonly payload: string; readonly call: () => void }>()
  const waiting = new Set<string>()
  let ringing: Promise<void> | undefined
  let listening: Promise<Listening> | undefined
  let isClosed = false

  const callAll = (): void => {
    for (const { call } of listeners) call()
  }

  async function ringAll(): Promise<void> {
    try {
      while (waiting.size > 0) {
        const payloads = [...waiting]
        waiting.clear()
        await db.transaction(
          async (queries) => {
            for (const payload of payloads) await queries.all(notify, channel, payload)
          },
          { soon: true },
        )
      }
    } catch {
      waiting.clear() // the next turn of each node finds what could not be rung: the deliveries are committed
    } finally {
      ringing = undefined
    }
  }

  async function listen(): Promise<Listening> {
    const opened = await db.listen(channel, {
      heard: (payload) => {
        for (const listener of listeners) if (listener.payload === payload) listener.call()
      },
      lost: () => {
        listening = undefined
        callAll() // whoever looks now also attends again
      },
    })
    callAll() // for what was rung before
    return opened
  }

  return {
    ring(issuer) {
      waiting.add(payloadOf(issuer))
      ringing ??= ringAll()
    },

    onRing(issuer, call) {
      const listener = { payload: payloadOf(issuer), call }
      listeners.add(listener)
      return () => {
        listeners.delete(listener)
      }
    },

    async attend() {
      if (listeners.size === 0 || isClosed) return
      listening ??= listen().catch((error: unknown) => {
        listening = undefined
        throw error
      })
      await listening
    },

    async close() {
      isClosed = true
      await ringing
      const opened = await listening?.catch(() => undefined)
      await opened?.close()
    },
  }
}

function payloadOf(issuer: string): string {
  return createHash('sha256').update(issuer).digest('base64url')
}
