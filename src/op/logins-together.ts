import { handleOf } from './models/handles.ts'
import type { OpIssuerStore, OpSession } from './store/contract.ts'

/*
 * OP sessions that one browser began at the same moment are one login to its user. The OP learns that they belong together when
 * the browser comes back with the cookies of all. From then on they live as long as the user is busy in one of them, and
 * whoever ends one of them ends all.
 */

/** What the store keeps of OP sessions that belong together, by the uid of each: it is nobody's, so no end of an account's refuses it. */
const KIND = 'LoginsTogether'

/** What the other logins of a browser are to the OP session at hand. */
export interface OtherLogins {
  /** Of the same user: they belong together with it. */
  readonly own: readonly OpSession[]
  /** Of other users, in a browser that is not theirs any more. */
  readonly foreign: readonly OpSession[]
  /** The names of what needs no cookie any more: it is over, or foreign. */
  readonly over: readonly string[]
}

/** Who belongs together with an OP session, of the other logins that its browser brings: each by its name, `undefined` if it is over. */
export function sortLogins(
  { uid, accountId }: Pick<OpSession, 'uid' | 'accountId'>,
  logins: ReadonlyMap<string, OpSession | undefined>,
): OtherLogins {
  const others = [...logins].filter(([, login]) => login?.uid !== uid)
  const alive = new Map(others.flatMap(([, login]) => (login ? [[login.uid, login]] : [])))
  return {
    own: [...alive.values()].filter((login) => login.accountId === accountId),
    foreign: [...alive.values()].filter((login) => login.accountId !== accountId),
    over: others.flatMap(([name, login]) => (login?.accountId === accountId ? [] : [name])),
  }
}

/** The OP sessions that end and stay with these, by their uids: themselves, and what their browser began together with them. */
export async function allTogether(
  uids: readonly string[],
  store: Pick<OpIssuerStore, 'getModel'>,
): Promise<readonly string[]> {
  const each = await Promise.all(uids.map((uid) => togetherWith(uid, store)))
  return [...new Set([...uids, ...each.flat()])]
}

async function togetherWith(uid: string, store: Pick<OpIssuerStore, 'getModel'>): Promise<readonly string[]> {
  const kept = await store.getModel(KIND, { handle: handleOf(uid) })
  const { uids = [] } = (kept?.payload ?? {}) as { uids?: readonly string[] }
  return uids
}

/** What it takes to keep together what one browser began together. */
export interface KeepTogetherParts {
  readonly store: Pick<OpIssuerStore, 'getModel' | 'putModel' | 'saveOpSession'>
  readonly now: () => number
  /** Seconds from a login to the end of its OP session, however busy it is. */
  readonly lifetime: number
}

/** Notes which OP sessions belong together with the one at hand. */
export async function noteTogether(
  current: OpSession,
  own: readonly OpSession[],
  { store, now, lifetime }: KeepTogetherParts,
): Promise<void> {
  if (own.length === 0) return
  const uids = [...own.map(({ uid }) => uid), current.uid] // its own note comes last: where it stands, those of the others do
  const known = new Set(await togetherWith(current.uid, store))
  if (uids.every((uid) => known.has(uid))) return
  const expiresAt = Math.floor(now() / 1000) + lifetime
  for (const uid of uids) await store.putModel({ kind: KIND, handle: handleOf(uid), payload: { uids }, expiresAt })
}

/** Another OP session of this browser lives as long as the one at hand, and no longer than its own absolute lifetime. */
export async function extend(
  { uid, handle, accountId, payload, expiresAt, createdAt }: OpSession,
  until: number,
  { store, lifetime }: KeepTogetherParts,
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
