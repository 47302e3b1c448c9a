export { LockstepError, type LockstepErrorCode } from './protocol/errors.ts'
export {
  BACKCHANNEL_LOGOUT_EVENT,
  type LogoutDetails,
  type LogoutTokenCheck,
  type LogoutTokenClaims,
  LogoutTokenError,
} from './protocol/logout-token.ts'
export {
  SESSION_EVENT,
  type SessionDocument,
  type SessionEnd,
  type SilentCheckTrust,
} from './protocol/session-document.ts'
export { computeSessionState, type SessionStatus } from './protocol/session-state.ts'
