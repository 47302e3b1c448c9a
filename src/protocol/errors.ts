/** Every stable code a Lockstep error can carry. Codes are public API; messages are not. */
export type LockstepErrorCode =
  | 'logout_token_invalid'
  | 'logout_request_invalid'
  | 'frontchannel_request_invalid'
  | 'login_response_invalid'
  | 'login_refused'
  | 'op_unreachable'
  | 'op_answer_invalid'
  | 'op_refused'
  | 'op_key_unknown'
  | 'op_key_unusable'
  | 'egress_refused'
  | 'session_unreadable'
  | 'store_failed'
  | 'store_not_durable'
  | 'store_in_use'
  | 'op_session_ended'
  | 'provider_unsupported'
  | 'secrets_unreadable'
  | 'key_too_young'
  | 'key_unknown'

/**
 * The base of every error Lockstep throws for something another party or the environment did wrong.
 *
 * A programmer's mistake (a wrong option) is a `TypeError` instead.
 */
export class LockstepError extends Error {
  readonly code: LockstepErrorCode

  constructor(code: LockstepErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = new.target.name
    this.code = code
  }
}
