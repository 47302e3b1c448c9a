import { hash } from 'node:crypto'
import { LockstepError } from '../../protocol/errors.ts'
import type { SessionEnd } from '../../protocol/session-document.ts'
import { type Runtime, world } from '../../runtime/runtime.ts'
import type {
  AddSidResult,
  EndByResult,
  LogoutNotice,
  LogoutTarget,
  RpIdentity,
  RpSessionStore,
  RpStore,
  SaveTokensResult,
  StoredRpSession,
} from './contract.ts'
import { namedBy } from './hints.ts'
import { createKnownLogouts } from './known-logouts.ts'
import { type Confirmed, openRedis, type RedisConnection, type RedisPlace } from './redis-connection.ts'
import { type RedisHints, redisHints } from './redis-hints.ts'
import * as logouts from './redis-logout-scripts.ts'
import { createRedisOwed } from './redis-owed.ts'
import { listOf, type RunScript } from './redis-script.ts'
import * as scripts from './redis-scripts.ts'
import { toFields, toFound, toSession } from './redis-session.ts'

/** What is the store's own. */
export interface RedisStoreOptions {
  /** With what every key begins. Default `lockstep`. */
  prefix?: string
  /** How many replicas must have a logout before it is confirmed to the OP. Default 0: none, a failover may lose it. */
  replicas?: number
  /** Seconds to wait for them; fewer within that time is a store failure. Default 1. */
  replicaTimeout?: number
  /** Allows a connection over the network without TLS or without authentication. Default false. */
  allowInsecure?: boolean
  /** Epoch milliseconds by which logins are judged against logouts; replaced in tests. Default: the server's clock. */
  clock?: () => number
}

/**
 * RP sessions in Redis, for several nodes: a single server, Sentinel or Cluster. What survives a crash and a failover is
 * what the server was set up for: `docs/rp-stores.md`.
 *
 * All keys of one client share a hash tag and with it a slot, so that each operation is one script on one server. Nothing
 * is connected before the first use. An ioredis instance of the app's is only copied, never used or closed.
 *
 * @throws TypeError naming the option that is wrong; also when the connection leads over the network without TLS and
 * authentication (T19).
 *
 * @example
 * ```ts
 * const store = redisStore({ sentinels: [{ host: 'localhost', port: 26379 }], name: 'mymaster' }, { replicas: 1 })
 * ```
 */
export function redisStore(place: RedisPlace, options: RedisStoreOptions = {}): RpStore {
  const { prefix = 'lockstep', replicas = 0, replicaTimeout = 1, allowInsecure = false, clock } = options
  if (!/^[\w:.-]+$/.test(prefix)) throw new TypeError('prefix must be letters, digits and any of "_", ":", ".", "-"')
  if (!Number.isInteger(replicas) || replicas < 0) throw new TypeError('replicas must be a whole number')
  if (!(replicaTimeout > 0 && replicaTimeout <= 4)) {
    throw new TypeError('replicaTimeout must be more than 0 and at most 4 seconds: the OP waits for the answer')
  }
  const wait = { replicas, timeout: Math.ceil(replicaTimeout * 1000) }
  const connection = openRedis(place, { allowInsecure })
  // A WAIT holds up whatever comes after it on its connection.
  const waiting = replicas > 0 ? openRedis(place, { allowInsecure, patience: wait.timeout + 1_000 }) : undefined
  const node = Buffer.from(world.random(9)).toString('base64url')
  const channel = `${prefix}:hints`
  let attempts = 0
  const attemptName = () => `${node}.${++attempts}`
  const hints = redisHints(() => openRedis(place, { allowInsecure }), channel, node)
  return {
    forClient: (identity, runtime) =>
      createRedisStore(
        { connection, waiting, wait, hints, prefix, channel, node, attemptName, clock },
        identity,
        runtime,
      ),
    async close() {
      await Promise.all([hints.close(), connection.close(), waiting?.close()])
    },
  }
}

interface Parts {
  readonly connection: RedisConnection
  readonly waiting: RedisConnection | undefined
  readonly wait: { readonly replicas: number; readonly timeout: number }
  readonly hints: RedisHints
  readonly prefix: string
  readonly channel: string
  readonly node: string
  /** Names one attempt of all nodes. */
  readonly attemptName: () => string
  readonly clock: (() => number) | undefined
}

function createRedisStore(parts: Parts, identity: RpIdentity, runtime: Pick<Runtime, 'now'>): RpSessionStore {
  const { connection, waiting, wait, hints, prefix, channel, node, attemptName, clock } = parts
  const scope = scopeOf(identity)
  const base = `${prefix}:{${scope}}`
  const now = (): string => (clock ? String(Math.floor(clock())) : '')
  const run: RunScript = (script, ...args) => connection.run(script, base, now(), ...args)
  const teller = [channel, node]
  const hint = (handle: string): void => hints.publish(hintKey(scope, handle))
  const knownLogouts = createKnownLogouts(runtime, async () => ({
    prefix: `!${scope}.`,
    hints,
    keyOf: (kind, name) => logoutKey(scope, kind, name),
    async arrivedSince(since, limit) {
      const [at, flat] = listOf(await run(logouts.arrivals, String(Math.floor(since)), String(limit)))
      const texts = listOf(flat).map(String)
      const arrivals = texts.flatMap((key, i) => (i % 2 === 0 ? [[key, Number(texts[i + 1])] as const] : []))
      return { now: Number(at), arrivals }
    },
    async read({ sid, sub }) {
      const [bySid, bySub] = listOf(await run(logouts.marks, sub, ...given(sid)))
      return { sid: bySid === '' ? undefined : Number(bySid), sub: bySub === '' ? undefined : Number(bySub) }
    },
  }))

  /** Runs `endBy`; when it cannot be known or is not safe yet, takes the claim back, so that the OP's next attempt works. */
  async function endSafely(target: LogoutTarget, notice: LogoutNotice): Promise<unknown> {
    const [kind, name] = namedBy(target)
    const compared = 'sid' in target ? target.sub : undefined
    const attempt = attemptName()
    const takeBack = (ended: readonly StoredRpSession[]): Promise<unknown> => {
      const kept = Math.max(1, Math.ceil(notice.watermarkExpiresAt * 1000 - runtime.now()))
      const sessions = ended.map((session) => JSON.stringify(session))
      return run(logouts.takeBack, kind, name, notice.jti, attempt, String(kept), ...sessions)
    }
    const args = [
      ...teller,
      kind,
      name,
      flag(compared !== undefined),
      compared ?? '',
      notice.jti,
      String(notice.jtiExpiresAt),
      attempt,
      String(notice.watermark),
      String(notice.watermarkExpiresAt),
      JSON.stringify(notice.end),
      flag(notice.revokeOffline),
      flag(notice.sidReused || !('sid' in target)),
      ...given(notice.downstream),
    ]
    let confirmed: Confirmed
    try {
      confirmed = waiting
        ? await waiting.runAndWait(logouts.endBy, base, [now(), ...args], wait)
        : { result: await run(logouts.endBy, ...args), replicas: 0, isLocal: true }
    } catch (error) {
      // Whether it was done is not known when the connection broke. If this fails too, a copy of the same token is a replay
      // until its window is over; a token with a jti of its own works.
      await takeBack([]).catch(() => undefined)
      throw error
    }
    const { result, replicas = 0, isLocal } = confirmed
    if (replicas >= wait.replicas && isLocal) return result
    await takeBack(sessionsOf(result))
    throw new LockstepError('store_failed', `${replicas} of ${wait.replicas} Redis replicas have confirmed the logout`)
  }

  return {
    async now() {
      return Number(await run(scripts.time))
    },

    async create(session, { replaces = '' } = {}) {
      const switched: SessionEnd = { cause: 'user_switched', at: session.createdAt }
      const [outcome, before] = listOf(
        await run(scripts.create, ...teller, JSON.stringify(switched), replaces, session.handle, ...toFields(session)),
      )
      if (outcome !== 'created') return { outcome: 'outdated' }
      if (before === undefined) return { outcome: 'created' }
      const replaced = toSession(before)
      hint(replaced.handle)
      return { outcome: 'created', replaced }
    },

    async get(handle) {
      const [at, flat] = listOf(await run(scripts.get, handle))
      return toFound(flat, Number(at) / 1000)
    },

    async updateIfExists(handle, { idleExpiresAt = 0, sessionState }) {
      const args = [handle, String(idleExpiresAt), ...given(sessionState)]
      const changed = (await run(scripts.update, ...teller, ...args)) === 1
      if (changed && sessionState !== undefined) hint(handle)
      return changed
    },

    async addSid(handle, { sid, requestedAt, from }, { sidReused } = { sidReused: false }) {
      const flags = [flag(from === 'grant'), flag(sidReused)]
      return (await run(scripts.addSid, handle, sid, String(requestedAt), ...flags)) as AddSidResult
    },

    async claimRefresh(handle, lease) {
      return (await run(scripts.claimRefresh, handle, String(lease))) === 1
    },

    async saveTokens(handle, { tokens, refreshToken }, used) {
      const refresh = refreshToken ? [refreshToken.sealed, flag(refreshToken.offline)] : []
      const result = (await run(scripts.saveTokens, ...teller, handle, used, tokens, ...refresh)) as SaveTokensResult
      if (result === 'saved') hint(handle)
      return result
    },

    async delete(handle, end, downstream) {
      const args = [handle, JSON.stringify(end), ...given(downstream)]
      const flat = listOf(await run(scripts.remove, ...teller, ...args))
      if (flat.length === 0) return undefined
      hint(handle)
      return toSession(flat)
    },

    async endBy(target, notice): Promise<EndByResult> {
      const result = await endSafely(target, notice)
      const [outcome] = listOf(result)
      if (outcome === 'replay' || outcome === 'sub_mismatch') return { outcome }
      const sessions = sessionsOf(result)
      for (const { handle } of sessions) hint(handle)
      hints.publish(logoutKey(scope, ...namedBy(target)))
      return { outcome: 'ended', sessions }
    },

    async deleteBySid(sid, end) {
      const sessions = listOf(await run(logouts.deleteBySid, ...teller, sid, JSON.stringify(end))).map(toSession)
      for (const { handle } of sessions) hint(handle)
      return sessions
    },

    async listBySub(sub) {
      const found = listOf(await run(scripts.listBySub, sub)).map(toSession)
      return found.sort((a, b) => b.createdAt - a.createdAt)
    },

    loggedOutAt: knownLogouts.loggedOutAt,

    subscribe: (to, onHint) =>
      hints.subscribe(typeof to === 'string' ? hintKey(scope, to) : logoutKey(scope, ...namedBy(to)), onHint),

    async isGrantInUse({ sub, sids }) {
      return (await run(scripts.isGrantInUse, sub, ...sids)) === 1
    },

    ...createRedisOwed(run, runtime),
  }
}

/** Names a client in keys: length-prefixed, so that no two identities share it (T20). */
function scopeOf({ issuer, clientId }: RpIdentity): string {
  return hash('sha256', `${issuer.length}:${issuer}${clientId}`, 'base64url').slice(0, 22)
}

/** As the scripts make it; told apart from the others, so that a node can listen to all logouts of a client. */
function logoutKey(scope: string, kind: 'sid' | 'sub', name: string): string {
  return `!${scope}.${hash('sha1', `${kind} ${name}`)}`
}

/** As the scripts make it. */
function hintKey(scope: string, handle: string): string {
  return hash('sha1', `${scope} ${handle}`)
}

function sessionsOf(result: unknown): readonly StoredRpSession[] {
  const [, unsaid, ended] = listOf(result)
  return [
    ...listOf(unsaid).map((text) => JSON.parse(String(text)) as StoredRpSession),
    ...listOf(ended).map((flat) => toSession(flat)),
  ]
}

function flag(value: boolean): string {
  return value ? '1' : '0'
}

/** An argument at the end that may be missing. */
function given(text: string | undefined): readonly string[] {
  return text === undefined ? [] : [text]
}
