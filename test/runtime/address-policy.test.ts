import { describe, expect, it } from 'vitest'
import { addressPolicy } from '../../src/runtime/address-policy.ts'

const permitsHttps = (address: string, allow: readonly string[] = []): boolean =>
  addressPolicy(allow).permits({ protocol: 'https:', host: 'rp.example', address })

describe('addresses that are not public', () => {
  it.each([
    ['this host', '0.0.0.0'],
    ['this network', '0.1.2.3'],
    ['loopback', '127.0.0.1'],
    ['loopback, elsewhere', '127.255.1.9'],
    ['private 10/8', '10.1.2.3'],
    ['private 172.16/12', '172.31.255.255'],
    ['private 192.168/16', '192.168.0.1'],
    ['carrier-grade NAT', '100.64.0.1'],
    ['cloud metadata in carrier-grade NAT', '100.100.100.200'],
    ['link-local', '169.254.1.1'],
    ['cloud metadata', '169.254.169.254'],
    ['cloud metadata in a public range', '168.63.129.16'],
    ['IETF protocol assignments', '192.0.0.192'],
    ['documentation', '203.0.113.7'],
    ['benchmarking', '198.18.0.1'],
    ['6to4 relay anycast', '192.88.99.1'],
    ['multicast', '224.0.0.1'],
    ['reserved', '240.0.0.1'],
    ['broadcast', '255.255.255.255'],
    ['IPv6 unspecified', '::'],
    ['IPv6 loopback', '::1'],
    ['unique local', 'fd00::1'],
    ['cloud metadata by IPv6', 'fd00:ec2::254'],
    ['IPv6 link-local', 'fe80::1'],
    ['IPv6 link-local with a zone', 'fe80::1%eth0'],
    ['public with a zone', '2606:4700::1111%eth0'],
    ['site-local', 'fec0::1'],
    ['IPv6 multicast', 'ff02::1'],
    ['IPv6 documentation', '2001:db8::1'],
    ['IPv6 discard', '100::1'],
    ['IPv6 that nobody was given', '4000::1'],
    ['mapped loopback', '::ffff:127.0.0.1'],
    ['mapped private, in hex', '::ffff:a00:1'],
    ['mapped metadata', '::ffff:169.254.169.254'],
    ['IPv4-compatible loopback', '::127.0.0.1'],
    ['IPv4-translated private', '::ffff:0:10.0.0.1'],
    ['NAT64 of loopback', '64:ff9b::7f00:1'],
    ['NAT64 of metadata', '64:ff9b::a9fe:a9fe'],
    ['local-use NAT64', '64:ff9b:1::808:808'],
    ['6to4 of private', '2002:a00:1::1'],
    ['6to4 of loopback', '2002:7f00:1::'],
    ['Teredo client at a private address', '2001:0:4136:e378:8000:63bf:f5ff:fffe'],
    ['ISATAP of private', '2606:4700::5efe:a00:1'],
    ['ISATAP of loopback, universal bit set', '2606:4700::200:5efe:7f00:1'],
    ['ISATAP of public under link-local', 'fe80::5efe:808:808'],
    ['no address at all', 'rp.example'],
    ['nothing', ''],
  ])('refuses %s (%s) [T25]', (_, address) => {
    expect(permitsHttps(address)).toBe(false)
  })
})

describe('public addresses', () => {
  it.each([
    ['IPv4', '8.8.8.8'],
    ['IPv6', '2606:4700:4700::1111'],
    ['mapped', '::ffff:8.8.8.8'],
    ['NAT64', '64:ff9b::808:808'],
    ['6to4', '2002:808:808::1'],
    ['Teredo', '2001:0:4136:e378:8000:63bf:f7f7:f7f7'],
    ['ISATAP', '2606:4700::5efe:808:808'],
  ])('permits %s (%s) over https only', (_, address) => {
    expect(permitsHttps(address)).toBe(true)
    expect(addressPolicy([]).permits({ protocol: 'http:', host: 'rp.example', address })).toBe(false)
    expect(addressPolicy([]).permits({ protocol: 'ftp:', host: 'rp.example', address })).toBe(false)
  })
})

describe('the allow-list', () => {
  it('permits a CIDR over https and http, and nothing beside it', () => {
    const policy = addressPolicy(['10.1.0.0/16', 'fd00:1::/32'])
    for (const protocol of ['https:', 'http:']) {
      expect(policy.permits({ protocol, host: 'x', address: '10.1.255.255' })).toBe(true)
      expect(policy.permits({ protocol, host: 'x', address: '10.2.0.0' })).toBe(false)
      expect(policy.permits({ protocol, host: 'x', address: 'fd00:1::5' })).toBe(true)
      expect(policy.permits({ protocol, host: 'x', address: 'fd00:2::5' })).toBe(false)
    }
  })

  it('permits an allowed IPv4 address also where IPv6 carries it', () => {
    const policy = addressPolicy(['127.0.0.1'])
    expect(policy.permits({ protocol: 'http:', host: 'x', address: '::ffff:127.0.0.1' })).toBe(true)
    expect(policy.permits({ protocol: 'http:', host: 'x', address: '127.0.0.2' })).toBe(false)
    expect(policy.permits({ protocol: 'http:', host: 'x', address: '::1' })).toBe(false)
  })

  it.each([
    ['6to4 of loopback', '2002:7f00:1::', '2000::/3'],
    ['6to4 of loopback', '2002:7f00:1::', '2002::/16'],
    ['Teredo of private', '2001:0:4136:e378:8000:63bf:f5ff:fffe', '2000::/3'],
    ['ISATAP of loopback', '2606:4700::5efe:7f00:1', '2000::/3'],
    ['mapped loopback', '::ffff:127.0.0.1', '::/0'],
    ['NAT64 of metadata', '64:ff9b::a9fe:a9fe', '64:ff9b::/96'],
    ['IPv6 loopback, which carries nothing', '::1', '0.0.0.0/8'],
    ['ISATAP of an allowed address under a prefix that is not', 'fd00::5efe:a00:1', '10.0.0.0/8'],
  ])('does not permit %s (%s) by %s: where the packet goes and what carries it must both be allowed [T25]', (_, address, entry) => {
    expect(permitsHttps(address, [entry])).toBe(false)
    expect(addressPolicy([entry]).permits({ protocol: 'http:', host: 'x', address })).toBe(false)
  })

  it('takes http to an ISATAP address for http to its prefix too [T25]', () => {
    const target = { protocol: 'http:', host: 'x', address: '2606:4700::5efe:a00:1' }
    expect(addressPolicy(['10.0.0.0/8']).permits(target)).toBe(false)
    expect(addressPolicy(['10.0.0.0/8', '2606:4700::/32']).permits(target)).toBe(true)
  })

  it.each([
    ['::1', '::1'],
    ['::ffff:10.0.0.1', '::ffff:10.0.0.1'],
    ['::ffff:10.0.0.0/104', '10.9.9.9'],
    ['2002:a00:1::/48', '2002:a00:1::7'],
    ['2606:4700::5efe:a00:1', '2606:4700::5efe:a00:1'],
  ])('takes the entry %s for the address that it carries, and permits %s', (entry, address) => {
    expect(permitsHttps(address, [entry])).toBe(true)
    expect(addressPolicy([entry]).permits({ protocol: 'http:', host: 'x', address })).toBe(true)
    expect(permitsHttps('127.0.0.1', [entry])).toBe(false)
  })

  it('permits an exact host name at whatever address it has', () => {
    const policy = addressPolicy(['Intranet.example', 'localhost'])
    expect(policy.permits({ protocol: 'http:', host: 'intranet.example', address: '10.0.0.1' })).toBe(true)
    expect(policy.permits({ protocol: 'https:', host: 'intranet.example.', address: '10.0.0.1' })).toBe(true)
    expect(policy.permits({ protocol: 'http:', host: 'localhost', address: '::1' })).toBe(true)
    expect(policy.permits({ protocol: 'https:', host: 'sub.intranet.example', address: '10.0.0.1' })).toBe(false)
    expect(policy.permits({ protocol: 'https:', host: 'intranet.example.evil.example', address: '10.0.0.1' })).toBe(
      false,
    )
  })

  it.each([
    '10.0.0.0/33',
    '10.0.0/8',
    '10.0.0.0/',
    '/8',
    '10.0.0.0/8/8',
    'fd00::/129',
    'http://x',
    'x y',
    '*.example',
    '',
    '0x7f.1',
    'fe80::1%eth0',
  ])('names the entry "%s" that is neither CIDR nor address nor host name', (entry) => {
    expect(() => addressPolicy([entry])).toThrow(TypeError)
    expect(() => addressPolicy([entry])).toThrow(`egress.allow: "${entry}"`)
  })
})
