import { type BackchannelOptions, resolveBackchannelOptions } from '../../../src/op/delivery/backchannel-options.ts'
import { type Outbox, type OutboxParts, startOutbox } from '../../../src/op/delivery/outbox.ts'
import type { OpLogEvent } from '../../../src/op/log.ts'
import type { Delivery, EndedOpSession, OpIssuerStore } from '../../../src/op/store/contract.ts'
import { sqliteStore } from '../../../src/op-sqlite.ts'
import type { PostAnswer, PostRequest, Runtime } from '../../../src/runtime/runtime.ts'
import { owe } from '../../../src/testing/op-store-bench.ts'

/** What an RP does with one POST: answers, fails, or hangs until the time-out. */
export type RpBehaviour = (
  request: Omit<PostRequest, 'body'> & { readonly body: string },
) => PostAnswer | Error | 'hangs'

/** A POST that left the OP. */
export interface SentPost {
  readonly clientId: string
  readonly at: number
  readonly token: string
}

/** A world in which time passes only when a test says so, and in which RPs do what they are told. */
export interface VirtualWorld {
  readonly runtime: Runtime
  readonly store: OpIssuerStore
  readonly posts: SentPost[]
  readonly log: OpLogEvent[]
  /** What listeners were told, by name. */
  readonly told: [string, unknown][]
  /** What each RP does; one that is not here listens nowhere. */
  readonly rps: Map<string, RpBehaviour>
  /** The URLs of clients that registered themselves; the others were written down by the operator. */
  readonly registered: Map<string, string>
  /** The addresses of host names; one that is not here has one of its own. */
  readonly addresses: Map<string, readonly string[]>
  /** Starts a worker; stopped with the world. */
  start(options?: BackchannelOptions, parts?: Partial<OutboxParts>): Outbox
  /** Signs in and out at these RPs. */
  logout(uid: string, ...clientIds: string[]): Promise<EndedOpSession>
  /** Sets the clock of the process forward by so many milliseconds, or back: nobody wakes up sooner or later for it. */
  setClock(by: number): void
  /** Lets so many milliseconds pass, waking each sleeper in its turn. */
  pass(milliseconds: number): Promise<void>
  /** Waits until nobody has anything to do but sleep. */
  quiet(): Promise<void>
  deliveries(ended: EndedOpSession): Promise<readonly Delivery[]>
  close(): Promise<void>
}

/** Status codes as answers. */
export function says(status: number, headers: Record<string, string> = {}, body = ''): PostAnswer {
  return { status, headers, body }
}

/** What a connection to nobody comes to. */
function nobodyListens(): Error {
  return Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' })
}

export function virtualWorld(): VirtualWorld {
  const start = 1_800_000_000_000
  let now = start
  let clockError = 0
  const clock = (): number => now + clockError
  let made = 0
  const sleepers = new Set<{ at: number; wake: () => void }>()
  const sleep: Runtime['sleep'] = (ms, signal) =>
    new Promise((resolve, reject) => {
      const sleeper = {
        at: now + ms,
        wake: () => {
          sleepers.delete(sleeper)
          signal?.removeEventListener('abort', cut)
          resolve()
        },
      }
      const cut = (): void => {
        sleepers.delete(sleeper)
        reject(signal?.reason)
      }
      if (signal?.aborted) return cut()
      signal?.addEventListener('abort', cut, { once: true })
      sleepers.add(sleeper)
    })

  const posts: SentPost[] = []
  const rps = new Map<string, RpBehaviour>()
  const registered = new Map<string, string>()
  const addresses = new Map<string, readonly string[]>()
  const post = async (request: PostRequest): Promise<PostAnswer> => {
    const over = new AbortController()
    const tooLate = sleep(request.timeout, over.signal).then(() => {
      throw new DOMException('no answer in time', 'TimeoutError')
    })
    const cut = (): void => over.abort(request.signal?.reason)
    request.signal?.addEventListener('abort', cut, { once: true })
    try {
      return await Promise.race([send(request), tooLate])
    } finally {
      request.signal?.removeEventListener('abort', cut)
      over.abort()
    }
  }
  const send = async (request: PostRequest): Promise<PostAnswer> => {
    const { hostname } = new URL(request.url)
    const clientId = request.pool ?? hostname
    await request.admit?.(addresses.get(hostname) ?? [`address of ${hostname}`])
    const body = await request.body()
    posts.push({ clientId, at: now - start, token: new URLSearchParams(body).get('logout_token') ?? '' })
    const done = rps.get(clientId)?.({ ...request, body }) ?? nobodyListens()
    if (done === 'hangs') return new Promise(() => {})
    if (done instanceof Error) throw done
    return done
  }
  const runtime: Runtime = {
    now: clock,
    sleep,
    post,
    random: (length) => {
      made += 1
      return Uint8Array.from({ length }, (_, i) => (made * 37 + i * 101) % 256)
    },
  }

  const file = sqliteStore(':memory:')
  // ids must not repeat, chance may: the store has randomness of its own
  let ids = 0
  const store = file.forIssuer('https://op.example', {
    now: clock,
    random: (length) => {
      const bytes = new Uint8Array(length)
      new DataView(bytes.buffer).setUint32(0, ++ids)
      return bytes
    },
  })
  const log: OpLogEvent[] = []
  const told: [string, unknown][] = []
  const outboxes: Outbox[] = []
  let tokens = 0

  const quiet = async (): Promise<void> => {
    for (let turn = 0; turn < 5; turn++) await new Promise((done) => setImmediate(done))
  }

  const world: VirtualWorld = {
    runtime,
    store,
    posts,
    log,
    told,
    rps,
    registered,
    addresses,
    start(options, parts) {
      const outbox = startOutbox({
        store,
        runtime,
        options: resolveBackchannelOptions(options),
        log: (event) => log.push(event),
        tell: (name, event) => told.push([name, event]),
        findReceiver: async (clientId) => ({
          url: registered.get(clientId) ?? `https://${clientId}.example/logout`,
          isRegistered: registered.has(clientId),
        }),
        mint: async () => `token-${++tokens}`,
        ...parts,
      })
      outboxes.push(outbox)
      return outbox
    },
    async logout(uid, ...clientIds) {
      const bench = { op: store, runtime: { now: clock, random: runtime.random, pass: () => {} } }
      const ended = await owe(bench, uid, clientIds)
      for (const outbox of outboxes) outbox.wake()
      await quiet()
      return ended
    },
    setClock(by) {
      clockError += by
    },
    quiet,
    async pass(milliseconds) {
      const until = now + milliseconds
      await quiet()
      for (;;) {
        const next = [...sleepers].sort((a, b) => a.at - b.at)[0]
        if (!next || next.at > until) break
        now = Math.max(now, next.at)
        next.wake()
        await quiet()
      }
      now = until
      await quiet()
    },
    async deliveries(ended) {
      return (await store.getLogout(ended.logout.id))?.deliveries ?? []
    },
    async close() {
      const stopped = Promise.all(outboxes.map((outbox) => outbox.stop()))
      await world.pass(60_000)
      await stopped
      await file.close()
    },
  }
  return world
}
