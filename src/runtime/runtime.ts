import { setTimeout as wait } from 'node:timers/promises'

/** One POST to a URL that the operator did not write. */
export interface PostRequest {
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  /** Makes the body: called once the request is admitted, so that nothing is signed for what nobody lets out. */
  body(): Promise<string>
  /** Milliseconds until the attempt counts as failed, from the first byte of DNS to the last of the answer. */
  readonly timeout: number
  readonly signal?: AbortSignal
  /** Whose connections it uses: requests with different names never share one. Default: those of all that give no name. */
  readonly pool?: string
  /**
   * Asked before a packet leaves, with every place the connection may lead to (an IPv4 address, or an IPv6 /64); what it throws
   * keeps the request here.
   */
  readonly admit?: ((addresses: readonly string[]) => Promise<void>) | undefined
  /** Called when there is a connection, new or kept open, on which the request goes out. */
  onConnected?(): void
  /** Called when the head of the answer has come. */
  onAnswered?(): void
}

/** What came back; bodies are read up to 4 kB and cut there. */
export interface PostAnswer {
  readonly status: number
  readonly headers: Readonly<Record<string, string | undefined>>
  readonly body: string
}

/**
 * The one door to the world. Every file of `op`, `rp` and `browser` gets time, chance and the network from here, so
 * that tests freeze time and the simulation replays a run; a lint rule forbids the globals.
 */
export interface Runtime {
  /** Epoch milliseconds. */
  now(): number
  /** Resolves after `ms` milliseconds; rejects with the signal's reason when it aborts first. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>
  /** Cryptographically random bytes. */
  random(bytes: number): Uint8Array<ArrayBuffer>
  /** Sends one POST under the egress policy; throws `LockstepError` `egress_refused` when the address is not allowed. */
  post(request: PostRequest): Promise<PostAnswer>
}

/** A random number in [0, 1). */
export function chance({ random }: Pick<Runtime, 'random'>): number {
  const { buffer, byteOffset } = random(4)
  return new DataView(buffer, byteOffset).getUint32(0) / 2 ** 32
}

/** The clock and the randomness of this process; `post` comes from {@link egress}. */
export const world: Omit<Runtime, 'post'> = {
  now: () => Date.now(),
  sleep: (ms, signal) => wait(ms, undefined, signal ? { signal } : {}),
  random: (bytes) => crypto.getRandomValues(new Uint8Array(bytes)),
}
