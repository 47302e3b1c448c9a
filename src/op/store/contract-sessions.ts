/** An RP that an OP session must tell when it ends (Back-Channel §2.3: logged-in RPs). */
export interface LoggedInRp {
  readonly clientId: string
  /** The `sid` this RP knows the login by; different at each RP. */
  readonly sid: string
  readonly grantId?: string
  /** True once tokens with `offline_access` were issued: their grant survives an ordinary logout (Back-Channel §2.7). */
  readonly persistsLogout: boolean
}

/** An OP session as the store keeps it; `handle` is the SHA-256 of the cookie's value, never the value. */
export interface OpSession {
  readonly uid: string
  readonly handle: string
  readonly accountId?: string
  /** What oidc-provider wants back, without its id and without `authorizations`. */
  readonly payload: Readonly<Record<string, unknown>>
  readonly rps: readonly LoggedInRp[]
  /** Epoch seconds. */
  readonly createdAt: number
  /** Epoch seconds. */
  readonly expiresAt: number
}

/** What `saveOpSession` is given: one request's view of the OP session, to be merged with what others wrote meanwhile. */
export interface OpSessionWrite {
  readonly uid: string
  readonly handle: string
  readonly accountId?: string
  readonly payload: Readonly<Record<string, unknown>>
  /** `payload` as this request read it: what is the same in both it did not change, and leaves to others. Absent: it changed all. */
  readonly base?: Readonly<Record<string, unknown>>
  readonly rps: readonly LoggedInRp[]
  /** Epoch seconds to which the idle lifetime now reaches; ignored for a live OP session unless `extend`. */
  readonly expiresAt: number
  /** False for background checks (prompt=none), which never extend the idle lifetime (T11). */
  readonly extend: boolean
  /** The interaction in which `accountId` signed in, when this request completes one: the login is as old as that (T2). */
  readonly login?: {
    /** `since` of the Interaction. */
    readonly since: number
    readonly interaction: string
  }
}

/** Whose OP sessions: an account's, those in which a client is logged in, or all. */
export type OpSessionScope = { readonly accountId: string } | { readonly clientId: string } | 'everyone'

/** A part of a list, newest login first, and where the next part begins: absent when this is the last. */
export interface OpSessionPage {
  readonly sessions: readonly OpSession[]
  readonly cursor?: string
}

/** An OP session that is to be ended, and whom that concerns. */
export type EndableOpSession = Pick<OpSession, 'uid' | 'rps'>

/** OP sessions, and which RPs have logged in under them. */
export interface OpSessionStore {
  /**
   * Merges one request's view into the OP session: RPs that others added stay, the first `sid` of an RP wins, a handle
   * that was retired stays retired, and a request that still believes the OP session to be anonymous takes no login back.
   * `ended` when the uid was ended before, has expired, is refused by `endAll`, or is signed in as another account:
   * nothing is written. `stale` when it was saved by a request whose handle was retired meanwhile: then the payload
   * that is kept stays, as it does without `extend`, since such a request changes nobody.
   */
  saveOpSession(session: OpSessionWrite): Promise<'saved' | 'stale' | 'ended'>
  /** By an RP's `sid`: the OP session in which that RP got it. */
  getOpSession(
    by: { handle: string } | { uid: string } | { clientId: string; sid: string },
  ): Promise<OpSession | undefined>
  /** The cookie's value was replaced; the old one is worthless from now on. */
  retireHandle(handle: string): Promise<void>
  /** The live OP session whose handle was retired in the last `seconds`: its browser has, or is about to get, another. */
  getRotated(handle: string, seconds: number): Promise<OpSession | undefined>
  /**
   * Records that an RP is logging in under this OP session and returns the `sid` and grant to use: the first that was
   * recorded wins, so that the codes of several tabs all redeem. The OP session itself may be saved after this.
   *
   * `replaces` is for a fresh consent, and names the grant in whose sight it was given: where that is the one recorded, it is
   * revoked with all that was issued under it, and the new one takes its place (one grant per OP session and client, T1).
   *
   * @throws LockstepError `op_session_ended` when the uid was ended, has expired or is refused by `endAll`.
   */
  claimLogin(
    uid: string,
    rp: { clientId: string; sid: string; grantId: string },
    replaces?: string,
  ): Promise<{ sid: string; grantId: string }>
  /**
   * Live OP sessions in which somebody is signed in, by the time of the login (of a client: of the login there), the newest
   * first. A cursor stays good while OP sessions come and go: what is there all the time is listed exactly once.
   */
  listOpSessions(scope: OpSessionScope, page?: { cursor?: string; limit?: number }): Promise<OpSessionPage>
  /** How many OP sessions `endAll` would end now. */
  countOpSessions(scope: OpSessionScope, except?: readonly string[]): Promise<number>
}
