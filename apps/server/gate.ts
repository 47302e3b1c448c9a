import type { IncomingMessage, ServerResponse } from 'node:http'
import type { ServerConfig } from './config.ts'

/** Bytes of a request body, beyond which nobody here reads; an encrypted ID Token as a hint fits. */
const BODY_LIMIT = 64 * 1024

/**
 * Looks at each request first and answers itself when it goes no further. What it lets in has the issuer's Host, and a
 * `url` below the issuer's path.
 */
export type Gate = (req: IncomingMessage, res: ServerResponse) => boolean

/**
 * Lets in what is meant for this issuer.
 *
 * On loopback the Host header must name this machine, or any web page could drive this OP by DNS rebinding (T22).
 * With https, Host and protocol are set to the issuer's, so that no forwarded header can bend a URL.
 */
export function gateOf({
  issuer,
  listen,
  tls,
}: Pick<ServerConfig, 'issuer' | 'tls'> & { listen: { port: number } }): Gate {
  const { host, protocol, pathname } = new URL(issuer)
  const base = pathname.replace(/\/$/, '')
  const secure = protocol === 'https:'
  const proxied = secure && !tls
  const ownHosts = new Set([host, ...['localhost', '127.0.0.1', '[::1]'].map((name) => `${name}:${listen.port}`)])

  return (req, res) => {
    const asked = req.headers.host?.toLowerCase() ?? ''
    if (!secure && !ownHosts.has(asked)) return refuse(req, res, 421, `This server answers as ${host} only.\n`)
    if (!(Number(req.headers['content-length'] ?? 0) <= BODY_LIMIT)) {
      return refuse(req, res, 413, `A request body may have ${BODY_LIMIT} bytes here.\n`)
    }
    const target = req.url ?? '/'
    const path = target.split('?', 1)[0] ?? '/'
    if (path !== base && !path.startsWith(`${base}/`)) {
      return refuse(req, res, 404, `Nothing is here; this OP lives at ${issuer}\n`)
    }
    if (!secure && asked !== host && req.method === 'GET' && req.headers['sec-fetch-dest'] === 'document') {
      // somebody typed 127.0.0.1: the cookies are at the issuer's own name
      res.writeHead(307, { location: new URL(issuer).origin + target, 'cache-control': 'no-store' }).end()
      return false
    }
    const address = forwardedAddress(req, proxied)
    req.headers.host = host
    delete req.headers['x-forwarded-host']
    delete req.headers['x-forwarded-for']
    if (secure) req.headers['x-forwarded-proto'] = 'https'
    if (address) req.headers['x-forwarded-for'] = address
    const below = target.slice(base.length)
    req.url = below.startsWith('/') ? below : `/${below}`
    return true
  }
}

/** Where a request that the gate let in comes from. */
export function addressOf(req: IncomingMessage): string {
  return String(req.headers['x-forwarded-for'] ?? req.socket.remoteAddress ?? '')
}

/** Behind the TLS proxy, the address which that proxy added last: a client can write the others itself. */
function forwardedAddress(req: IncomingMessage, proxied: boolean): string | undefined {
  return proxied
    ? String(req.headers['x-forwarded-for'] ?? '')
        .split(',')
        .at(-1)
        ?.trim()
    : undefined
}

function refuse(req: IncomingMessage, res: ServerResponse, status: number, text: string): false {
  res.writeHead(status, {
    'content-type': 'text/plain; charset=utf-8',
    'cache-control': 'no-store',
    connection: 'close',
  })
  res.end(text)
  req.resume()
  return false
}
