import type { EndCause, LoggedInRp } from './store/contract.ts'

/** A live OP session, as an operator sees it. */
export interface OpSessionInfo {
  readonly uid: string
  readonly accountId: string
  /** Epoch seconds. */
  readonly createdAt: number
  /** Epoch seconds. */
  readonly expiresAt: number
  /** The RPs that will be told when it ends. */
  readonly clients: readonly Pick<LoggedInRp, 'clientId' | 'sid'>[]
}

/** The OP sessions of an OP: list them, end them. */
export interface OpSessions {
  /** Live OP sessions of an account, newest first. */
  list(by: { accountId: string }): Promise<readonly OpSessionInfo[]>
  /**
   * Ends an OP session: its RPs are told, its tokens revoked, and nothing brings it back.
   *
   * @param options.cause Why; kept with the fact. Default `admin`.
   * @param options.actor Who did it, for the record.
   * @returns the id of the logout, `undefined` when the OP session was not alive.
   */
  end(uid: string, options?: { cause?: EndCause; actor?: string }): Promise<string | undefined>
}
