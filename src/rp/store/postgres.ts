import { createHash } from 'node:crypto'
import type { SessionEnd } from '../../protocol/session-document.ts'
import { openPostgres, type Postgres } from '../../runtime/postgres.ts'
import { type PostgresOptions, resolvePostgresOptions } from '../../runtime/postgres-connection.ts'
import { type Runtime, world } from '../../runtime/runtime.ts'
import type { CreateResult, EndByResult, FoundRpSession, RpIdentity, RpSessionStore, RpStore } from './contract.ts'
import { namedBy } from './hints.ts'
import { createKnownLogouts } from './known-logouts.ts'
import { type PostgresHints, postgresHints } from './postgres-hints.ts'
import { migrate } from './postgres-schema.ts'
import * as sql from './postgres-statements.ts'
import { readTogether } from './read-together.ts'
import { afterExpiry, isLive, type PastEnd } from './rules.ts'
import { type SessionRow, toKept, toSession } from './session-row.ts'

/** RP sessions that one query reads: few milliseconds, in which its connection serves nobody else. */
const MOST_AT_ONCE = 256

/** Which PostgreSQL, as `pg` takes it (`connectionString`, `max`, ...), and what is the store's own. */
export interface PostgresStoreOptions extends PostgresOptions {
  /** Name of the schema that holds the tables; made at the first start. Default `lockstep_rp`. */
  schema?: string
  /** Epoch milliseconds by which logins are judged against logouts; replaced in tests. Default: the database's clock. */
  clock?: () => number
}

/**
 * RP sessions in PostgreSQL, for several nodes. What was answered survives a crash and power loss; what survives a
 * failover is what the standby had: `docs/rp-stores.md`.
 *
 * Nothing is connected before the first use. The schema is made or brought up to date then, by one of the nodes that start
 * at once. Give it a direct connection, or a pooler that keeps sessions: it prepares statements and listens.
 *
 * @throws TypeError naming the option that is wrong; also when the connection leads over the network without TLS (T19).
 */
export function postgresStore({ clock, ...options }: PostgresStoreOptions): RpStore {
  const resolved = resolvePostgresOptions(options, 'lockstep_rp')
  const db = openPostgres(resolved)
  const node = Buffer.from(world.random(9)).toString('base64url')
  const hints = postgresHints(db, `rp_${sha256(resolved.schema).slice(0, 22)}`, node)
  let migrated: Promise<void> | undefined
  const ready = (): Promise<void> => {
    migrated ??= migrate(db, resolved).catch((error: unknown) => {
      migrated = undefined // whoever asks next tries again
      throw error
    })
    return migrated
  }
  return {
    forClient: (identity, runtime) => createPostgresStore({ db, hints, ready, clock }, identity, runtime),
    close: () => db.close(hints.close()),
  }
}

interface Parts {
  readonly db: Postgres
  readonly hints: PostgresHints
  /** Resolves when the schema is there; asks again after a failure. */
  ready(): Promise<void>
  readonly clock: (() => number) | undefined
}

function createPostgresStore(
  { db, hints, ready, clock }: Parts,
  identity: RpIdentity,
  runtime: Pick<Runtime, 'now'>,
): RpSessionStore {
  let known: Promise<number> | undefined
  const client = (): Promise<number> => {
    known ??= ready()
      .then(() => clientNumber(db, identity))
      .catch((error: unknown) => {
        known = undefined
        throw error
      })
    return known
  }
  const now = (): number | null => (clock ? Math.floor(clock()) : null)
  const hintKey = (number: number, handle: string): string => sha256(`${number} ${handle}`)
  // Told apart from the other keys, so that a node can listen to all logouts of a client.
  const logoutKey = (number: number, kind: 'sid' | 'sub', nameKey: string): string =>
    `!${number}.${sha256(`${kind} ${nameKey}`)}`
  const knownLogouts = createKnownLogouts(runtime, async () => {
    const id = await client()
    return {
      prefix: `!${id}.`,
      hints,
      keyOf: (kind, name) => logoutKey(id, kind, sha256(name)),
      async arrivedSince(since, limit) {
        const at = await store.now()
        const rows = await db.all(sql.arrivals, id, Math.floor(since), limit)
        const arrivals = rows.map(
          ({ kind, name_key, arrived_at }) => [logoutKey(id, kind, name_key), arrived_at] as const,
        )
        return { now: at, arrivals }
      },
      async read({ sid, sub }) {
        const rows = await db.all(sql.marks, id, sid === undefined ? null : sha256(sid), sha256(sub), now())
        return Object.fromEntries(rows.map(({ kind, watermark }) => [kind, watermark]))
      },
    }
  })

  const find = readTogether(async (handles) => {
    const rows = await db.all(sql.get, await client(), handles, now())
    return new Map(rows.map((row) => [row.asked, row]))
  }, MOST_AT_ONCE)

  const store: RpSessionStore = {
    async now() {
      await ready()
      return (await db.first(sql.now, now()))?.now as number
    },

    async create(session, { replaces = null } = {}): Promise<CreateResult> {
      const id = await client()
      const { sub, sid = null, refreshToken } = session
      const switched: SessionEnd = { cause: 'user_switched', at: session.createdAt }
      const [row] = await db.all(
        sql.create,
        id,
        session.handle,
        session.publicId,
        sub,
        sha256(sub),
        sid,
        sid === null ? null : sha256(sid),
        session.firstIat,
        session.createdAt,
        session.idleExpiresAt,
        session.expiresAt,
        session.data,
        session.sessionState ?? null,
        session.tokens,
        refreshToken?.sealed ?? null,
        refreshToken?.offline ?? null,
        session.requestedAt,
        replaces,
        JSON.stringify(switched),
        now(),
      )
      if (row?.outcome !== 'created') return { outcome: 'outdated' }
      if (row.handle === null) return { outcome: 'created' }
      hints.publish([hintKey(id, row.handle)])
      return { outcome: 'created', replaced: toSession(row) }
    },

    async get(handle): Promise<FoundRpSession | undefined> {
      const row = await find(handle)
      hints.attend()
      if (row === undefined) return undefined
      const seconds = row.now / 1000
      if (row.handle !== null) {
        const session = toKept(row)
        return isLive(session, seconds) ? { state: 'alive', session } : afterExpiry(session, seconds)
      }
      if (row.ended === null || row.ended_public_id === null || (row.ended_expires_at ?? 0) <= seconds) return undefined
      const end = JSON.parse(row.ended) as PastEnd['end']
      return end === null ? undefined : { state: 'ended', publicId: row.ended_public_id, end }
    },

    async updateIfExists(handle, { idleExpiresAt = 0, sessionState = null }) {
      const id = await client()
      const changed = await db.change(sql.update, id, handle, idleExpiresAt, sessionState, now())
      if (changed > 0 && sessionState !== null) hints.publish([hintKey(id, handle)])
      return changed > 0
    },

    async addSid(handle, { sid, requestedAt, from }, { sidReused } = { sidReused: false }) {
      const id = await client()
      const row = await db.first(sql.addSid, id, handle, sha256(sid), requestedAt, from === 'grant', sidReused, now())
      return row?.outcome ?? 'gone'
    },

    async claimRefresh(handle, lease) {
      return (await db.first(sql.claimRefresh, await client(), handle, lease, now()))?.claimed === true
    },

    async saveTokens(handle, { tokens, refreshToken }, used) {
      const id = await client()
      const { sealed = null, offline = null } = refreshToken ?? {}
      const row = await db.first(sql.saveTokens, id, handle, tokens, sealed, offline, used, now())
      if (row?.outcome === 'saved') hints.publish([hintKey(id, handle)])
      return row?.outcome ?? 'gone'
    },

    async delete(handle, end, downstream) {
      const id = await client()
      const row = await db.first(sql.remove, id, handle, JSON.stringify(end), downstream ?? null, now())
      if (row) hints.publish([hintKey(id, handle)])
      return row && toSession(row)
    },

    async endBy(target, notice): Promise<EndByResult> {
      const id = await client()
      const [kind, name] = namedBy(target)
      const rows = await db.all(
        sql.endBy,
        id,
        kind,
        sha256(name),
        'sid' in target && target.sub !== undefined ? sha256(target.sub) : null,
        sha256(notice.jti),
        notice.jtiExpiresAt,
        notice.watermark,
        notice.watermarkExpiresAt,
        JSON.stringify(notice.end),
        notice.revokeOffline,
        notice.sidReused,
        notice.downstream ?? null,
        now(),
      )
      const outcome = rows[0]?.outcome
      if (outcome === 'replay' || outcome === 'sub_mismatch') return { outcome }
      const sessions = rows.filter((row): row is { outcome: string } & SessionRow => row.handle !== null).map(toSession)
      hints.publish([logoutKey(id, kind, sha256(name)), ...sessions.map(({ handle }) => hintKey(id, handle))])
      return { outcome: 'ended', sessions }
    },

    async deleteBySid(sid, end) {
      const id = await client()
      const sessions = (await db.all(sql.removeBySid, id, sha256(sid), JSON.stringify(end), now())).map(toSession)
      hints.publish(sessions.map(({ handle }) => hintKey(id, handle)))
      return sessions
    },

    async listBySub(sub) {
      return (await db.all(sql.listBySub, await client(), sha256(sub), now())).map(toSession)
    },

    loggedOutAt: knownLogouts.loggedOutAt,

    async subscribe(to, onHint) {
      const id = await client()
      if (typeof to === 'string') return hints.subscribe(hintKey(id, to), onHint)
      const [kind, name] = namedBy(to)
      return hints.subscribe(logoutKey(id, kind, sha256(name)), onHint)
    },

    async isGrantInUse({ sub, sids }) {
      const row = await db.first(sql.isGrantInUse, await client(), sha256(sub), sids.map(sha256), now())
      return row?.found === true
    },

    async owe(refreshToken) {
      await db.change(sql.oweToken, await client(), refreshToken, now())
    },

    // What is owed is kept by the database's clock and spoken of by this node's, however far apart they are.
    async claimOwed({ limit, lease, kind = 'revocation' }) {
      const rows = await db.all(sql.owed[kind].claim, await client(), limit, lease, now())
      const here = runtime.now()
      return rows.map(({ id, debt, attempts, age }) => ({ id: String(id), debt, attempts, owedSince: here - age }))
    },

    async settleOwed(id, outcome, kind = 'revocation') {
      const { forget, putOff } = sql.owed[kind]
      if (outcome === 'done') await db.change(forget, await client(), Number(id))
      else await db.change(putOff, await client(), Number(id), Math.ceil(outcome.retryAt - runtime.now()), now())
    },

    async nextOwedAt(kind = 'revocation') {
      const wait = (await db.first(sql.owed[kind].next, await client(), now()))?.wait
      return wait === null || wait === undefined ? undefined : runtime.now() + wait
    },
  }
  return store
}

async function clientNumber(db: Postgres, { issuer, clientId }: RpIdentity): Promise<number> {
  const known = await db.first(sql.findClient, issuer, clientId)
  if (known) return known.id
  await db.change(sql.addClient, issuer, clientId)
  return (await db.first(sql.findClient, issuer, clientId))?.id as number
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('base64url')
}
