import { isEndCause } from './causes.ts'
import { type Ending, whole } from './end-session.ts'
import { allTogether } from './logins-together.ts'
import { handleOf } from './models/handles.ts'
import type {
  EndCause,
  EndedOpSession,
  EndJob,
  LoggedInRp,
  OpIssuerStore,
  OpSession,
  OpSessionScope,
} from './store/contract.ts'

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

/** A part of a list of OP sessions. */
export interface OpSessionList {
  readonly sessions: readonly OpSessionInfo[]
  /** Where the next part begins; absent when this is the last. */
  readonly cursor?: string
}

/** Why OP sessions end, for the record. */
export interface EndOptions {
  /** Kept with the fact; decides whether tokens with `offline_access` are revoked too (T1). Default `admin`. */
  cause?: EndCause
  /** Who did it. */
  actor?: string
  /** A code of your own that says more than the cause, as `reason` in Logout Tokens where you grant it: `a-z0-9._-`. */
  reason?: string
}

/** Whose OP sessions to end. */
export type EndAllScope =
  | {
      accountId: string
      /**
       * Uids of OP sessions, and of interactions, that stay: the one in which the user has just changed the password. With an OP
       * session stays what its browser is known to have begun together with it.
       */
      except?: readonly string[]
    }
  | { clientId: string }
  | 'everyone'

/** The OP sessions of an OP: list them, end them. */
export interface OpSessions {
  /**
   * Live OP sessions of an account, of those who are logged in at a client, or of everyone; the newest login first.
   *
   * @param page.limit How many at most, up to 1,000. Default 100.
   * @param page.cursor Of the part before.
   */
  list(scope: OpSessionScope, page?: { cursor?: string; limit?: number }): Promise<OpSessionList>
  /**
   * Ends an OP session: its RPs are told, its tokens revoked, and nothing brings it back. What its browser is known to have
   * begun together with it (its tabs were restored) ends with it, in one transaction.
   *
   * @returns the id of the logout of this OP session, `undefined` when it was not alive.
   */
  end(uid: string, options?: EndOptions): Promise<string | undefined>
  /** Counts the OP sessions that {@link OpSessions.endAll} would end now, and ends none. */
  endAll(scope: EndAllScope, options: EndOptions & { dryRun: true }): Promise<number>
  /**
   * Ends all OP sessions of an account, those in which a client is logged in, or everyone's.
   *
   * When it resolves, whatever is older is refused already, what is under way included: OP sessions, logins, and, where the
   * cause means that a token may be in wrong hands, all tokens. A job then tells the RPs, at the rate of the `sweep` options;
   * a restart does not stop it, and nothing takes it back. Of a client, those in which it is logged in end and no others, whatever
   * else their browsers began together with them.
   */
  endAll(scope: EndAllScope, options?: EndOptions & { dryRun?: false }): Promise<EndJob>
  /** What `endAll` has still to tell. */
  readonly jobs: {
    get(id: string): Promise<EndJob | undefined>
    /** The newest first, at most `limit`; default 100. */
    list(limit?: number): Promise<readonly EndJob[]>
  }
}

/** What {@link opSessionsOf} works with. */
export interface OpSessionsParts {
  readonly store: OpIssuerStore
  /** Ends OP sessions, and what their browser began together with them. */
  end(uids: readonly string[], ending: Ending): Promise<readonly EndedOpSession[]>
  /** Called when there is a job to work on. */
  readonly wake: () => void
}

/** Builds an OP's `opSessions`. */
export function opSessionsOf({ store, end, wake }: OpSessionsParts): OpSessions {
  function endAll(given: EndAllScope, options: EndOptions & { dryRun: true }): Promise<number>
  function endAll(given: EndAllScope, options?: EndOptions & { dryRun?: false }): Promise<EndJob>
  async function endAll(
    given: EndAllScope,
    { dryRun = false, ...options }: EndOptions & { dryRun?: boolean } = {},
  ): Promise<number | EndJob> {
    const ending = checkedEnding(options)
    const { scope, except } = checkedScope(given)
    const kept = await allTogether(except, store)
    // What names an interaction in `except` names it by its uid, which the store knows as a hash only.
    const spared = kept.flatMap((uid) => [uid, handleOf(uid)])
    if (dryRun) return store.countOpSessions(scope, spared)
    const job = await store.endAll(scope, whole(ending), spared)
    wake()
    return job
  }

  return {
    async list(scope, page = {}) {
      const { limit = 100 } = page
      checkLimit(limit)
      const { sessions, cursor } = await store.listOpSessions(checkedScope(scope).scope, { ...page, limit })
      return { sessions: sessions.map(toInfo), ...(cursor !== undefined && { cursor }) }
    },
    async end(uid, options = {}) {
      const ending = checkedEnding(options)
      if (!(await store.getOpSession({ uid }))) return undefined // what else its browser began is another matter then
      const ended = await end([uid], ending)
      return ended.find(({ logout }) => logout.uid === uid)?.logout.id
    },
    endAll,
    jobs: {
      get: (id) => store.getEndJob(id),
      list: async (limit = 100) => {
        checkLimit(limit)
        return store.listEndJobs(limit)
      },
    },
  }
}

/** Why OP sessions end, as the operator said it; a wrong option is a `TypeError`. */
export function checkedEnding({ cause = 'admin', actor, reason, ...others }: EndOptions): Ending {
  const [unknown] = Object.keys(others)
  if (unknown !== undefined) throw new TypeError(`"${unknown}" is not an option of the end of an OP session`)
  if (!isEndCause(cause)) throw new TypeError(`cause "${String(cause)}" is not one that Lockstep knows`)
  if (actor !== undefined && (typeof actor !== 'string' || actor === '')) throw new TypeError('actor must be a name')
  if (reason !== undefined && !/^[a-z0-9._-]{1,64}$/.test(reason)) {
    throw new TypeError(
      'reason must be a code of 1 to 64 of a-z, 0-9, ".", "_" and "-": it is kept and told, so no text',
    )
  }
  return { cause, ...(actor !== undefined && { actor }), ...(reason !== undefined && { reason }) }
}

/** A misspelt scope must not become another's. */
function checkedScope(given: EndAllScope | OpSessionScope): { scope: OpSessionScope; except: readonly string[] } {
  if (given === 'everyone') return { scope: given, except: [] }
  if (typeof given !== 'object' || given === null) throw new TypeError(scopeRule)
  const { except = [], ...rest } = 'except' in given ? given : { ...given, except: [] }
  const [[kind, name] = [], another] = Object.entries<unknown>(rest)
  if (another !== undefined || typeof name !== 'string' || name === '') throw new TypeError(scopeRule)
  if (!Array.isArray(except) || except.some((uid) => typeof uid !== 'string')) {
    throw new TypeError('except must be an array of uids')
  }
  if (kind === 'accountId') return { scope: { accountId: name }, except }
  if (kind === 'clientId' && except.length === 0) return { scope: { clientId: name }, except }
  throw new TypeError(scopeRule)
}

const scopeRule = `whose OP sessions must be { accountId, except? }, { clientId } or 'everyone'`

function toInfo({ uid, accountId = '', createdAt, expiresAt, rps }: OpSession): OpSessionInfo {
  return { uid, accountId, createdAt, expiresAt, clients: rps.map(({ clientId, sid }) => ({ clientId, sid })) }
}

/** How many a list may have: a `TypeError` where it is not 1 to 1,000. */
export function checkLimit(limit: number): void {
  if (!(Number.isSafeInteger(limit) && limit > 0 && limit <= 1000)) {
    throw new TypeError('limit must be a whole number from 1 to 1,000')
  }
}
