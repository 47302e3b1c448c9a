import { type buildConnector, Pool } from 'undici'

/** Connections to one origin that are kept open for one user of them. */
export interface ConnectionPool {
  readonly dispatcher: Pool
  /** How many connections were asked for so far. */
  dials: number
}

/** Pools by name; one without connections and requests goes by itself. */
export interface ConnectionPools {
  /** @throws Error once they are closed. */
  of(name: string, origin: string, connector: buildConnector.connector): ConnectionPool
  /** Waits for requests under way, a few seconds at most, then closes the connections. */
  close(): Promise<void>
}

/** Connections of one pool. */
const most = 32

/** Milliseconds for which closing waits for requests under way: some wait for a connection that nobody takes. */
const closePatience = 3_000

/** Makes the pools. HTTP/1.1 only: what a connection that breaks means for the requests on it is then the same everywhere. */
export function connectionPools(): ConnectionPools {
  const pools = new Map<string, ConnectionPool>()
  let isClosed = false
  return {
    of(name, origin, connector) {
      if (isClosed) throw new Error('the way out is closed')
      const known = pools.get(name)
      if (known) return known
      const dial: buildConnector.connector = (options, callback) => {
        made.dials += 1
        connector(options, callback)
      }
      const dispatcher = new Pool(origin, { allowH2: false, connections: most, connect: dial, maxHeaderSize: 16_384 })
      const made: ConnectionPool = { dispatcher, dials: 0 }
      const dropIfUnused = (): void => {
        const { connected, pending, queued, running } = dispatcher.stats
        if (connected + pending + queued + running > 0 || pools.get(name) !== made) return
        pools.delete(name)
        void dispatcher.close()
      }
      dispatcher.on('disconnect', dropIfUnused).on('connectionError', dropIfUnused)
      pools.set(name, made)
      return made
    },

    async close() {
      isClosed = true
      const all = [...pools.values()]
      pools.clear()
      const giveUp = setTimeout(() => {
        for (const { dispatcher } of all) void dispatcher.destroy()
      }, closePatience)
      await Promise.all(all.map(({ dispatcher }) => dispatcher.close()))
      clearTimeout(giveUp)
    },
  }
}
