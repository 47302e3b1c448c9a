import type { RpStore } from '../rp/store/contract.ts'
import type { TestRunner } from './op-store-contract.ts'
import { frozenClock, identity, type RpLaw } from './rp-store-bench.ts'
import { frontchannelContract } from './rp-store-contract-frontchannel.ts'
import { grantsContract } from './rp-store-contract-grants.ts'
import { logoutContract } from './rp-store-contract-logout.ts'
import { nodesContract } from './rp-store-contract-nodes.ts'
import { outsideContract } from './rp-store-contract-outside.ts'
import { owedContract } from './rp-store-contract-owed.ts'
import { refreshContract } from './rp-store-contract-refresh.ts'
import { rpSessionContract } from './rp-store-contract-sessions.ts'
import { leavingContract, sidsContract } from './rp-store-contract-sids.ts'

/** A store under test, at a place of its own that was empty before. */
export interface OpenedRpStore {
  readonly store: RpStore
  /** Opens the same place again, after `store.close()` or beside it where `shared`; absent where nothing outlives the store. */
  reopen?(): Promise<RpStore>
  /** Removes the place. */
  dispose(): Promise<void>
}

/**
 * Registers the tests that every RP store passes.
 *
 * @example
 * ```ts
 * import { describe, it } from 'vitest'
 * import { rpStoreContract } from 'lockstep/testing'
 *
 * rpStoreContract({ describe, it }, { open: async () => ({ store: myStore(), dispose: async () => {} }), durable: false })
 * ```
 *
 * @param options `open` is called for each test, with the clock that the test moves: a store that takes the time from its
 * server must take it from there instead. With `durable`, what it gives must have `reopen`. `shared` says that several nodes
 * may use it at once: then `reopen` also works beside an open one.
 */
export function rpStoreContract(
  { describe, it }: TestRunner,
  {
    open,
    durable,
    shared = false,
  }: { open: (clock: () => number) => Promise<OpenedRpStore>; durable: boolean; shared?: boolean },
): void {
  const law: RpLaw = (name, body) => {
    it(name, async () => {
      const clock = frozenClock()
      const place = await open(clock.now)
      try {
        const { store } = place
        await body({
          store,
          rp: store.forClient(identity, clock),
          forClient: (other) => store.forClient(other, clock),
          clock,
          ...(place.reopen && { reopen: place.reopen }),
        })
      } finally {
        await place.dispose()
      }
    })
  }
  describe('an RP store keeps RP sessions', () => rpSessionContract(law, durable))
  describe('an RP store ends what a Logout Token names', () => logoutContract(law, durable))
  describe('an RP store knows an RP session by several sids', () => sidsContract(law))
  describe('an RP store and who leaves the app', () => leavingContract(law))
  if (shared) describe('an RP store serves several nodes', () => nodesContract(law))
  describe('an RP store and the front channel', () => frontchannelContract(law))
  describe('an RP store and grants that others use', () => grantsContract(law))
  describe('an RP store and refreshed tokens', () => refreshContract(law))
  describe('an RP store and logins that it does not keep', () => outsideContract(law, { durable, shared }))
  describe('an RP store remembers what is owed to the OP', () => owedContract(law, durable))
}
