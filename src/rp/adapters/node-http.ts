import { once } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Readable } from 'node:stream'
import { BodyReadBefore, BodyTooLarge, type RpAnswer, type RpRequest } from '../http.ts'

/** What a framework may know better than node:http. */
export interface NodeRequestParts {
  /** Path and query as the User Agent sent them, where a router has cut `req.url`. */
  readonly url?: string | undefined
  /** What a body parser made of the body, should one have run. */
  readonly parsed?: unknown
  /** Where the body comes from, if not from the request itself. */
  readonly stream?: Readable
}

/** A request of node:http, as the routes want it. */
export function fromNode(req: IncomingMessage, res: ServerResponse, parts: NodeRequestParts = {}): RpRequest {
  let gone: AbortSignal | undefined
  return {
    method: req.method ?? 'GET',
    url: parts.url ?? req.url ?? '/',
    header: (name) => headerOf(req, name),
    text: async (limit) => {
      const text = await readBody(parts.stream ?? req, parts.parsed, limit)
      const isLost = Number(req.headers['content-length']) > 0 || req.readableDidRead // a body came, and nothing is left of it
      if (text === undefined || (text === '' && isLost)) throw new BodyReadBefore()
      return text
    },
    // Made when somebody asks: only streams do, and an abort costs more than the rest of this function.
    get signal() {
      gone ??= closingOf(res)
      return gone
    },
  }
}

function closingOf(res: ServerResponse): AbortSignal {
  const gone = new AbortController()
  if (res.closed) gone.abort()
  else res.once('close', () => gone.abort())
  return gone.signal
}

export function headerOf(req: IncomingMessage, name: string): string | undefined {
  const value = req.headers[name]
  return (Array.isArray(value) ? value.join(', ') : value) || undefined
}

/** Writes an answer; resolves when it was written, or when nobody reads it any more. */
export async function writeNode(answer: RpAnswer, res: ServerResponse): Promise<void> {
  res.statusCode = answer.status
  for (const [name, value] of Object.entries(answer.headers)) res.setHeader(name, value)
  const isSet = new Set([res.getHeader('set-cookie')].flat()) // by who has looked at this request before
  for (const cookie of answer.cookies) if (!isSet.has(cookie)) res.appendHeader('set-cookie', cookie)
  if (typeof answer.body === 'string' || answer.body instanceof Uint8Array) {
    res.end(answer.body)
    return
  }
  res.flushHeaders()
  for await (const piece of answer.body) {
    if (!res.write(piece) && !res.closed) await drained(res)
  }
  res.end()
}

/** Resolves when there is room again, or nobody reads any more; leaves no listener behind. */
async function drained(res: ServerResponse): Promise<void> {
  const over = new AbortController()
  const { signal } = over
  await Promise.race([once(res, 'drain', { signal }), once(res, 'close', { signal })]).finally(() => over.abort())
}

/** The body as it was sent; `undefined` when somebody has read it and kept nothing. */
async function readBody(stream: Readable, parsed: unknown, limit: number): Promise<string | undefined> {
  const kept = textIn(parsed)
  if (kept !== undefined) return kept
  // A body that nobody has read yet, or is about to, decides, whatever a framework has put in its place.
  if (stream.readableDidRead || stream.listenerCount('readable') > 0) return formIn(parsed)
  return stream.readableEnded ? '' : readRaw(stream, limit)
}

/** The raw body, where a parser has kept it. */
function textIn(parsed: unknown): string | undefined {
  if (typeof parsed === 'string') return parsed
  return parsed instanceof Uint8Array ? Buffer.from(parsed).toString('utf8') : undefined
}

// Not `for await`: leaving such a loop early destroys the socket, and the 413 with it.
function readRaw(stream: Readable, limit: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const onLost = () => reject(new Error('the connection was lost before the body was complete'))
    if (stream.destroyed) onLost() // and it will never say so again
    const chunks: Buffer[] = []
    let length = 0
    const onData = (data: Buffer | string) => {
      const chunk = typeof data === 'string' ? Buffer.from(data) : data // as text, where somebody has set an encoding
      length += chunk.length
      chunks.push(chunk)
      if (length <= limit) return
      stream.off('data', onData).pause()
      reject(new BodyTooLarge(limit))
    }
    stream.on('data', onData)
    stream.on('end', () => {
      stream.off('close', onLost) // which comes after every body, and an Error is dear
      resolve(Buffer.concat(chunks).toString('utf8'))
    })
    stream.on('error', reject)
    stream.on('close', onLost)
    stream.resume() // which `data` does by itself, unless somebody has paused the stream
  })
}

/** The form that a parser made an object of; what came twice still comes twice. */
function formIn(parsed: unknown): string | undefined {
  if (typeof parsed !== 'object' || parsed === null) return undefined
  const pairs = Object.entries(parsed).flatMap(([name, value]: [string, unknown]) =>
    (Array.isArray(value) ? value : [value]).map((one): [string, string] => [name, typeof one === 'string' ? one : '']),
  )
  return new URLSearchParams(pairs).toString()
}
