import { lookup, Resolver } from 'node:dns/promises'
import { readFile } from 'node:fs/promises'
import type { ResolvedAddress } from './guarded-connector.ts'

/** What {@link nameResolver} works with; all but `isVouchedFor` are for tests. */
export interface NameParts {
  /** Whether the operator wrote this host's name down. */
  isVouchedFor(hostname: string): boolean
  /** Asks the machine, as every program on it does. Default: getaddrinfo. */
  system?: (hostname: string) => Promise<readonly ResolvedAddress[]>
  /** Name servers, with ports. Default: the machine's. */
  servers?: readonly string[]
  /** Default `/etc/hosts`. */
  hostsFile?: string
}

/** Look-ups that wait for the machine, beside the one under way; more fail at once. */
const mostWaiting = 64

/**
 * Makes the resolver for names that others wrote.
 *
 * getaddrinfo runs in threads, of which Node gives two to such work: two names whose name server hangs would stop all
 * look-ups of the process, the application's too. So names are asked for over sockets, any number at once. The machine is asked
 * for what only it knows: names in its hosts file, names without a dot, and names the operator wrote down. One at a time it is also asked
 * for names that DNS does not know (search domains, mDNS); a name that hangs can keep only others of these waiting.
 */
export function nameResolver({
  isVouchedFor,
  system = (hostname) => lookup(hostname, { all: true }),
  servers,
  hostsFile = '/etc/hosts',
}: NameParts): (hostname: string) => Promise<readonly ResolvedAddress[]> {
  const underWay = new Map<string, Promise<readonly ResolvedAddress[]>>()
  let waiting = 0
  let last: Promise<unknown> = Promise.resolve()

  async function find(hostname: string): Promise<readonly ResolvedAddress[]> {
    const name = hostname.toLowerCase().replace(/\.$/, '')
    const isLocal = !name.includes('.') || name.endsWith('.localhost')
    if (isLocal || isVouchedFor(hostname) || (await namesIn(hostsFile)).has(name)) return system(hostname)
    try {
      return await byDns(hostname, servers)
    } catch (error) {
      if (isTimeout(error) || waiting >= mostWaiting) throw error
      return inTurn(() => system(hostname))
    }
  }

  function inTurn<T>(work: () => Promise<T>): Promise<T> {
    waiting += 1
    const mine = last.then(work).finally(() => {
      waiting -= 1
    })
    last = mine.catch(() => {}) // whoever asked is told
    return mine
  }

  return (hostname) => {
    const shared = underWay.get(hostname) ?? find(hostname).finally(() => underWay.delete(hostname))
    underWay.set(hostname, shared)
    return shared
  }
}

/** Both families, in the order of getaddrinfo on most machines that have only one of them; one family is enough. */
async function byDns(hostname: string, servers: readonly string[] | undefined): Promise<ResolvedAddress[]> {
  const dns = new Resolver({ timeout: 1_500, tries: 2 })
  if (servers) dns.setServers(servers)
  const [v4, v6] = await Promise.allSettled([dns.resolve4(hostname), dns.resolve6(hostname)])
  const found = [
    ...(v4.status === 'fulfilled' ? v4.value.map((address) => ({ address, family: 4 })) : []),
    ...(v6.status === 'fulfilled' ? v6.value.map((address) => ({ address, family: 6 })) : []),
  ]
  if (found.length > 0) return found
  const failures = [v4, v6].flatMap((asked) => (asked.status === 'rejected' ? [asked.reason] : []))
  throw failures.find(isTimeout) ?? failures[0]
}

function isTimeout(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ETIMEOUT'
}

async function namesIn(hostsFile: string): Promise<ReadonlySet<string>> {
  let text: string
  try {
    text = await readFile(hostsFile, 'utf8')
  } catch {
    return new Set() // a machine without one knows no names by it
  }
  const entries = text.split('\n').map((line) => line.replace(/#.*/, '').trim().toLowerCase())
  return new Set(entries.flatMap((entry) => entry.split(/\s+/).slice(1)))
}
