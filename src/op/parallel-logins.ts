import type { KoaContextWithOIDC } from 'oidc-provider'
import { type BrowserLoginsParts, loginsIn, uidsOf } from './browser-logins.ts'
import { handleOf } from './models/handles.ts'
import type { OpIssuerStore, OpSession } from './store/contract.ts'
import { isUnattended } from './unseen.ts'

/*
 * OP sessions that one browser began at the same moment are one login to its user. The OP learns that they belong together when
 * the browser comes back with the cookies of all. From then on they live as long as the user is busy in one of them, and
 * whoever ends one of them ends all.
 */

/** What the store keeps of OP sessions that belong together, by the uid of each. */
const KIND = 'ParallelLogins'

/** What it takes to keep together what one browser began side by side. */
export interface ParallelLoginsParts extends BrowserLoginsParts {
  readonly store: Pick<OpIssuerStore, 'getOpSession' | 'saveOpSession' | 'getModel' | 'putModel'>
  /** Seconds from a login to the end of its OP session, however busy it is. */
  readonly lifetime: number
}

/** After a request of a signed-in browser that has begun more than one OP session: those of the same user live on with this one. */
export async function keepTogether(ctx: KoaContextWithOIDC, parts: ParallelLoginsParts): Promise<void> {
  const { session } = ctx.oidc
  if (!session?.accountId || session.destroyed) return
  const uids = uidsOf(await loginsIn(ctx, parts, session))
  if (uids.length === 0) return
  const found = await Promise.all(uids.map((uid) => parts.store.getOpSession({ uid })))
  const others = found.filter((other) => other?.accountId === session.accountId) as OpSession[]
  if (others.length === 0) return
  await noteTogether([session.uid, ...others.map(({ uid }) => uid)], session.accountId, parts)
  if (isUnattended(ctx)) return
  const current = await parts.store.getOpSession({ uid: session.uid })
  if (!current) return
  for (const other of others) await extend(other, current.expiresAt, parts)
}

/** The OP sessions that end with this one, by their uids: itself, and what its browser began side by side with it. */
export async function togetherWith(uid: string, store: Pick<OpIssuerStore, 'getModel'>): Promise<readonly string[]> {
  const kept = await store.getModel(KIND, { handle: handleOf(uid) })
  const { uids = [] } = (kept?.payload ?? {}) as { uids?: readonly string[] }
  return [...new Set([uid, ...uids])]
}

async function noteTogether(
  uids: readonly string[],
  accountId: string,
  { store, now, lifetime }: ParallelLoginsParts,
): Promise<void> {
  const [current = ''] = uids
  const known = new Set(await togetherWith(current, store))
  if (uids.every((uid) => known.has(uid))) return
  const expiresAt = Math.floor(now() / 1000) + lifetime
  for (const uid of uids)
    await store.putModel({ kind: KIND, handle: handleOf(uid), payload: { uids }, accountId, expiresAt })
}

/** Another OP session of this browser lives as long as the one at hand, and no longer than its own absolute lifetime. */
async function extend(
  { uid, handle, accountId, payload, expiresAt, createdAt }: OpSession,
  until: number,
  { store, lifetime }: ParallelLoginsParts,
): Promise<void> {
  const loginTs = typeof payload.loginTs === 'number' ? payload.loginTs : createdAt
  const reaches = Math.min(until, loginTs + lifetime)
  if (reaches <= expiresAt) return
  const account = accountId === undefined ? {} : { accountId }
  await store.saveOpSession({
    uid,
    handle,
    ...account,
    payload,
    base: payload,
    rps: [],
    expiresAt: reaches,
    extend: true,
  })
}
