export type { EndDownstream, UpstreamLogout } from './rp/cascade.ts'
export type { AppRequest, CurrentRequest } from './rp/current-session.ts'
export type { DecryptionKey } from './rp/decrypt-token.ts'
export type { RpAnswer, RpRequest } from './rp/http.ts'
export { BodyReadBefore, BodyTooLarge } from './rp/http.ts'
export type { RpLog, RpLogEvent } from './rp/log.ts'
export { createLogoutReceiver, type LogoutReceiver } from './rp/logout-receiver.ts'
export type { KeptClaims, LogoutReceiverOptions } from './rp/logout-receiver-options.ts'
export type { AppOptions, LoginClaims, OpAllowances, RelyingPartyOptions } from './rp/options.ts'
export { createRelyingParty, type Mountable, type RelyingParty } from './rp/relying-party.ts'
export type { CurrentRpSession, RpSession } from './rp/rp-session.ts'
export type {
  AddSidResult,
  CreateResult,
  EndByResult,
  FoundRpSession,
  LearntSid,
  LogoutNotice,
  LogoutTarget,
  OutsideLogin,
  Owed,
  OwedKind,
  RpIdentity,
  RpSessionPatch,
  RpSessionStore,
  RpStore,
  SaveTokensResult,
  Sealed,
  StoredRefreshToken,
  StoredRpSession,
} from './rp/store/contract.ts'
