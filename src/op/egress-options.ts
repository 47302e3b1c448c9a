/** Which addresses the URLs of clients may lead to, and by which way. */
export interface EgressPolicyOptions {
  /** CIDRs (`10.0.0.0/8`) or host names (`intranet.example`) that are allowed beside public unicast addresses. Default none. */
  allow?: readonly string[]
  /**
   * An HTTP proxy that all these requests go through by CONNECT: `http://proxy.intranet:3128`, with `user:password@` where it
   * asks for that. Addresses are resolved and judged here and the proxy is told the address, so it needs no rules of its own.
   * Default none; proxy variables of the environment are ignored (T25).
   */
  proxy?: string
  /**
   * States that the proxy itself keeps requests away from addresses inside: it is told host names, which are not resolved
   * here. `allow` then says only what may be asked for over `http`, and which literal addresses are allowed. Default false.
   */
  proxyEnforces?: boolean
}

/** The options with every default in its place. */
export interface ResolvedEgressPolicy {
  readonly allow: readonly string[]
  readonly proxy?: URL
  readonly proxyEnforces: boolean
}

/** Checks the options and fills in the defaults; a wrong one is a `TypeError` that names it, and never shows a password. */
export function resolveEgressPolicy(options: EgressPolicyOptions = {}): ResolvedEgressPolicy {
  const { allow = [], proxy, proxyEnforces = false, ...unknown } = options
  const [strange] = Object.keys(unknown)
  if (strange !== undefined) throw new TypeError(`"egress.${strange}" is not an option of Lockstep's Provider`)
  if (!Array.isArray(allow) || allow.some((entry) => typeof entry !== 'string')) {
    throw new TypeError('egress.allow must be an array of CIDRs and host names')
  }
  if (typeof proxyEnforces !== 'boolean') throw new TypeError('egress.proxyEnforces must be true or false')
  if (proxy === undefined) {
    if (proxyEnforces) throw new TypeError('egress.proxyEnforces is about egress.proxy, which is missing')
    return { allow, proxyEnforces }
  }
  const url = typeof proxy === 'string' ? URL.parse(proxy) : null
  if (!url || !/^https?:$/.test(url.protocol) || url.pathname !== '/' || url.search !== '' || url.hash !== '') {
    throw new TypeError('egress.proxy must be the URL of a proxy: http://host:port or https://host:port')
  }
  return { allow, proxy: url, proxyEnforces }
}
