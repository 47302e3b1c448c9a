export type { Accounts, EraseOptions } from './op/accounts.ts'
export type { RegistrationOptions } from './op/clients/registration-options.ts'
export type { BackchannelOptions } from './op/delivery/backchannel-options.ts'
export type {
  Deliveries,
  DeliveryCount,
  DeliveryInfo,
  DeliveryList,
  DeliveryWithHistory,
} from './op/delivery/deliveries.ts'
export type { OpEvents } from './op/delivery/events.ts'
export type { EgressPolicyOptions } from './op/egress-options.ts'
export type { AboutDelivery, AboutFailure, OpLog, OpLogEvent } from './op/log.ts'
export type { Receipt, ReceiptApp, Receipts } from './op/logout/receipts.ts'
export type { EndAllScope, EndOptions, OpSessionInfo, OpSessionList, OpSessions } from './op/op-sessions.ts'
export type { LockstepOptions } from './op/options.ts'
export type * from './op/pages/pages.ts'
export { Provider } from './op/provider.ts'
export { isSameOrigin } from './op/same-origin.ts'
export type { SigningAlgorithm } from './op/secrets/key-ring.ts'
export {
  type OpSecrets,
  openSecrets,
  type RotationOptions,
  rotateKeys,
  type SecretsOptions,
} from './op/secrets/secrets.ts'
export type * from './op/store/contract.ts'
export type { RetentionOptions, SweepOptions } from './op/sweep-options.ts'
