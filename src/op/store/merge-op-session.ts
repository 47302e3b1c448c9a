import type { OpSessionWrite } from './contract.ts'

/** What a store keeps of an OP session and a save may change. */
export interface KeptOpSession {
  readonly handle: string
  readonly account_id: string | null
  /** JSON. */
  readonly payload: string
  readonly expires_at: number
}

/** An OP session as it is to be kept. */
export interface MergedOpSession extends KeptOpSession {
  /** Somebody signs in by this save. */
  readonly signsIn: boolean
  /** False where all is kept as it is, and nothing need be written. */
  readonly changes: boolean
}

type Write = Pick<OpSessionWrite, 'handle' | 'accountId' | 'payload' | 'base' | 'expiresAt' | 'extend'>

/**
 * One request's view of an OP session, merged with what others wrote since it was read; `ended` where another account is signed
 * in there. The rules are the same for all stores.
 *
 * A handle that was retired stays so. What is kept of the login and of a user switch under way stays where the request is a
 * background check, does not know of the login, or carries a handle that was replaced meanwhile; else the request changes what
 * it changed itself, and nothing that it only read.
 */
export function mergeOpSession(
  kept: KeptOpSession | undefined,
  write: Write,
  isRetired: boolean,
): MergedOpSession | 'ended' {
  const { handle, accountId, payload, base, expiresAt, extend } = write
  const account = kept?.account_id ?? accountId ?? null
  if (accountId !== undefined && accountId !== account) return 'ended'
  const signsIn = account !== null && (kept?.account_id ?? null) === null
  if (!kept) {
    const text = JSON.stringify(payload)
    return { handle, account_id: account, payload: text, expires_at: expiresAt, signsIn, changes: true }
  }
  const knowsTheLogin = account === null || accountId !== undefined
  const mayChange = extend && knowsTheLogin && (!isRetired || signsIn)
  const merged = {
    handle: isRetired ? kept.handle : handle,
    account_id: account,
    payload: mayChange ? mergePayload(kept.payload, base, payload) : kept.payload,
    expires_at: extend ? expiresAt : kept.expires_at,
  }
  const changes =
    merged.handle !== kept.handle ||
    merged.account_id !== kept.account_id ||
    merged.payload !== kept.payload ||
    merged.expires_at !== kept.expires_at
  return { ...merged, signsIn, changes }
}

type Payload = Readonly<Record<string, unknown>>

/** What says how somebody logged in belongs together: the time of one login with the `acr` of another would be a lie. */
const LOGIN: ReadonlySet<string> = new Set(['loginTs', 'acr', 'amr', 'transient'])

function mergePayload(kept: string, base: Payload | undefined, mine: Payload): string {
  if (!base) return JSON.stringify(mine)
  const names = [...new Set([...Object.keys(base), ...Object.keys(mine)])]
  const changed = new Set(names.filter((name) => JSON.stringify(base[name]) !== JSON.stringify(mine[name])))
  const logsIn = [...LOGIN].some((name) => changed.has(name))
  const isMine = (name: string): boolean => changed.has(name) || (logsIn && LOGIN.has(name))
  const theirs = Object.entries(JSON.parse(kept) as Payload).filter(([name]) => !isMine(name))
  return JSON.stringify(Object.fromEntries([...theirs, ...Object.entries(mine).filter(([name]) => isMine(name))]))
}
