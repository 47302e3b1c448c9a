import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as wait } from 'node:timers/promises'
import { createLocalJWKSet, decodeJwt, type JSONWebKeySet, jwtVerify } from 'jose'
import type { ClientMetadata } from 'oidc-provider'
import type { Chance } from './chance.ts'
import { keyOf, type Received, type RpSession } from './history.ts'

/** RPs on loopback, each at an address of its own, that check every token they get and keep what they saw. */
export interface CrashRps {
  readonly clients: readonly (ClientMetadata & { readonly client_id: string })[]
  readonly received: readonly Received[]
  /** RP sessions that are alive, by {@link keyOf}. */
  readonly alive: ReadonlySet<string>
  /** Logs somebody in. */
  add(session: RpSession): void
  /** Resolves when so many more POSTs have come in. */
  more(posts: number): Promise<void>
  /** From now on only so many POSTs are answered; the others wait until more are allowed, or for ever. */
  allow(answers: number): void
  /** Holds one POST at each RP, one that waits or the next; resolves when so many are held. */
  hold(posts: number): Promise<HeldPosts>
  /** The one sender there is has died, and with it all its attempts: their connections may say so later. */
  senderDied(): void
  close(): Promise<void>
}

/** POSTs of which nobody knows yet how they end. */
export interface HeldPosts {
  /** Resolves when one of them has come once more, for another worker has it now. */
  again(): Promise<void>
  /** Answers them all, and holds no more. */
  answer(status: number): void
}

/** A POST that waits for its answer. */
interface Post {
  readonly key: string
  readonly clientId: string
  answer(status: number): void
  /** Has it answered by chance. */
  go(): void
}

/** How often an RP has no luck and answers 500. */
const unlucky = 0.02

/** Starts `count` RPs, half of which want RS256 and half ES256; their pace is chance's. */
export async function startCrashRps(
  count: number,
  issuer: string,
  jwks: JSONWebKeySet,
  chance: Chance,
): Promise<CrashRps> {
  const keys = createLocalJWKSet(jwks)
  const received: { -readonly [K in keyof Received]: Received[K] }[] = []
  const alive = new Set<string>()
  const watchers = new Set<() => void>()
  let holding: { readonly at: Map<string, Post>; readonly seen: Map<string, number> } | undefined
  let posts = 0
  let allowed = Number.POSITIVE_INFINITY
  let queue: Post[] = []

  async function take(clientId: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const at = Date.now()
    let closedAt: number | undefined // its sender may die while the token is checked
    response.on('close', () => {
      closedAt = Date.now()
    })
    const chunks: Buffer[] = []
    try {
      for await (const chunk of request) chunks.push(chunk as Buffer)
    } catch {
      return // its sender died in the middle of it: no token came
    }
    const token = new URLSearchParams(Buffer.concat(chunks).toString()).get('logout_token') ?? ''
    const fault = await jwtVerify(token, keys, {
      issuer,
      audience: clientId,
      typ: 'logout+jwt',
      requiredClaims: ['exp'],
    }).then(() => undefined, String)
    const one: { -readonly [K in keyof Received]: Received[K] } = {
      at,
      by: clientId,
      claims: fault === undefined ? decodeJwt(token) : {},
      ...(fault !== undefined && { fault }),
      ...(closedAt !== undefined && { until: closedAt }),
    }
    received.push(one)
    response.on('close', () => {
      one.until ??= Date.now()
    })
    const answer = (status: number): void => {
      if (response.closed) return // its sender is dead
      if (status === 200 && fault === undefined) alive.delete(keyOf({ clientId, sid: String(one.claims.sid) }))
      one.until ??= Date.now()
      response.writeHead(status).end()
    }
    posts += 1
    const post: Post = {
      key: keyOf({ clientId, sid: String(one.claims.sid) }),
      clientId,
      answer,
      go() {
        allowed -= 1
        const status = chance.below(1000) < unlucky * 1000 ? 500 : 200
        void wait(chance.below(30)).then(() => answer(status))
      },
    }
    if (holding) holding.seen.set(post.key, (holding.seen.get(post.key) ?? 0) + 1)
    if (holding && !holding.at.has(clientId)) holding.at.set(clientId, post)
    else if (allowed > 0) post.go()
    else queue.push(post)
    for (const watch of watchers) watch()
  }

  function until(isSo: () => boolean): Promise<void> {
    return new Promise((resolve) => {
      const watch = (): void => {
        if (!isSo()) return
        watchers.delete(watch)
        resolve()
      }
      watchers.add(watch)
      watch()
    })
  }

  const servers: Server[] = []
  const clients: (ClientMetadata & { client_id: string })[] = []
  for (let i = 0; i < count; i++) {
    const clientId = `rp-${i}`
    const server = createServer((request, response) => void take(clientId, request, response))
    const address = `127.1.${Math.floor(i / 250)}.${1 + (i % 250)}`
    server.listen(0, address)
    await once(server, 'listening')
    servers.push(server)
    clients.push({
      client_id: clientId,
      client_secret: `the secret of ${clientId}, long enough for a MAC`,
      redirect_uris: [`https://${clientId}.example/cb`],
      id_token_signed_response_alg: i % 2 === 0 ? 'RS256' : 'ES256',
      backchannel_logout_uri: `http://${address}:${(server.address() as AddressInfo).port}/logout`,
    })
  }

  return {
    clients,
    received,
    alive,
    add: (session) => alive.add(keyOf(session)),
    more(count) {
      const enough = posts + count
      return until(() => posts >= enough)
    },
    allow(answers) {
      allowed = answers
      for (const post of queue.splice(0, answers)) post.go()
    },
    async hold(count) {
      const [at, seen] = [new Map<string, Post>(), new Map<string, number>()]
      holding = { at, seen }
      for (const post of queue) if (!at.has(post.clientId)) at.set(post.clientId, post)
      const held = new Set(at.values())
      queue = queue.filter((post) => !held.has(post))
      for (const { key } of held) seen.set(key, 1)
      await until(() => at.size >= count)
      return {
        again: () => until(() => [...at.values()].some(({ key }) => (seen.get(key) ?? 0) > 1)),
        answer(status) {
          holding = undefined
          for (const post of at.values()) post.answer(status)
        },
      }
    },
    senderDied() {
      for (const one of received) one.until ??= Date.now()
    },
    async close() {
      for (const server of servers) {
        server.closeAllConnections()
        server.close()
        await once(server, 'close')
      }
    },
  }
}
