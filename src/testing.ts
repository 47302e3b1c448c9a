export { type OpenedOpStore, opStoreContract, type TestRunner } from './testing/op-store-contract.ts'
export { type OpenedRpStore, rpStoreContract } from './testing/rp-store-contract.ts'
