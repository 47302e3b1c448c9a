/** Options of {@link startSessionMonitor}. URLs may be relative to the page. */
export interface SessionMonitorOptions {
  /** Where the app's backend says how the RP session is. Default `/auth/session`. */
  readonly session?: string
  /** Where it says so by server-sent events, whenever it changes. Default `/auth/session/events`. */
  readonly events?: string
  /** The page that asks the OP with prompt=none, in a hidden iframe. Default `/auth/silent-check`. */
  readonly silentCheck?: string
  /**
   * Seconds after which `session` is asked when the events have not said meanwhile how it is: at their next heartbeat,
   * which says nothing itself. Default 300, at most 1,000,000. An app of `lockstep/rp` says so every 240 s, and is not asked.
   */
  readonly checkInterval?: number
  /**
   * The `sub` that this page was rendered for, empty or absent when it was for nobody. A page that comes out of a cache, or
   * was made just before a logout, is then signed out also if nobody or somebody else is signed in by the time it asks.
   */
  readonly signedIn?: string
}

/** The options with their defaults, URLs made absolute. */
export type ResolvedSessionMonitorOptions = Required<Omit<SessionMonitorOptions, 'signedIn'>> & {
  /** `signedIn`; empty on a page that does not say. */
  readonly sub: string
}

/** Checks the options and fills in the defaults. */
export function resolveSessionMonitorOptions(
  {
    session = '/auth/session',
    events = '/auth/session/events',
    silentCheck = '/auth/silent-check',
    checkInterval = 300,
    signedIn = '',
  }: SessionMonitorOptions,
  baseUrl: string,
): ResolvedSessionMonitorOptions {
  if (!(checkInterval > 0 && checkInterval <= 1e6)) throw new TypeError('checkInterval must be 0 to 1e6 seconds')
  if (typeof signedIn !== 'string') throw new TypeError('signedIn must be the sub of the End-User')
  const absolute = (url: string) => new URL(url, baseUrl).href
  return {
    session: absolute(session),
    events: absolute(events),
    silentCheck: absolute(silentCheck),
    checkInterval,
    sub: signedIn,
  }
}
