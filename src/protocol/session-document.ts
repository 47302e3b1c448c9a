/** How an RP session came to its end, as the RP's own backend tells its tabs. */
export interface SessionEnd {
  /**
   * What ended it: `logout_token` (the OP told us), `frontchannel`, `rp_initiated` (signed out here, everywhere),
   * `this_app` (signed out here only), `silent_check` (the OP no longer knows the End-User), `expired`,
   * `user_switched` (another End-User signed in in this browser), `admin`.
   */
  readonly cause:
    | 'logout_token'
    | 'frontchannel'
    | 'rp_initiated'
    | 'this_app'
    | 'silent_check'
    | 'expired'
    | 'user_switched'
    | 'admin'
  /** Epoch seconds of the logout: the Logout Token's `toe` where there is one. */
  readonly at: number
  /** Epoch milliseconds of the logout, where the OP says it that precisely. */
  readonly at_ms?: number
  /** Name of the app the End-User signed out of, where the OP says it. */
  readonly by?: string
}

/**
 * What is known of prompt=none in a frame, for one RP session: `unknown` until the first answer, `works` once the OP has
 * recognised somebody, `refused` when its first answer was `login_required`. Then this browser withholds the OP's cookies
 * (or the OP's own are `SameSite=Lax`), and that answer means nothing.
 */
export type SilentCheckTrust = 'unknown' | 'works' | 'refused'

/**
 * What an RP's backend says about the RP session of the asking browser: the body of `GET /auth/session` and the data
 * of each `session` event at `/auth/session/events`. The stream says what the endpoint says, whenever it changes.
 */
export type SessionDocument =
  | {
      readonly state: 'alive'
      /** Public name of this RP session; equal in all of its tabs, worthless as a credential. */
      readonly session: string
      readonly sub: string
      readonly client_id: string
      /** Epoch seconds at which the RP session ends by itself. */
      readonly expires_at: number
      readonly session_state?: string
      readonly check_session_iframe?: string
      /**
       * Absent where the backend keeps no such record; then a tab has prompt=none look into a `changed` that follows an
       * `unchanged`, as with `works`, but not into one that comes first.
       */
      readonly silent_check?: SilentCheckTrust
    }
  | { readonly state: 'ended'; readonly session: string; readonly ended: SessionEnd }
  | { readonly state: 'none' }

/** Name of the server-sent event that carries a {@link SessionDocument}. */
export const SESSION_EVENT = 'session'
