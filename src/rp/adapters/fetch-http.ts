import { BodyReadBefore, BodyTooLarge, type RpAnswer, type RpRequest } from '../http.ts'
import type { Mountable } from '../relying-party.ts'

/** Answers our routes; `undefined` for every other path. `readBefore` gives a body that a framework has read already. */
export async function respondTo(
  rp: Pick<Mountable, 'respond'>,
  request: Request,
  readBefore: () => Promise<string | undefined> = async () => undefined,
): Promise<Response | undefined> {
  const gone = new AbortController()
  const answer = await rp.respond({
    ...fromFetch(request),
    text: async (limit) => {
      if (!request.bodyUsed && request.body?.locked !== true) return readText(request.body, limit)
      const text = await readBefore()
      if (text === undefined) throw new BodyReadBefore()
      return text
    },
    signal: AbortSignal.any([request.signal, gone.signal]),
  })
  return answer && toResponse(answer, () => gone.abort())
}

/** What guards and readers need of a request. Only the path counts: host and scheme come from `appUrl`. */
export function fromFetch(request: Request): Pick<RpRequest, 'method' | 'url' | 'header'> {
  const { pathname, search } = new URL(request.url)
  return { method: request.method, url: pathname + search, header: headerIn(request.headers) }
}

export function headerIn(headers: Pick<Headers, 'get'>): RpRequest['header'] {
  return (name) => headers.get(name) ?? undefined
}

/** @param onCancel Called when nobody reads a stream any more. */
export function toResponse({ status, headers, cookies, body }: RpAnswer, onCancel: () => void = () => {}): Response {
  const all = new Headers(headers)
  for (const cookie of cookies) all.append('set-cookie', cookie)
  return new Response(toBody(status, body, onCancel), { status, headers: all })
}

function toBody(status: number, body: RpAnswer['body'], onCancel: () => void): BodyInit | null {
  if (status === 304) return null // a Response with that status takes no body, not even an empty one
  if (typeof body === 'string') return body
  if (body instanceof Uint8Array) return Uint8Array.from(body)
  const pieces = body[Symbol.asyncIterator]()
  const encoder = new TextEncoder()
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      const { done, value } = await pieces.next()
      if (done) controller.close()
      else controller.enqueue(encoder.encode(value))
    },
    async cancel() {
      onCancel()
      await pieces.return?.() // one that stands at a `yield` hears of no signal
    },
  })
}

async function readText(body: ReadableStream<Uint8Array> | null, limit: number): Promise<string> {
  if (body === null) return ''
  const reader = body.getReader()
  const decoder = new TextDecoder()
  let text = ''
  let length = 0
  for (;;) {
    const { done, value } = await reader.read()
    if (done) return text + decoder.decode()
    length += value.length
    if (length > limit) {
      reader.releaseLock() // not cancelled: that would close the connection, and take the 413 with it
      throw new BodyTooLarge(limit)
    }
    text += decoder.decode(value, { stream: true })
  }
}
