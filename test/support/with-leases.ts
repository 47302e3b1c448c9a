import type { OpStore } from '../../src/op.ts'

/** The same store with leases of so many milliseconds: what a dead or frozen worker holds is free again while a test waits. */
export function withLeases(store: OpStore, lease: number): OpStore {
  return {
    ...store,
    forIssuer(...of) {
      const real = store.forIssuer(...of)
      return {
        ...real,
        claimDue: (options) => real.claimDue({ ...options, lease }),
        claimEarly: (which) => real.claimEarly(which, lease),
      }
    },
  }
}
