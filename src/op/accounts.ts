import { whole } from './end-session.ts'
import { checkedEnding, checkLimit } from './op-sessions.ts'
import type { Erasure, OpIssuerStore } from './store/contract.ts'

/** Who erases an account, for the record. */
export interface EraseOptions {
  /** Who did it; replaced as well where it is the account itself. */
  actor?: string
  /** A code of your own, as that of `opSessions.end`. */
  reason?: string
}

/** The accounts that an OP's store knows of. */
export interface Accounts {
  /**
   * Erases what the store keeps about an account (T30). Call it when the account is deleted, once `findAccount` answers `undefined`
   * for it.
   *
   * When it resolves, its OP sessions, logins under way and tokens are refused, as by `opSessions.endAll` with cause
   * `account_deleted`. In the background its RPs are told, its grants and tokens are deleted, and as soon as a logout
   * owes no RP anything a random pseudonym takes the account's place there: the audit keeps what happened, and not to whom. It
   * takes a day at least, and as long as the last RP is being told; a restart does not stop it.
   */
  erase(accountId: string, options?: EraseOptions): Promise<Erasure>
  /** What is being erased, and what was. */
  readonly erasures: {
    get(id: string): Promise<Erasure | undefined>
    /** The newest first, at most `limit`; default 100. */
    list(limit?: number): Promise<readonly Erasure[]>
  }
}

/** What {@link accountsOf} works with. */
export interface AccountsParts {
  readonly store: OpIssuerStore
  /** Called when there is work for the sweeper. */
  readonly wake: () => void
}

/** Builds an OP's `accounts`. */
export function accountsOf({ store, wake }: AccountsParts): Accounts {
  return {
    async erase(accountId, options = {}) {
      if (typeof accountId !== 'string' || accountId === '')
        throw new TypeError('accountId must be the id of an account')
      if ('cause' in options) throw new TypeError('an account is erased for one cause: account_deleted')
      const ending = checkedEnding({ ...options, cause: 'account_deleted' })
      const erasure = await store.eraseAccount(accountId, whole(ending))
      wake()
      return erasure
    },
    erasures: {
      get: (id) => store.getErasure(id),
      list: async (limit = 100) => {
        checkLimit(limit)
        return store.listErasures(limit)
      },
    },
  }
}
