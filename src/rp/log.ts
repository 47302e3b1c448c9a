import type { LogoutTokenCheck } from '../protocol/logout-token.ts'

export { messageOf, sanitize } from '../runtime/message-of.ts'

/** What an RP tells its operator. Never holds a `sub`, a `sid`, a cookie, a token or a secret. */
export type RpLogEvent =
  | { readonly event: 'op_unreachable'; readonly url: string; readonly message: string }
  | { readonly event: 'op_reachable'; readonly url: string }
  | { readonly event: 'login_failed'; readonly code: string; readonly message: string }
  | { readonly event: 'silent_check_failed'; readonly code: string; readonly message: string }
  | { readonly event: 'logout_received'; readonly ended: number; readonly by: 'sid' | 'sub' }
  | { readonly event: 'logout_token_refused'; readonly check: LogoutTokenCheck; readonly message: string }
  | { readonly event: 'frontchannel_logout_received'; readonly ended: number }
  | { readonly event: 'frontchannel_logout_refused'; readonly message: string }
  | { readonly event: 'logout_not_recorded'; readonly message: string }
  | { readonly event: 'hook_failed'; readonly hook: 'onSessionStarted' | 'onSessionEnded'; readonly message: string }
  | { readonly event: 'refresh_refused'; readonly message: string }
  | { readonly event: 'tokens_not_saved'; readonly message: string }
  | { readonly event: 'revocation_failed'; readonly attempts: number; readonly message: string }
  | { readonly event: 'revocation_given_up'; readonly attempts: number; readonly message: string }
  | { readonly event: 'cascade_failed'; readonly attempts: number; readonly message: string }
  | { readonly event: 'cascade_given_up'; readonly attempts: number; readonly message: string }
  | { readonly event: 'tokens_unreadable'; readonly message: string }
  | { readonly event: 'internal_error'; readonly route: string; readonly message: string }

export type RpLog = (event: RpLogEvent) => void

/** Writes one JSON line per event to standard error. */
export const logToStderr: RpLog = (event) => {
  console.error(JSON.stringify({ side: 'rp', ...event }))
}
