import { isIP, type LookupFunction, type Socket } from 'node:net'
import type { buildConnector } from 'undici'
import { LockstepError } from '../protocol/errors.ts'
import type { AddressPolicy } from './address-policy.ts'
import type { EgressProxy } from './egress-proxy.ts'

/** An address a resolver found for a host name. */
export interface ResolvedAddress {
  readonly address: string
  readonly family: number
}

/** How connections are opened. */
export interface ConnectionParts {
  readonly policy: AddressPolicy
  /** Finds a host's addresses. */
  resolve(hostname: string): Promise<readonly ResolvedAddress[]>
  /** Makes the function that opens connections. */
  connect(options: { lookup: LookupFunction; allowH2: boolean }): buildConnector.connector
  readonly proxy?: EgressProxy | undefined
  /** The proxy is told names and judges their addresses itself. */
  readonly proxyEnforces: boolean
}

/**
 * The permitted addresses of a host. A literal address is judged like one that was found.
 *
 * @throws LockstepError `egress_refused` when there are only others.
 */
export async function permittedAddresses(
  { policy, resolve }: Pick<ConnectionParts, 'policy' | 'resolve'>,
  protocol: string,
  hostname: string,
): Promise<readonly ResolvedAddress[]> {
  const literal = hostname.startsWith('[') ? hostname.slice(1, -1) : hostname
  const family = isIP(literal)
  const found = family === 0 ? await resolve(hostname) : [{ address: literal, family }]
  const permitted = found.filter(({ address }) => policy.permits({ protocol, host: hostname, address }))
  if (permitted.length > 0) return permitted
  throw found.length === 0 ? notFound(hostname) : refused(protocol, hostname)
}

/** Opens connections to permitted addresses only, by itself or through the proxy. */
export function guardedConnector(parts: ConnectionParts): buildConnector.connector {
  const open = (protocol: string): buildConnector.connector => {
    const lookup: LookupFunction = (hostname, { all }, callback) => {
      permittedAddresses(parts, protocol, hostname).then(
        (permitted) => {
          const [first] = permitted
          if (all || !first) callback(null, [...permitted])
          else callback(null, first.address, first.family)
        },
        (error: NodeJS.ErrnoException) => callback(error, ''),
      )
    }
    return parts.connect({ lookup, allowH2: false })
  }
  const byProtocol: Readonly<Record<string, buildConnector.connector>> = {
    'http:': open('http:'),
    'https:': open('https:'),
  }
  return (options, callback) => {
    const { protocol, hostname } = options
    const connector = byProtocol[protocol]
    if (!connector) callback(refused(protocol, hostname), null)
    else if (parts.proxy) throughProxy(parts, parts.proxy, connector)(options, callback)
    else directly(parts, connector)(options, callback)
  }
}

function directly({ policy }: ConnectionParts, connector: buildConnector.connector): buildConnector.connector {
  return (options, callback) => {
    const { protocol, hostname: host } = options
    if (isIP(host) && !policy.permits({ protocol, host, address: host })) {
      callback(refused(protocol, host), null)
      return
    }
    connector(options, (...[error, socket]) => {
      if (error || !socket) {
        callback(error ?? new Error('no connection'), null)
      } else if (!policy.permits({ protocol, host, address: socket.remoteAddress ?? '' })) {
        // A name that changed its mind between two look-ups gains nothing.
        const failure = socket.remoteAddress ? refused(protocol, host) : wasReset(host)
        socket.destroy()
        callback(failure, null)
      } else {
        callback(null, socket)
      }
    })
  }
}

/** The proxy is told an address that was judged here; TLS inside is with the name, as it would be without the proxy. */
function throughProxy(
  parts: ConnectionParts,
  proxy: EgressProxy,
  connector: buildConnector.connector,
): buildConnector.connector {
  return (options, callback) => {
    const { protocol, port } = options
    openThrough(parts, proxy, protocol, options.hostname, port || (protocol === 'https:' ? '443' : '80')).then(
      (socket) => {
        if (protocol === 'https:') connector({ ...options, httpSocket: socket }, callback)
        else callback(null, socket)
      },
      (error: Error) => callback(error, null),
    )
  }
}

async function openThrough(
  parts: ConnectionParts,
  proxy: EgressProxy,
  protocol: string,
  hostname: string,
  port: string,
): Promise<Socket> {
  let failure: unknown
  for (const host of await targetsOf(parts, protocol, hostname)) {
    try {
      return (await proxy.open(`${isIP(host) === 6 ? `[${host}]` : host}:${port}`)) as Socket
    } catch (error) {
      failure = error // the next address of the host may be one that the proxy reaches
    }
  }
  throw failure
}

async function targetsOf(parts: ConnectionParts, protocol: string, hostname: string): Promise<readonly string[]> {
  const isLiteral = hostname.startsWith('[') || isIP(hostname) !== 0
  if (parts.proxyEnforces && !isLiteral) {
    if (!parts.policy.permitsName(protocol, hostname)) throw refused(protocol, hostname)
    return [hostname]
  }
  return (await permittedAddresses(parts, protocol, hostname)).slice(0, mostTargets).map(({ address }) => address)
}

/** Addresses of one host that are tried. */
export const mostTargets = 4

function refused(protocol: string, host: string): LockstepError {
  const why = protocol === 'https:' ? 'has no public address' : 'is asked for over http'
  return new LockstepError(
    'egress_refused',
    `the host "${host}" ${why} and is not in the allow-list; if it is meant to be reached, add it to egress.allow`,
  )
}

function notFound(hostname: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`the host "${hostname}" has no address`), { code: 'ENOTFOUND' })
}

/** A socket that is gone has no address to judge. */
function wasReset(hostname: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`the host "${hostname}" reset the connection`), { code: 'ECONNRESET' })
}
