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
      if (text === '' && Number(req.headers['content-length']) > 0) throw new BodyReadBefore()
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
  for (const cookie of answer.cookies) res.appendHeader('set-cookie', cookie)
  if (typeof answer.body === 'string' || answer.body instanceof Uint8Array) {
    res.end(answer.body)
    return
  }
  res.flushHeaders()
  for await (const piece of answer.body) {
    if (!res.write(piece) && !res.closed) await Promise.race([once(res, 'drain'), once(res, 'close')])
  }
  res.end()
}

/** Reads the raw body. One that a parser has read already is turned back into the form it was. */
async function readBody(stream: Readable, parsed: unknown, limit: number): Promise<string> {
  if (typeof parsed === 'string') return parsed
  if (Buffer.isBuffer(parsed)) return parsed.toString('utf8')
  // A body nobody has read yet decides, whatever a framework has put in its place.
  if (!stream.readableDidRead && !stream.readableEnded) return readRaw(stream, limit)
  if (typeof parsed === 'object' && parsed !== null) return toForm(parsed)
  throw new BodyReadBefore()
}

// Not `for await`: leaving such a loop early destroys the socket, and the 413 with it.
function readRaw(stream: Readable, limit: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let length = 0
    const onData = (chunk: Buffer) => {
      length += chunk.length
      chunks.push(chunk)
      if (length <= limit) return
      stream.off('data', onData).pause()
      reject(new BodyTooLarge(limit))
    }
    const onLost = () => reject(new Error('the connection was lost before the body was complete'))
    stream.on('data', onData)
    stream.on('end', () => {
      stream.off('close', onLost) // which comes after every body, and an Error is dear
      resolve(Buffer.concat(chunks).toString('utf8'))
    })
    stream.on('error', reject)
    stream.on('close', onLost)
  })
}

/** The form that a parser made an object of; what came twice still comes twice. */
function toForm(body: object): string {
  const pairs = Object.entries(body).flatMap(([name, value]: [string, unknown]) =>
    (Array.isArray(value) ? value : [value]).map((one): [string, string] => [name, typeof one === 'string' ? one : '']),
  )
  return new URLSearchParams(pairs).toString()
}
