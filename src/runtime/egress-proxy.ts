import type { Duplex } from 'node:stream'
import { buildConnector, Pool } from 'undici'

/** The egress proxy did not open the way. Its address and its password are in no message. */
export class EgressProxyError extends Error {
  readonly code = 'EGRESS_PROXY_FAILED'
  constructor(why: string, options?: ErrorOptions) {
    super(`the egress proxy ${why}`, options)
    this.name = 'EgressProxyError'
  }
}

/** The ways through an HTTP proxy. */
export interface EgressProxy {
  /** Opens one to `target`, an address or a name with its port (RFC 9110 §9.3.6). */
  open(target: string): Promise<Duplex>
  close(): Promise<void>
}

/** Milliseconds for the proxy to reach a target. */
const patience = 10_000

/** Opens ways through a proxy by CONNECT; `user:password@` of its URL become `Proxy-Authorization: Basic`. */
export function egressProxy(proxy: URL): EgressProxy {
  const pool = new Pool(proxy.origin, { allowH2: false, connect: buildConnector({ allowH2: false }) })
  const { username, password } = proxy
  const login = Buffer.from(`${decodeURIComponent(username)}:${decodeURIComponent(password)}`).toString('base64')
  const authorization = username === '' ? {} : { 'proxy-authorization': `Basic ${login}` }
  return {
    async open(target) {
      try {
        const { statusCode, socket } = await pool.connect({
          path: target,
          headers: { host: target, ...authorization },
          signal: AbortSignal.timeout(patience),
        })
        if (statusCode >= 200 && statusCode < 300) return socket
        socket.on('error', () => {}).destroy() // nobody uses it any more, so what becomes of it is nobody's failure
        throw new EgressProxyError(`answered ${statusCode}`)
      } catch (cause) {
        // undici would wait and try again for ever if it saw its own kind of socket error from a connector
        throw cause instanceof EgressProxyError ? cause : new EgressProxyError('could not be used', { cause })
      }
    },
    close: () => pool.destroy(),
  }
}
