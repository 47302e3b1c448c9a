import type { IncomingMessage } from 'node:http'
import type { Context } from 'koa'

/** What one of Lockstep's own OP routes needs to know of a request. */
export interface HttpRequest {
  readonly method: string
  readonly path: string
  readonly query: URLSearchParams
  header(name: string): string | undefined
  /** The form body; throws {@link TooLarge} beyond `limit` bytes. */
  form(limit: number): Promise<URLSearchParams>
  /** The JSON body, `undefined` when it is not JSON; throws {@link TooLarge} beyond `limit` bytes. */
  json(limit: number): Promise<unknown>
}

/** What one of Lockstep's own OP routes answers. */
export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

/** A body that is larger than its route reads. */
export class TooLarge extends Error {}

/** Reads a Koa request, also where a body parser of the hosting app was faster. */
export function fromKoa(ctx: Context): HttpRequest {
  return {
    method: ctx.method,
    path: ctx.path,
    query: new URLSearchParams(ctx.querystring),
    header: (name) => ctx.get(name) || undefined,
    form: async (limit) => {
      const parsed = parsedBody(ctx.req)
      if (parsed === undefined) return new URLSearchParams(await readText(ctx.req, limit))
      if (typeof parsed === 'string') return new URLSearchParams(parsed)
      return new URLSearchParams(
        Object.entries(parsed).flatMap(([name, value]) =>
          (Array.isArray(value) ? value : [value]).map((item): [string, string] => [name, String(item)]),
        ),
      )
    },
    json: async (limit) => {
      const parsed = parsedBody(ctx.req)
      if (typeof parsed === 'object') return parsed
      try {
        return JSON.parse(parsed ?? (await readText(ctx.req, limit)))
      } catch (error) {
        if (error instanceof SyntaxError) return undefined
        throw error
      }
    },
  }
}

function parsedBody(req: IncomingMessage): string | Record<string, unknown> | undefined {
  const { body } = req as IncomingMessage & { body?: unknown }
  if (typeof body === 'string') return body
  return typeof body === 'object' && body !== null ? (body as Record<string, unknown>) : undefined
}

async function readText(req: IncomingMessage, limit: number): Promise<string> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of req) {
    const bytes = Buffer.from(chunk as Uint8Array)
    size += bytes.length
    if (size > limit) throw new TooLarge(`the request body is larger than ${limit} bytes`)
    chunks.push(bytes)
  }
  return Buffer.concat(chunks).toString('utf8')
}

/** Writes an answer to a Koa response. */
export function toKoa(ctx: Context, answer: Answer): void {
  ctx.status = answer.status
  ctx.set(answer.headers)
  ctx.body = answer.body === '' ? null : answer.body
  if (answer.body === '') ctx.status = answer.status // Koa makes an empty body a 204
}
