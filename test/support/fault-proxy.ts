import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

/**
 * What a network does to the answers of whoever is behind the proxy: lets them through, after a while (`delay`), never
 * (`swallow`), or the first bytes of each and then cuts the connection (`cutAfter`). Requests always arrive.
 */
export type Fault = 'none' | 'swallow' | { readonly delay: number } | { readonly cutAfter: number }

/** A TCP proxy on loopback whose faults can be switched while connections are open. */
export interface FaultProxy {
  readonly port: number
  fault: Fault
  /** Refuses connections, as a host does where nobody listens, and cuts those that are open. */
  refuse(): Promise<void>
  /** Takes them again, at the same port. */
  listen(): Promise<void>
  close(): Promise<void>
}

/** Starts a proxy in front of a port on loopback. */
export async function startFaultProxy(target: number, fault: Fault = 'none'): Promise<FaultProxy> {
  const sockets = new Set<Socket>()
  const keep = (socket: Socket): void => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    socket.on('error', () => {}) // 'close' follows, and takes the other side along
  }

  const server = createServer((client) => {
    const upstream = connect(target, '127.0.0.1')
    for (const socket of [client, upstream]) keep(socket)
    client.on('close', () => upstream.destroy())
    upstream.on('close', () => client.end())
    client.pipe(upstream)
    upstream.on('data', (answer) => {
      const { fault } = proxy
      if (fault === 'none') client.write(answer)
      else if (fault === 'swallow') return
      else if ('delay' in fault) setTimeout(() => client.write(answer), fault.delay)
      else client.write(answer.subarray(0, fault.cutAfter), () => client.resetAndDestroy())
    })
  })

  async function listen(port: number): Promise<void> {
    server.listen(port, '127.0.0.1')
    await once(server, 'listening')
  }
  async function refuse(): Promise<void> {
    const closed = server.listening ? once(server, 'close') : undefined
    server.close()
    for (const socket of sockets) socket.destroy()
    await closed
  }

  await listen(0)
  const { port } = server.address() as AddressInfo
  const proxy: FaultProxy = { port, fault, refuse, listen: () => listen(port), close: refuse }
  return proxy
}
