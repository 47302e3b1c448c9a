import { Readable } from 'node:stream'
import { buildConnector, type Dispatcher, request } from 'undici'
import { addressPolicy } from './address-policy.ts'
import { type ConnectionPool, connectionPools } from './connection-pools.ts'
import { egressProxy } from './egress-proxy.ts'
import { type ConnectionParts, guardedConnector, mostTargets, permittedAddresses } from './guarded-connector.ts'
import { StaleConnectionError } from './post-failure.ts'
import { nameResolver } from './resolve-names.ts'
import type { PostAnswer, PostRequest, Runtime } from './runtime.ts'
import { watched } from './watched.ts'

/** What {@link egress} needs; `resolve` and `connect` are for tests. */
export interface EgressOptions {
  /** CIDRs, addresses or exact host names that are allowed beside public addresses. */
  allow: readonly string[]
  /** An HTTP proxy that everything goes through. Default none. */
  proxy?: URL
  /** States that the proxy judges addresses: it is told names, and they are not resolved here. Default false. */
  proxyEnforces?: boolean
  /** Finds a host's addresses. Default: {@link nameResolver}. */
  resolve?: ConnectionParts['resolve']
  /** Makes the function that opens connections. Default: undici's. */
  connect?: ConnectionParts['connect']
}

/** The way out to URLs that the operator did not write. */
export interface Egress {
  readonly post: Runtime['post']
  /**
   * The part of `fetch` that oidc-provider needs for `jwks_uri` and `sector_identifier_uri`. It follows no redirect, and a body
   * of more than 256 kB breaks off with an error.
   */
  fetch(url: string | URL | Request, options?: RequestInit): Promise<Response>
  /** Waits for requests under way, a few seconds at most, then closes the connections; opens none from then on. */
  close(): Promise<void>
}

/** Bytes of an answer's body that are read. */
const bodyLimit = 4096
/** Bytes of a fetched document: a JWKS or a list of redirect URIs is far smaller. */
const documentLimit = 262_144

/**
 * Opens the one way out to URLs that RPs registered: a pool of connections per RP and origin, and a policy that is judged on
 * the literal host, on every address a name resolves to, and once more on the address that was really connected to, so that
 * a name that changes its mind between two look-ups gains nothing (T25).
 *
 * Redirects are not followed; proxy variables of the environment are ignored.
 *
 * @throws TypeError naming an entry of `allow` that cannot be read.
 */
export function egress({
  allow,
  proxy: proxyUrl,
  proxyEnforces = false,
  resolve,
  connect = buildConnector,
}: EgressOptions): Egress {
  const policy = addressPolicy(allow)
  const proxy = proxyUrl && egressProxy(proxyUrl)
  const find = resolve ?? nameResolver({ isVouchedFor: policy.names })
  let isClosed = false
  const parts: ConnectionParts = {
    policy,
    async resolve(hostname) {
      const found = await find(hostname)
      if (isClosed) throw new Error('the way out is closed')
      return found
    },
    connect,
    proxy,
    proxyEnforces,
  }
  const connector = guardedConnector(parts)
  const pools = connectionPools()

  async function send(
    url: URL,
    {
      body,
      signal,
      ...options
    }: Pick<Dispatcher.RequestOptions, 'method' | 'headers'> & {
      readonly signal: AbortSignal | null
      body(): Promise<string | null>
    },
    { pool: owner = '', admit, onConnected }: Pick<PostRequest, 'pool' | 'admit' | 'onConnected'> = {},
  ): Promise<Dispatcher.ResponseData> {
    const name = `${owner} ${url.origin}`
    const open = admit ? await admitted(name, url, admit, signal) : () => pools.of(name, url.origin, connector)
    signal?.throwIfAborted()
    const text = await body()
    signal?.throwIfAborted()
    const pool = open()
    const dialsBefore = pool.dials
    const dispatcher = onConnected ? watched(pool.dispatcher, onConnected) : pool.dispatcher
    try {
      return await request(url, { ...options, signal, body: text, dispatcher })
    } catch (error) {
      // No connection was asked for meanwhile, so the request went out on one that was open before.
      if (isReset(error) && pool.dials === dialsBefore) throw new StaleConnectionError({ cause: error })
      throw error
    }
  }

  /** The way to a pool whose connections lead to just the addresses that this request was admitted to. */
  async function admitted(
    name: string,
    { protocol, hostname, origin }: URL,
    admit: NonNullable<PostRequest['admit']>,
    signal: AbortSignal | null,
  ): Promise<() => ConnectionPool> {
    if (proxyEnforces) {
      await admit([])
      return () => pools.of(name, origin, connector)
    }
    const addresses = (await permittedAddresses(parts, protocol, hostname)).slice(0, mostTargets)
    signal?.throwIfAborted() // who hung in the look-up must not use up a budget
    await admit([...new Set(addresses.map(({ address }) => policy.destinationOf(address)))].sort())
    const targets = addresses.map(({ address }) => address).sort()
    const pinned = { ...parts, resolve: async () => addresses }
    return () => pools.of(`${name} ${targets.join(' ')}`, origin, guardedConnector(pinned))
  }

  return {
    async post({ url, headers, body, timeout, signal, ...how }: PostRequest): Promise<PostAnswer> {
      const within = limited(timeout, signal)
      try {
        const sent = send(new URL(url), { method: 'POST', headers, body, signal: within.signal }, how)
        const answer = await Promise.race([sent, aborted(within.signal)])
        how.onAnswered?.()
        return { status: answer.statusCode, headers: flatten(answer.headers), body: await readStart(answer.body) }
      } finally {
        within.done()
      }
    },

    async fetch(url, { method = 'GET', headers, body, signal } = {}) {
      if (url instanceof Request) throw new TypeError('egress.fetch takes a URL, not a Request')
      const text = body instanceof URLSearchParams ? body.toString() : body
      if (text !== undefined && text !== null && typeof text !== 'string') {
        throw new TypeError('egress.fetch sends text and forms only')
      }
      const sent = send(new URL(url), {
        method,
        headers: Object.fromEntries(new Headers(headers)),
        body: async () => text ?? null,
        signal: signal ?? null,
      })
      const answer = await (signal ? Promise.race([sent, aborted(signal)]) : sent)
      const empty = [101, 204, 205, 304].includes(answer.statusCode)
      if (empty) await answer.body.dump()
      return new Response(empty ? null : webOf(upTo(documentLimit, answer.body)), {
        status: answer.statusCode,
        headers: entries(answer.headers),
      })
    },

    async close() {
      isClosed = true
      await pools.close()
      await proxy?.close()
    },
  }
}

/**
 * A signal that aborts with another, or with a `TimeoutError` after `ms` milliseconds. `AbortSignal.timeout` would keep its clock
 * running when the answer has long come, and end in an error that nobody sees, once for each request.
 */
function limited(ms: number, other: AbortSignal | undefined): { signal: AbortSignal; done(): void } {
  const controller = new AbortController()
  const give = (): void => controller.abort(other?.reason)
  const clock = setTimeout(() => controller.abort(new DOMException('the time is up', 'TimeoutError')), ms)
  if (other?.aborted) give()
  else other?.addEventListener('abort', give, { once: true })
  return {
    signal: controller.signal,
    done() {
      clearTimeout(clock)
      other?.removeEventListener('abort', give)
    },
  }
}

/**
 * Rejects when the signal aborts. A resolver cannot be told to stop, nor who admits or makes the body, and undici looks at the
 * signal only once it has a connection; a request that gets one later is not sent.
 */
function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason)
    signal.addEventListener('abort', () => reject(signal.reason), { once: true })
  })
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

/** A body that must not be longer: leaving it early closes the connection. */
async function* upTo(limit: number, body: Readable): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  let size = 0
  for await (const chunk of body as AsyncIterable<Buffer<ArrayBuffer>>) {
    size += chunk.length
    if (size > limit) throw new Error(`the answer is longer than ${limit} bytes`)
    yield chunk
  }
}

function webOf(chunks: AsyncIterable<Uint8Array>): ReadableStream<Uint8Array<ArrayBuffer>> {
  return Readable.toWeb(Readable.from(chunks, { objectMode: false })) as ReadableStream<Uint8Array<ArrayBuffer>>
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
