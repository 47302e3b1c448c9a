import { isIP } from 'node:net'
import ipaddr from 'ipaddr.js'
import type { ServerConfig } from './config.ts'
import { ConfigError } from './config-error.ts'

/** Says whether a host name or address always means this machine. */
export function isLoopback(host: string): boolean {
  const name = host.replace(/^\[|\]$/g, '').toLowerCase()
  if (name === 'localhost' || name.endsWith('.localhost')) return true
  return ipaddr.isValid(name) && ipaddr.process(name).range() === 'loopback'
}

/** Says whether an entry of `egress.allow` can be understood. */
export function isNetworkOrHost(entry: string): boolean {
  if (ipaddr.isValidCIDR(entry) || isIP(entry)) return true
  return (
    /^(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_]([a-z0-9_-]{0,62}))*$/i.test(entry) && !/^[\d.]+$/.test(entry)
  )
}

/**
 * Refuses to start what is safe on one machine only: the demo's accounts, an http issuer and calls to loopback need both
 * an issuer and a listening address that nobody else can reach (T22).
 */
export function requireLoopback(config: ServerConfig): void {
  const { hostname, protocol } = new URL(config.issuer)
  if (isLoopback(hostname) && isLoopback(config.listen.host)) return
  const where = isLoopback(hostname) ? `"listen.host" is "${config.listen.host}"` : `"issuer" is "${config.issuer}"`
  if (config.demo) {
    throw new ConfigError(
      `${config.source}: the demo and its accounts run on loopback only, but ${where}. Use --config.`,
    )
  }
  if (protocol === 'http:') {
    throw new ConfigError(
      `${config.source}: "issuer" may use http only where issuer and listen.host are loopback, but ${where}. ` +
        'Use an https issuer with a TLS proxy in front, or loopback for both.',
    )
  }
  const inside = config.egress.allow.find(reachesLoopback)
  if (inside !== undefined) {
    throw new ConfigError(
      `${config.source}: "egress.allow" has "${inside}", which reaches this machine itself, but ${where}. ` +
        'Allow only the networks your apps are in.',
    )
  }
}

/** Says whether an allowed network or host holds a loopback address; 0.0.0.0 and :: mean this machine too. */
function reachesLoopback(entry: string): boolean {
  if (!ipaddr.isValidCIDR(entry)) return isLoopback(entry) || entry === '0.0.0.0' || entry === '::'
  const [base, bits] = ipaddr.parseCIDR(entry)
  const here = ['127.0.0.1', '0.0.0.0', '::1', '::', '::ffff:127.0.0.1', '::ffff:0.0.0.0'].map((text) =>
    ipaddr.parse(text),
  )
  if (here.some((address) => address.kind() === base.kind() && address.match(base, bits))) return true
  return ['loopback', 'unspecified'].includes(ipaddr.process(base.toString()).range())
}
