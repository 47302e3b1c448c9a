import { BlockList, isIPv4, isIPv6 } from 'node:net'
import type { Cluster, Redis, RedisOptions } from 'ioredis'

/** The end of a sentence about a connection. */
export const notProtected: string =
  'is not protected: use TLS with a certificate that is checked, and a password; or set allowInsecure where the network ' +
  'itself is trusted'

/**
 * Judges what the options alone can tell: where they lead, and whether TLS and a password are there (T19).
 *
 * @throws TypeError when they lead over the network without both.
 */
export function refuseInsecure(client: Redis | Cluster): void {
  for (const { host, options } of destinationsOf(client)) {
    if (isLocal(host) || (hasCheckedTls(options) && hasCredentials(options))) continue
    throw new TypeError(`the connection to Redis at ${host} ${notProtected}`)
  }
}

interface Destination {
  readonly host: string | undefined
  readonly options: Pick<RedisOptions, 'tls' | 'username' | 'password'>
}

function destinationsOf(client: Redis | Cluster): readonly Destination[] {
  if (!client.isCluster) {
    const { options } = client as Redis
    if (options.path !== undefined && options.path !== null) return []
    if (!options.sentinels) return [{ host: options.host, options }]
    return options.sentinels.map(({ host }) => ({ host, options }))
  }
  const { options } = client as Cluster
  const nodes: unknown = Reflect.get(client, 'startupNodes')
  return (Array.isArray(nodes) ? nodes : []).map((node: unknown) => ({
    host: hostOf(node),
    options: { ...options.redisOptions, ...(typeof node === 'object' ? node : {}) },
  }))
}

function hostOf(node: unknown): string | undefined {
  if (typeof node === 'string') return new URL(node.includes('://') ? node : `redis://${node}`).hostname
  return typeof node === 'object' && node !== null ? String(Reflect.get(node, 'host') ?? '127.0.0.1') : undefined
}

/** The connection as it is: Sentinel and Cluster say themselves where their servers are. */
export function isProtected({ stream, options }: Redis): boolean {
  const address: unknown = Reflect.get(stream, 'remoteAddress')
  if (typeof address !== 'string' || isLocal(address)) return true // without an address: a socket in the file system
  return Reflect.get(stream, 'encrypted') === true && hasCheckedTls(options) && hasCredentials(options)
}

function hasCheckedTls({ tls }: Destination['options']): boolean {
  return tls !== undefined && tls !== null && tls.rejectUnauthorized !== false
}

function hasCredentials({ username, password, tls }: Destination['options']): boolean {
  return Boolean(username) || Boolean(password) || tls?.cert !== undefined
}

const loopback = new BlockList()
loopback.addSubnet('127.0.0.0', 8, 'ipv4')
loopback.addAddress('::1', 'ipv6')

function isLocal(host: string | undefined): boolean {
  if (host === undefined || host === 'localhost' || host.endsWith('.localhost')) return true
  if (isIPv4(host)) return loopback.check(host, 'ipv4')
  return isIPv6(host) && loopback.check(host, 'ipv6')
}

/** Names it in messages, without user and password. */
export function placeOf(client: Redis | Cluster): string {
  if (client.isCluster) return 'the cluster'
  const { sentinels, name, path, host, port } = (client as Redis).options
  return sentinels ? `master ${name}` : (path ?? `${host}:${port}`)
}
