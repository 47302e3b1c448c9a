import { lookup as resolveByDns } from 'node:dns/promises'
import { isIP, type LookupFunction } from 'node:net'
import { Readable } from 'node:stream'
import { Agent, buildConnector, type Dispatcher, request } from 'undici'
import { LockstepError } from '../protocol/errors.ts'
import { type AddressPolicy, addressPolicy } from './address-policy.ts'
import { StaleConnectionError } from './post-failure.ts'
import type { PostAnswer, PostRequest, Runtime } from './runtime.ts'
import { watched } from './watched.ts'

/** An address a resolver found for a host name. */
export interface ResolvedAddress {
  readonly address: string
  readonly family: number
}

/** What {@link egress} needs; all but `allow` are for tests. */
export interface EgressOptions {
  /** CIDRs, addresses or exact host names that are allowed beside public addresses. */
  allow: readonly string[]
  /** Finds a host's addresses. Default: the system's resolver. */
  resolve?(hostname: string): Promise<readonly ResolvedAddress[]>
  /** Makes the function that opens connections. Default: undici's. */
  connect?(options: { lookup: LookupFunction; allowH2: boolean }): buildConnector.connector
}

/** The way out to URLs that the operator did not write. */
export interface Egress {
  readonly post: Runtime['post']
  /** The part of `fetch` that oidc-provider needs for `jwks_uri` and `sector_identifier_uri`; follows no redirect. */
  fetch(url: string | URL | Request, options?: RequestInit): Promise<Response>
  /** Waits for requests under way, then closes the connections. */
  close(): Promise<void>
}

/** Bytes of an answer's body that are read. */
const bodyLimit = 4096

/**
 * Opens the one way out to URLs that RPs registered: a pool of connections per origin, and a policy that is judged on the
 * literal host, on every address a name resolves to, and once more on the address that was really connected to, so that
 * a name that changes its mind between two look-ups gains nothing (T25).
 *
 * Redirects are not followed; proxy variables of the environment are ignored.
 *
 * @throws TypeError naming an entry of `allow` that cannot be read.
 */
export function egress({ allow, resolve = resolveAll, connect = buildConnector }: EgressOptions): Egress {
  const dials = new Map<string, number>()
  const connector = guardedConnector(addressPolicy(allow), resolve, connect, (host) => {
    dials.set(host, (dials.get(host) ?? 0) + 1)
  })
  // HTTP/1.1 only: what a connection that breaks means for the requests on it is then the same everywhere.
  const agent = new Agent({ allowH2: false, connections: 32, connect: connector })

  async function send(
    url: URL,
    options: Omit<Dispatcher.RequestOptions, 'origin' | 'path'>,
    onConnected?: () => void,
  ): Promise<Dispatcher.ResponseData> {
    const dialsBefore = dials.get(url.host)
    try {
      return await request(url, { ...options, dispatcher: onConnected ? watched(agent, onConnected) : agent })
    } catch (error) {
      // Nobody dialled this host meanwhile, so the request went out on a connection that was open before.
      if (isReset(error) && dials.get(url.host) === dialsBefore) throw new StaleConnectionError({ cause: error })
      throw error
    }
  }

  return {
    async post({ url, headers, body, timeout, signal, onConnected, onAnswered }: PostRequest): Promise<PostAnswer> {
      const deadline = AbortSignal.timeout(timeout)
      const within = signal ? AbortSignal.any([signal, deadline]) : deadline
      const answer = await send(new URL(url), { method: 'POST', headers, body, signal: within }, onConnected)
      onAnswered?.()
      return { status: answer.statusCode, headers: flatten(answer.headers), body: await readStart(answer.body) }
    },

    async fetch(url, { method = 'GET', headers, body, signal } = {}) {
      if (url instanceof Request) throw new TypeError('egress.fetch takes a URL, not a Request')
      const text = body instanceof URLSearchParams ? body.toString() : body
      if (text !== undefined && text !== null && typeof text !== 'string') {
        throw new TypeError('egress.fetch sends text and forms only')
      }
      const answer = await send(new URL(url), {
        method,
        headers: Object.fromEntries(new Headers(headers)),
        body: text ?? null,
        signal: signal ?? null,
      })
      const empty = [101, 204, 205, 304].includes(answer.statusCode)
      if (empty) await answer.body.dump()
      return new Response(empty ? null : (Readable.toWeb(answer.body) as ReadableStream<Uint8Array<ArrayBuffer>>), {
        status: answer.statusCode,
        headers: entries(answer.headers),
      })
    },

    close: () => agent.close(),
  }
}

async function resolveAll(hostname: string): Promise<readonly ResolvedAddress[]> {
  return resolveByDns(hostname, { all: true })
}

/** Opens connections to permitted addresses only. */
function guardedConnector(
  policy: AddressPolicy,
  resolve: NonNullable<EgressOptions['resolve']>,
  connect: NonNullable<EgressOptions['connect']>,
  dialled: (host: string) => void,
): buildConnector.connector {
  const open = (protocol: string): buildConnector.connector => {
    const lookup: LookupFunction = (hostname, { all }, callback) => {
      resolve(hostname).then(
        (found) => {
          const vetted = found.filter(({ address }) => policy.permits({ protocol, host: hostname, address }))
          const [first] = vetted
          if (!first) callback(found.length === 0 ? notFound(hostname) : refused(protocol, hostname), '')
          else if (all) callback(null, [...vetted])
          else callback(null, first.address, first.family)
        },
        (error: NodeJS.ErrnoException) => callback(error, ''),
      )
    }
    return connect({ lookup, allowH2: false })
  }
  const byProtocol: Readonly<Record<string, buildConnector.connector>> = {
    'http:': open('http:'),
    'https:': open('https:'),
  }

  return (options, callback) => {
    const { protocol, hostname } = options
    dialled(options.host ?? hostname)
    const connector = byProtocol[protocol]
    if (!connector || (isIP(hostname) && !policy.permits({ protocol, host: hostname, address: hostname }))) {
      callback(refused(protocol, hostname), null)
      return
    }
    connector(options, (...[error, socket]) => {
      if (error || !socket) {
        callback(error ?? new Error('no connection'), null)
      } else if (!policy.permits({ protocol, host: hostname, address: socket.remoteAddress ?? '' })) {
        socket.destroy()
        callback(refused(protocol, hostname), null)
      } else {
        callback(null, socket)
      }
    })
  }
}

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

function isReset(error: unknown): boolean {
  return (
    error instanceof Error && 'code' in error && ['ECONNRESET', 'EPIPE', 'UND_ERR_SOCKET'].includes(String(error.code))
  )
}

type RawHeaders = Dispatcher.ResponseData['headers']

function entries(headers: RawHeaders): [string, string][] {
  return Object.entries(headers).flatMap(([name, value]) =>
    (Array.isArray(value) ? value : [value]).flatMap((one): [string, string][] =>
      one === undefined ? [] : [[name, one]],
    ),
  )
}

function flatten(headers: RawHeaders): Record<string, string | undefined> {
  return Object.fromEntries(
    Object.entries(headers).map(([name, value]) => [name, Array.isArray(value) ? value.join(', ') : value]),
  )
}

/** Reads the first bytes of a body. */
async function readStart(body: Readable): Promise<string> {
  const chunks: Buffer[] = []
  let size = 0
  try {
    for await (const chunk of body as AsyncIterable<Buffer>) {
      chunks.push(chunk)
      size += chunk.length
      if (size >= bodyLimit) break
    }
  } catch {
    // The status is the answer and has been read; a body that breaks off or drags on is cut where it does.
  }
  return Buffer.concat(chunks).subarray(0, bodyLimit).toString('utf8')
}
