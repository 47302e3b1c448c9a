import type { OpStore } from '../op/store/contract.ts'
import { issuer, type Law, testRuntime } from './op-store-bench.ts'
import { budgetContract } from './op-store-contract-budgets.ts'
import { deliveriesContract } from './op-store-contract-deliveries.ts'
import { endAllContract } from './op-store-contract-end-all.ts'
import { endContract } from './op-store-contract-ends.ts'
import { eraseContract } from './op-store-contract-erase.ts'
import { modelContract } from './op-store-contract-models.ts'
import { nodesContract } from './op-store-contract-nodes.ts'
import { outboxContract } from './op-store-contract-outbox.ts'
import { opSessionContract } from './op-store-contract-sessions.ts'
import { sizeContract } from './op-store-contract-size.ts'

/** The two functions of a test runner the suites use (vitest, node:test, mocha and jest have them). */
export interface TestRunner {
  describe(name: string, body: () => void): unknown
  it(name: string, body: () => Promise<void>): unknown
}

/** A store under test, at a place of its own that was empty before. */
export interface OpenedOpStore {
  readonly store: OpStore
  /** Opens the same place again, after `store.close()` or beside it where `shared`; absent where nothing outlives the store (`:memory:`). */
  reopen?(): Promise<OpStore>
  /** Removes the place. */
  dispose(): Promise<void>
}

/**
 * Registers the tests that every OP store passes.
 *
 * @example
 * ```ts
 * import { describe, it } from 'vitest'
 * import { opStoreContract } from 'lockstep/testing'
 *
 * opStoreContract({ describe, it }, { open: async () => ({ store: myStore(), dispose: async () => {} }), durable: false })
 * ```
 *
 * @param options `open` is called for each test; with `durable`, what it gives must have `reopen`. `shared` says that several
 *   processes may use one place at once; a store that measures leases by a clock of its own takes `clock` (epoch
 *   milliseconds) instead.
 */
export function opStoreContract(
  { describe, it }: TestRunner,
  {
    open,
    durable,
    shared = false,
  }: { open: (clock: () => number) => Promise<OpenedOpStore>; durable: boolean; shared?: boolean },
): void {
  const law: Law = (name, body) => {
    it(name, async () => {
      const runtime = testRuntime()
      const opened = await open(runtime.now)
      try {
        const { store } = opened
        await body({
          store,
          op: store.forIssuer(issuer, runtime),
          runtime,
          ...(opened.reopen && { reopen: opened.reopen }),
        })
      } finally {
        await opened.dispose()
      }
    })
  }
  describe('an OP store keeps models', () => modelContract(law, durable))
  describe('an OP store keeps OP sessions', () => opSessionContract(law, durable))
  describe('an OP store ends OP sessions', () => endContract(law))
  describe('an OP store ends all OP sessions of a scope', () => endAllContract(law, durable))
  describe('an OP store erases accounts', () => eraseContract(law, durable))
  describe('an OP store keeps the outbox', () => outboxContract(law, durable))
  describe('an OP store keeps budgets', () => budgetContract(law, durable))
  describe('an OP store shows and changes deliveries by hand', () => deliveriesContract(law))
  describe('an OP store has room', () => sizeContract(law))
  if (shared) describe('an OP store serves several nodes', () => nodesContract(law))
}
