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
    if (network) networks.push(network, ...carriedBy(network))
    else hosts.add(parseHost(entry))
  }
  const isListed = (address: Address): boolean => networks.some((network) => within(address, network))
  return {
    permits({ protocol, host, address }) {
      const parsed = parseAddress(address)
      if (!parsed || (protocol !== 'https:' && protocol !== 'http:')) return false
      if (hosts.has(withoutDot(host))) return true
      const isHttps = protocol === 'https:'
      const inner = embeddedIn(parsed)
      if (!inner) return isListed(parsed) || (isHttps && isPublic(parsed))
      // an entry that covers the carrier does not say where the packet may go from there
      if (!isListed(inner) && !(isHttps && isPublic(inner))) return false
      return !isIsatap(parsed) || isListed(parsed) || (isHttps && isGlobal(parsed))
    },

    permitsName: (protocol, host) => protocol === 'https:' || (protocol === 'http:' && hosts.has(withoutDot(host))),

    names: (host) => hosts.has(withoutDot(host)),

    destinationOf(address) {
      const parsed = parseAddress(address)
      if (parsed?.kind() !== 'ipv6') return parsed?.toString() ?? address
      const v6 = parsed as ipaddr.IPv6
      return embeddedIn(v6)?.toString() ?? `${new ipaddr.IPv6([...v6.parts.slice(0, 4), 0, 0, 0, 0]).toString()}/64`
    },
  }
}

/** Public unicast by the registries of special addresses; of an address that carries no other. */
function isPublic(address: Address): boolean {
  if (address.range() !== 'unicast') return false
  return address.kind() === 'ipv4' ? !metadata.has(address.toString()) : isGlobal(address)
}

/** Addresses in public ranges at which clouds answer their own machines with secrets; the others are not public anyway. */
const metadata: ReadonlySet<string> = new Set(['168.63.129.16'])

/** The only IPv6 block from which addresses are given out. */
const globalUnicast = ipaddr.IPv6.parseCIDR('2000::/3')

function isGlobal(address: Address): boolean {
  return within(address, globalUnicast)
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

/** The IPv4 address that IPv6 carries, and the bits before it. `::` and `::1` carry none (RFC 4291 §2.5.5.1). */
function carriedIn(address: Address): { inner: ipaddr.IPv4; bitsBefore: number } | undefined {
  if (address.kind() === 'ipv4' || within(address, unspecifiedAndLoopback)) return undefined
  const v6 = address as ipaddr.IPv6
  const carrier = carriers.find(({ block }) => v6.match(block)) ?? (isIsatap(v6) ? { at: 12 } : undefined)
  if (!carrier) return undefined
  const bytes = v6.toByteArray().slice(carrier.at, carrier.at + 4)
  const inner = new ipaddr.IPv4('inverted' in carrier ? bytes.map((byte) => byte ^ 0xff) : bytes)
  return { inner, bitsBefore: carrier.at * 8 }
}

const unspecifiedAndLoopback = ipaddr.IPv6.parseCIDR('::/127')

function embeddedIn(address: Address): ipaddr.IPv4 | undefined {
  return carriedIn(address)?.inner
}

/** The IPv4 network that an entry written as IPv6 means; none where it says nothing of what is carried. */
function carriedBy([network, bits]: [Address, number]): [Address, number][] {
  const carried = carriedIn(network)
  if (!carried || bits <= carried.bitsBefore) return []
  return [[carried.inner, Math.min(32, bits - carried.bitsBefore)]]
}

/** ISATAP (RFC 5214 §6.1): any prefix, then 0000:5efe or 0200:5efe, then the IPv4 address. */
function isIsatap(address: Address): boolean {
  if (address.kind() === 'ipv4') return false
  const [, , , , group5, group6] = (address as ipaddr.IPv6).parts
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
