import { BodyTooLarge, type Mountable, type RpAnswer, type RpRequest } from '../../src/rp.ts'

/** A request as an adapter would hand it over. */
export function plainRequest(
  method: string,
  url: string,
  headers: Readonly<Record<string, string>> = {},
  body = '',
  signal: AbortSignal = new AbortController().signal,
): RpRequest {
  return {
    method,
    url,
    header: (name) => headers[name],
    text: async (limit) => {
      if (Buffer.byteLength(body) > limit) throw new BodyTooLarge(limit)
      return body
    },
    signal,
  }
}

/** Asks a relying party without any server in between. */
export async function ask(
  rp: Pick<Mountable, 'respond'>,
  method: string,
  url: string,
  headers?: Readonly<Record<string, string>>,
  body?: string,
  signal?: AbortSignal,
): Promise<RpAnswer> {
  const answer = await rp.respond(plainRequest(method, url, headers, body, signal))
  if (answer === undefined) throw new Error(`${url} is not a route`)
  return answer
}

export function postForm(
  rp: Pick<Mountable, 'respond'>,
  url: string,
  fields: Readonly<Record<string, string>>,
  headers: Readonly<Record<string, string>> = {},
): Promise<RpAnswer> {
  const type = { 'content-type': 'application/x-www-form-urlencoded' }
  return ask(rp, 'POST', url, { ...type, ...headers }, new URLSearchParams(fields).toString())
}

export function textOf(answer: RpAnswer): string {
  if (typeof answer.body !== 'string') throw new Error('the body is not text')
  return answer.body
}
