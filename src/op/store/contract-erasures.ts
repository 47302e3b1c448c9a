import type { StoreEnding } from './contract-ends.ts'

/** The erasure of what the store keeps about an account (T30). Times are epoch milliseconds. */
export interface Erasure {
  readonly id: string
  /** The job that ends the account's OP sessions. */
  readonly jobId: string
  /** What stands in the account's place afterwards: random, and the same in all its logouts. */
  readonly pseudonym: string
  /** Absent once it is done: then nothing names the account any more. */
  readonly accountId?: string
  readonly state: 'running' | 'done'
  readonly requestedAt: number
  readonly finishedAt?: number
}

/** The erasure of accounts (T30). */
export interface ErasureStore {
  /** Ends all OP sessions of an account, as `endAll` does, and records in the same transaction that it is to be erased. */
  eraseAccount(accountId: string, ending: StoreEnding): Promise<Erasure>
  /**
   * Takes one step, one transaction, in the erasure that is longest due, if no other node is at it. First its models go that are
   * refused: some at a time, each with all of its grant, which nothing brings back. Then, as soon as a logout owes no RP anything, up to
   * `limit` a step, its account is replaced by the pseudonym, and what RPs answered in their own words is dropped. When none is
   * left, all jobs of the account's name are done and the youngest of them is a day old (every request that was under way is over),
   * the models are looked through once more, for what such a request committed behind the first look; then the jobs are renamed.
   *
   * The next step is due after `pause` milliseconds while there is more to do, and after `wait` where it waits for others.
   *
   * @returns the erasure as it is after the step, `done` once; `undefined` when none is due.
   */
  eraseSome(options: { limit: number; pause: number; wait: number }): Promise<Erasure | undefined>
  /** Epoch milliseconds at which a step is due. */
  nextErasureAt(): Promise<number | undefined>
  /** Known as long as a logout has its pseudonym, however old it is. */
  getErasure(id: string): Promise<Erasure | undefined>
  /** The newest, at most `limit`. */
  listErasures(limit: number): Promise<readonly Erasure[]>
}
