import ipaddr from 'ipaddr.js'

/** Where a connection is about to go, or has gone. */
export interface Target {
  /** `https:` or `http:`. */
  readonly protocol: string
  /** Host name or literal address, as `URL.hostname` has it. */
  readonly host: string
  /** The address itself. */
  readonly address: string
}

/** Says whether a connection may be made. */
export interface AddressPolicy {
  permits(target: Target): boolean
  /** Whether a host may be asked for of which only the name is known, since somebody else judges its addresses. */
  permitsName(protocol: string, host: string): boolean
  /** Whether the operator wrote this host's name down. */
  names(host: string): boolean
  /** Where a packet to this address goes: of IPv6 that carries an IPv4 address, the latter; else its /64, which is one host's to use. */
  destinationOf(address: string): string
}

type Address = ipaddr.IPv4 | ipaddr.IPv6

/**
 * Makes the policy for URLs that the operator did not write: https to public unicast addresses, and whatever `allow`
 * names; http only to what `allow` names (T25).
 *
 * @param allow CIDRs, addresses, or exact host names.
 * @throws TypeError naming an entry that is none of these.
 */
export function addressPolicy(allow: readonly string[]): AddressPolicy {
  const networks: [Address, number][] = []
  const hosts = new Set<string>()
  for (const entry of allow) {
    const network = parseNetwork(entry)
    if (network) networks.push(network)
    else hosts.add(parseHost(entry))
  }
  return {
    permits({ protocol, host, address }) {
      const parsed = parseAddress(address)
      if (!parsed || (protocol !== 'https:' && protocol !== 'http:')) return false
      if (hosts.has(withoutDot(host))) return true
      const inner = parsed.kind() === 'ipv6' ? embedded(parsed as ipaddr.IPv6) : undefined
      if (networks.some((network) => within(parsed, network) || (inner && within(inner, network)))) return true
      return protocol === 'https:' && isPublic(parsed)
    },

    permitsName: (protocol, host) => protocol === 'https:' || (protocol === 'http:' && hosts.has(withoutDot(host))),

    names: (host) => hosts.has(withoutDot(host)),

    destinationOf(address) {
      const parsed = parseAddress(address)
      if (parsed?.kind() !== 'ipv6') return parsed?.toString() ?? address
      const v6 = parsed as ipaddr.IPv6
      return embedded(v6)?.toString() ?? `${new ipaddr.IPv6([...v6.parts.slice(0, 4), 0, 0, 0, 0]).toString()}/64`
    },
  }
}

/**
 * Public unicast by the registries of special addresses. IPv6 that carries an IPv4 address is judged by what it carries,
 * since that is where the packet goes.
 */
function isPublic(address: Address): boolean {
  if (address.kind() === 'ipv4') return address.range() === 'unicast' && !metadata.has(address.toString())
  const v6 = address as ipaddr.IPv6
  const inner = embedded(v6)
  if (inner) return isPublic(inner) && (!isIsatap(v6) || isGlobal(v6))
  return isGlobal(v6) && v6.range() === 'unicast'
}

/** Addresses in public ranges at which clouds answer their own machines with secrets; the others are not public anyway. */
const metadata: ReadonlySet<string> = new Set(['168.63.129.16'])

/** The only IPv6 block from which addresses are given out. */
const globalUnicast = ipaddr.IPv6.parseCIDR('2000::/3')

function isGlobal(address: ipaddr.IPv6): boolean {
  return address.match(globalUnicast)
}

/** Blocks whose addresses carry an IPv4 address, and the byte at which it begins. */
const carriers: readonly { block: [ipaddr.IPv6, number]; at: number; inverted?: true }[] = [
  { block: ipaddr.IPv6.parseCIDR('::/96'), at: 12 },
  { block: ipaddr.IPv6.parseCIDR('::ffff:0:0/96'), at: 12 },
  { block: ipaddr.IPv6.parseCIDR('::ffff:0:0:0/96'), at: 12 },
  { block: ipaddr.IPv6.parseCIDR('64:ff9b::/96'), at: 12 },
  { block: ipaddr.IPv6.parseCIDR('2002::/16'), at: 2 },
  { block: ipaddr.IPv6.parseCIDR('2001::/32'), at: 12, inverted: true },
]

function embedded(address: ipaddr.IPv6): ipaddr.IPv4 | undefined {
  const carrier = carriers.find(({ block }) => address.match(block)) ?? (isIsatap(address) ? { at: 12 } : undefined)
  if (!carrier) return undefined
  const bytes = address.toByteArray().slice(carrier.at, carrier.at + 4)
  return new ipaddr.IPv4('inverted' in carrier ? bytes.map((byte) => byte ^ 0xff) : bytes)
}

/** ISATAP (RFC 5214 §6.1): any prefix, then 0000:5efe or 0200:5efe, then the IPv4 address. */
function isIsatap(address: ipaddr.IPv6): boolean {
  const [, , , , group5, group6] = address.parts
  return (group5 === 0 || group5 === 0x200) && group6 === 0x5efe
}

function within(address: Address, [network, bits]: [Address, number]): boolean {
  return address.kind() === network.kind() && address.match(network, bits)
}

/** What a resolver or a socket says; an address with a zone is never public, and no CIDR can mean it. */
function parseAddress(text: string): Address | undefined {
  if (ipaddr.IPv4.isValidFourPartDecimal(text)) return ipaddr.IPv4.parse(text)
  const bare = text.startsWith('[') && text.endsWith(']') ? text.slice(1, -1) : text
  return !bare.includes('%') && ipaddr.IPv6.isValid(bare) ? ipaddr.IPv6.parse(bare) : undefined
}

function parseNetwork(entry: string): [Address, number] | undefined {
  if (entry.includes('/')) {
    const [address = '', bits = ''] = entry.split('/', 2)
    const parsed = parseAddress(address)
    const longest = parsed?.kind() === 'ipv4' ? 32 : 128
    if (!parsed || !/^\d{1,3}$/.test(bits) || Number(bits) > longest || entry.split('/').length > 2) throw wrong(entry)
    return [parsed, Number(bits)]
  }
  const parsed = parseAddress(entry)
  return parsed && [parsed, parsed.kind() === 'ipv4' ? 32 : 128]
}

function parseHost(entry: string): string {
  const host = withoutDot(entry)
  // A URL's own parser, so that the entry is spelled as `URL.hostname` will spell the host.
  const url = URL.parse(`https://${host}/`)
  const isName = /^[\w-]+(\.[\w-]+)*$/.test(host) && url?.hostname === host.toLowerCase()
  if (!isName) throw wrong(entry)
  return url.hostname
}

function withoutDot(host: string): string {
  return host.endsWith('.') ? host.slice(0, -1) : host
}

function wrong(entry: string): TypeError {
  return new TypeError(`egress.allow: "${entry}" is neither a CIDR (10.0.0.0/8), nor an address, nor a host name`)
}
