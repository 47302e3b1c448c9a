import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { ClientConfig } from 'pg'

/** The sockets of some connections: `pg` says goodbye and waits for the server, which may never hang up. */
export interface PostgresSockets {
  /** The configuration by which connections take their sockets from here. */
  readonly config: ClientConfig
  /**
   * Resolves when `goodbye` is said and all are closed. A few seconds from now what is still open is cut, and what is opened after
   * that.
   */
  closed(goodbye: Promise<unknown>): Promise<void>
}

/** Milliseconds for what is under way, and for the server to hang up. */
const patience = 5_000

/** Makes connections of this configuration take their sockets from here. */
export function postgresSockets(config: ClientConfig): PostgresSockets {
  const open = new Map<Duplex, Promise<unknown>>()
  let isCut = false

  function cut(): void {
    isCut = true
    for (const socket of open.keys()) socket.destroy()
  }

  return {
    config: {
      ...config,
      stream: () => {
        const socket = config.stream?.() ?? new Socket()
        const closed = new Promise((resolve) => socket.once('close', resolve)).then(() => open.delete(socket))
        open.set(socket, closed)
        if (isCut) setImmediate(() => socket.destroy()) // only now does somebody connect it
        return socket
      },
    },

    async closed(goodbye) {
      const clock = setTimeout(cut, patience)
      try {
        await goodbye
        await Promise.all(open.values())
      } finally {
        clearTimeout(clock)
      }
    },
  }
}
