/** Bytes of an answer, unpacked, that are read: metadata, key sets and tokens have a few thousand. */
const MOST = 1_048_576

/**
 * `fetch` for a party that the operator chose: it follows what the caller says of redirects and time, and breaks off in an
 * answer that is larger than a mebibyte, so that nobody's mistake fills our memory.
 */
export async function boundedFetch(url: string, init: object): Promise<Response> {
  const response = await fetch(url, init)
  if (response.body === null) return response
  let left = MOST
  const limit = new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>({
    transform(chunk, controller) {
      left -= chunk.byteLength
      if (left < 0) throw new Error(`the answer is larger than ${MOST} bytes`)
      controller.enqueue(chunk)
    },
  })
  const { status, statusText, headers } = response
  return new Response(response.body.pipeThrough(limit), { status, statusText, headers })
}
