import type { SessionEnd } from '../protocol/session-document.ts'
import type { LogoutNotice, RpIdentity, RpSessionStore, RpStore, StoredRpSession } from '../rp/store/contract.ts'

/** What each law of an RP store is tried with. */
export interface RpBench {
  readonly store: RpStore
  /** The RP sessions of one client at one issuer, by the frozen clock. */
  readonly rp: RpSessionStore
  /** RP sessions of another client or issuer in the same store. */
  forClient(identity: RpIdentity): RpSessionStore
  readonly clock: FrozenClock
  reopen?(): Promise<RpStore>
}

export type RpLaw = (name: string, body: (bench: RpBench) => Promise<void>) => void

/** A clock that stands until it is moved. */
export interface FrozenClock {
  now(): number
  /** Moves it on, by seconds. */
  pass(seconds: number): void
}

export const identity: RpIdentity = { issuer: 'https://op.example', clientId: 'notes' }

/** Epoch seconds at which every law begins. */
export const START = 1_800_000_000

export function frozenClock(): FrozenClock {
  let now = START * 1000
  return {
    now: () => now,
    pass: (seconds) => {
      now += seconds * 1000
    },
  }
}

let count = 0

/** An RP session of ada's, opened at the start, idle for an hour and alive for a day at most. */
export function someSession(parts: Partial<StoredRpSession> = {}): StoredRpSession {
  const handle = parts.handle ?? `handle-${++count}`
  return {
    handle,
    publicId: `public-${handle}`,
    sub: 'ada',
    sid: `sid-${handle}`,
    firstIat: START,
    createdAt: START,
    requestedAt: START * 1000,
    idleExpiresAt: START + 3_600,
    expiresAt: START + 86_400,
    data: '{"value":{"name":"Ada"}}',
    tokens: 'sealed tokens',
    ...parts,
  }
}

/** An RP session of an OP that sends no `sid`. */
export function withoutSid(parts: Partial<StoredRpSession> = {}): StoredRpSession {
  const { sid: _none, ...session } = someSession(parts)
  return session
}

/** What a Logout Token with a `jti` of its own says. */
export function someNotice(parts: Partial<LogoutNotice> = {}): LogoutNotice {
  return {
    jti: `jti-${++count}`,
    jtiExpiresAt: START + 180,
    watermark: START,
    watermarkExpiresAt: START + 86_400,
    end: ending,
    revokeOffline: false,
    sidReused: false,
    ...parts,
  }
}

export const ending: SessionEnd = { cause: 'logout_token', at: START, at_ms: START * 1000 + 250, by: 'Mail' }

/** A question to the OP that went out at the start. */
export const atStart: { readonly requestedAt: number } = { requestedAt: START * 1000 }

/** Opens RP sessions and returns their handles. */
export async function opened(rp: RpSessionStore, ...sessions: readonly StoredRpSession[]): Promise<readonly string[]> {
  for (const session of sessions) await rp.create(session)
  return sessions.map(({ handle }) => handle)
}

/** Takes all that is due and returns it, as it was sealed. */
export async function owedBy(rp: RpSessionStore): Promise<readonly string[]> {
  return (await rp.claimOwed({ limit: 100, lease: 60_000 })).map(({ debt }) => debt).sort()
}

/** How each handle is found: `alive`, `ended` or `none`. */
export async function statesOf(rp: RpSessionStore, ...handles: readonly string[]): Promise<readonly string[]> {
  return Promise.all(handles.map(async (handle) => (await rp.get(handle))?.state ?? 'none'))
}
