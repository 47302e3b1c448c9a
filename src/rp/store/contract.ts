import type { SessionEnd } from '../../protocol/session-document.ts'
import type { Runtime } from '../../runtime/runtime.ts'

/** A text that only the RP can read: JWE, made by jose. Stores never see what is inside (T6). */
export type Sealed = string

/** An RP session as a store keeps it. Times are epoch seconds. */
export interface StoredRpSession {
  /** SHA-256 of the cookie's value, never the value (T6). */
  readonly handle: string
  /** Name under which pages know this RP session; worthless as a credential. */
  readonly publicId: string
  readonly sub: string
  /** That of the login; the OP may give it further ones, see {@link RpSessionStore.addSid}. */
  readonly sid?: string
  /** `iat` of the first ID Token of this RP session; a refreshed one does not change it (T3). */
  readonly firstIat: number
  readonly createdAt: number
  /** When its login was asked for, in epoch milliseconds by {@link RpSessionStore.now}: a logout after that has overtaken it (T3). */
  readonly requestedAt: number
  /** When it ends unless somebody uses it. */
  readonly idleExpiresAt: number
  /** When it ends whatever happens. */
  readonly expiresAt: number
  /** What `mapSession` made, as JSON. */
  readonly data: string
  /** The OP's `session_state` and what is known of prompt=none (op-watch.ts); opaque to stores. */
  readonly sessionState?: string
  /** ID Token and access token. */
  readonly tokens: Sealed
  readonly refreshToken?: StoredRefreshToken
}

/** Kept apart from the other tokens, since a logout owes its revocation to the OP (Back-Channel §2.7). */
export interface StoredRefreshToken {
  readonly sealed: Sealed
  /** True when `offline_access` was granted: an ordinary logout leaves it alone. */
  readonly offline: boolean
}

/** What may change in an RP session that is alive. */
export interface RpSessionPatch {
  /** Only ever moves forward. */
  readonly idleExpiresAt?: number
  readonly sessionState?: string
}

/** What a store knows under a handle. */
export type FoundRpSession =
  | { readonly state: 'alive'; readonly session: StoredRpSession }
  | { readonly state: 'ended'; readonly publicId: string; readonly end: SessionEnd }

/** Whom a logout names; the issuer is the store's own. With a `sid`, `sub` is only compared. */
export type LogoutTarget = { readonly sid: string; readonly sub?: string } | { readonly sub: string }

/** A Logout Token that was found valid, as far as a store needs it. Times are epoch seconds. */
export interface LogoutNotice {
  readonly jti: string
  /** Until when the `jti` is remembered: the end of the time in which the token would be accepted. */
  readonly jtiExpiresAt: number
  /** The token's `toe`, else its `iat`. The store cuts it at its own now (T3). */
  readonly watermark: number
  /** Until when the watermark is kept: a whole absolute RP session lifetime. */
  readonly watermarkExpiresAt: number
  readonly end: SessionEnd
  /** True when the OP also wants refresh tokens with `offline_access` gone. */
  readonly revokeOffline: boolean
  /** True when this OP gives later logins the same `sid`: then by `sid` too the watermark is compared. */
  readonly sidReused: boolean
  /**
   * What is owed to this app's own OP because of this logout, whether an RP session was left or not (T7). The debt is this
   * text and, each on a line of its own, the `publicId` of every RP session that ended with it or had expired.
   */
  readonly downstream?: string
}

/** A login whose session is not in the store: the app keeps it in a cookie, as its first ID Token named it. */
export type OutsideLogin = Pick<StoredRpSession, 'sid' | 'sub' | 'firstIat'>

/** `replaced` is the live RP session of this browser that the new one took the place of. */
export type CreateResult =
  | { readonly outcome: 'created'; readonly replaced?: StoredRpSession }
  | { readonly outcome: 'outdated' }

/** A `sid` under which the OP knows a live RP session besides that of its login, and how that became known. */
export interface LearntSid {
  readonly sid: string
  /** Epoch milliseconds by {@link RpSessionStore.now}, taken before the OP was asked. */
  readonly requestedAt: number
  /**
   * `browser`: prompt=none has shown that this is the `sid` of who is signed in at the OP in this browser. `grant`: the ID
   * Token came with refreshed tokens, which may belong to an older login there.
   */
  readonly from: 'browser' | 'grant'
}

export type AddSidResult = 'added' | 'outdated' | 'gone'

export type SaveTokensResult = 'saved' | 'outdated' | 'gone'

/**
 * `replay`: the `jti` was seen before. `sub_mismatch`: RP sessions have that `sid`, all of another `sub`. In both cases
 * nothing was written.
 */
export type EndByResult =
  | { readonly outcome: 'ended'; readonly sessions: readonly StoredRpSession[] }
  | { readonly outcome: 'replay' }
  | { readonly outcome: 'sub_mismatch' }

/** What a logout leaves to be done: to revoke a refresh token at the OP, or to end what stems from it downstream. */
export type OwedKind = 'revocation' | 'downstream'

/** Something owed, until it is paid. */
export interface Owed {
  readonly id: string
  /** The sealed refresh token, or the text that came with the logout. */
  readonly debt: string
  /** How many attempts were begun, this one included. */
  readonly attempts: number
  /** Epoch milliseconds. */
  readonly owedSince: number
}

/** A grant at the OP: whose, and the `sid`s of the OP sessions that its tokens are known to be of. */
export interface Grant {
  readonly sub: string
  readonly sids: readonly string[]
}

/**
 * RP sessions of one client at one issuer.
 *
 * One promise above all: **a write never brings back what a logout removed.** So there is no upsert; `create` refuses
 * what a logout has overtaken, and `updateIfExists` returns `false` for what is gone. Each method happens whole or not
 * at all.
 *
 * Nor is a refresh token forgotten while the OP still takes it: what is left of an RP session after its absolute expiry is
 * owed by a later `create` or `endBy`. Whoever pays asks {@link isGrantInUse} first.
 */
export interface RpSessionStore {
  /** Epoch milliseconds by the clock that judges logins against logouts: one clock for all nodes (T3). */
  now(): Promise<number>

  /**
   * Adds an RP session, unless a logout of its `sid` or its `sub` arrived after its `requestedAt`: then nothing is written
   * and it is `outdated`. A logout of the very same millisecond is older: the OP sent it before it could see the request.
   *
   * `replaces` is the handle this browser had before; it dies in the same step. Its tabs hear `user_switched` if it
   * belonged to another `sub`. Its refresh token is owed; of the same End-User's only where it has a `sid`, by which
   * {@link isGrantInUse} can tell its grant from that of the new one. If the End-User has signed out of it himself
   * (`this_app`, `rp_initiated`) after `requestedAt`, the login is `outdated` too: nobody is signed in again by a tab that
   * was under way.
   */
  create(session: StoredRpSession, options?: { readonly replaces?: string }): Promise<CreateResult>

  /** An expired RP session is found as ended (`expired`) until its absolute expiry; so is one that a logout ended. */
  get(handle: string): Promise<FoundRpSession | undefined>

  /** Changes a live RP session; `false` when it is not alive, and then nothing is written. */
  updateIfExists(handle: string, patch: RpSessionPatch): Promise<boolean>

  /**
   * Adds a `sid` to those that a live RP session has: a logout of any of them ends it. Only one of a `sid` that the browser
   * has left behind ends nothing: when a logout happened (by its watermark) before `browser` has shown another `sid`, the
   * End-User had signed in anew. Of the added ones eight are kept: the one that the browser has shown last, and those that
   * were learnt last.
   *
   * `outdated` when a logout of this `sid` arrived after it was asked for, and with `sidReused` (default `false`) is not older
   * than the first ID Token: then nothing is written, and the caller ends the RP session. `gone` when it is not alive.
   */
  addSid(handle: string, learnt: LearntSid, options?: { readonly sidReused: boolean }): Promise<AddSidResult>

  /**
   * Takes the right to refresh the tokens of a live RP session for `lease` milliseconds; `false` while another has it. A
   * rotated refresh token that is used twice costs the whole grant, so one process alone may use it.
   */
  claimRefresh(handle: string, lease: number): Promise<boolean>

  /**
   * Replaces the tokens of a live RP session that still holds the refresh token that was `used`, gives the right to refresh
   * back and tells subscribers. `outdated` when it holds another or none: a faster refresh was there, and nothing is
   * written. `gone` when it is not alive; if its end has made the old refresh token owed, the new one is owed too, in the
   * same step. If it only expired, or the front channel ended it, the new one takes the place of the old one in what is left
   * of it.
   */
  saveTokens(
    handle: string,
    tokens: Pick<StoredRpSession, 'tokens' | 'refreshToken'>,
    used: Sealed,
  ): Promise<SaveTokensResult>

  /**
   * Ends one RP session and records what is owed, `downstream` (as in {@link LogoutNotice}) included; `undefined` when it
   * was not alive.
   */
  delete(handle: string, end: SessionEnd, downstream?: string): Promise<StoredRpSession | undefined>

  /**
   * Ends every RP session a Logout Token names, in one atomic step: claims the `jti`, writes the watermark, ends the
   * members of the index, records what is owed, tells subscribers. The refresh tokens of those that are named and had expired,
   * or that the front channel had ended, are owed now. If it throws, nothing was claimed and the OP's next attempt works.
   *
   * By `sid` all members end, or with `sidReused` those that end by `sub`. By `sub` those end whose first ID Token's `iat` is not after the watermark.
   */
  endBy(target: LogoutTarget, notice: LogoutNotice): Promise<EndByResult>

  /**
   * Ends the live RP sessions that have a `sid` and tells subscribers, and nothing else: no `jti`, no watermark, nothing is owed.
   * This is what an unauthenticated front-channel request may do (T4). They end as if they had expired at this moment, and are
   * kept with all their names: {@link endBy} owes their refresh tokens, or their absolute expiry does. One atomic step.
   */
  deleteBySid(sid: string, end: SessionEnd): Promise<readonly StoredRpSession[]>

  /** Live RP sessions of an End-User, newest first. */
  listBySub(sub: string): Promise<readonly StoredRpSession[]>

  /**
   * Says when a logout named a login whose session is not in this store, in epoch seconds; `undefined` when none did. By
   * `sid` any logout counts, or with `sidReused` one that is not older than the login; by `sub` one that is not older.
   *
   * Where a store is over the network, it is not asked as long as this node hears of every logout: within moments of
   * the 200 to the OP, and within a minute should a message get lost. In doubt the store is read.
   *
   * @throws LockstepError `store_failed` when it is in doubt and the store cannot be read
   */
  loggedOutAt(login: OutsideLogin, options: { readonly sidReused: boolean }): Promise<number | undefined>

  /**
   * Calls `onHint` when this RP session may have changed, or when a logout may have named this `sid` or `sub`. A hint
   * carries nothing: whoever gets one reads the store again (T18), and reads it now and then without one. Returns how
   * to stop.
   */
  subscribe(to: string | LogoutTarget, onHint: () => void): Promise<() => void>

  /**
   * Says whether a live RP session holds a refresh token of a grant: one of that `sub` whose tokens are of one of the `sids`,
   * by its login or learnt from `grant`; without `sids`, any of that `sub`. To revoke others of the grant would take its tokens
   * away, and its own is owed when it ends.
   */
  isGrantInUse(grant: Grant): Promise<boolean>

  /** Owes a refresh token that belongs to no RP session. */
  owe(refreshToken: Sealed): Promise<void>
  /** Takes up to `limit` debts that are due, for `lease` milliseconds. `kind` is by default `revocation`. */
  claimOwed(options: {
    readonly limit: number
    readonly lease: number
    readonly kind?: OwedKind
  }): Promise<readonly Owed[]>
  /** Forgets a debt, or puts it off until `retryAt` (epoch milliseconds). `kind` is by default `revocation`. */
  settleOwed(id: string, outcome: 'done' | { readonly retryAt: number }, kind?: OwedKind): Promise<void>
  /** Epoch milliseconds at which the next debt is due. `kind` is by default `revocation`. */
  nextOwedAt(kind?: OwedKind): Promise<number | undefined>
}

/** Whose RP sessions; everything a store keeps starts with it, so that clients and issuers never meet (T20). */
export interface RpIdentity {
  readonly issuer: string
  readonly clientId: string
}

/** Where an app keeps its RP sessions; `lockstep/rp/memory`, `/sqlite`, `/postgres` and `/redis` have one each. */
export interface RpStore {
  forClient(identity: RpIdentity, runtime: Pick<Runtime, 'now'>): RpSessionStore
  close(): Promise<void>
}
