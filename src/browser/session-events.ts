import type { SessionEnd } from '../protocol/session-document.ts'
import type { AliveDocument, Belief, Telling } from './decide.ts'

/** What made the app's backend say so: its own stream, a `changed` of the OP iframe, or a question of this page. */
export type HeardBy = 'push' | 'iframe' | 'poll'

/** How and when this tab heard it; `heardAt` is epoch milliseconds. */
export interface Heard {
  readonly heardBy: HeardBy
  readonly heardAt: number
}

/** What a tab was told. */
export type Told = Telling & Heard

/** A running watch of an RP session. */
export interface SessionWatch {
  state(): Belief['state']
  check(): Promise<void>
  stop(): void
}

/** The events of a {@link SessionMonitor}; each is a `CustomEvent` with this `detail`. */
export interface SessionMonitorEvents {
  /** The RP session is alive; said each time that is confirmed. */
  alive: Heard & { readonly session: AliveDocument }
  /** The backend does not answer; said each time it was asked in vain. Nobody is signed out by that. */
  unknown: Heard
  /** Another End-User has signed in in this browser; `ended` follows. */
  userswitched: Heard & { readonly sub: string | undefined }
  /** The tab is signed out; said once. `session` is the public name of the RP session that ended, if it was ever heard. */
  ended: Heard & { readonly session: string; readonly ended: SessionEnd }
}

/** A running monitor. */
export interface SessionMonitor extends EventTarget {
  /** What this tab believes now; `none` on a page that nobody is signed in to. */
  readonly state: Belief['state']
  /** Asks the app's backend now, and resolves when what it said has been told. */
  check(): Promise<void>
  /** Stops for good; everything the monitor made in the page is gone. */
  stop(): void
  addEventListener<Type extends keyof SessionMonitorEvents>(
    type: Type,
    listener: (event: CustomEvent<SessionMonitorEvents[Type]>) => void,
    options?: boolean | AddEventListenerOptions,
  ): void
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void
  removeEventListener<Type extends keyof SessionMonitorEvents>(
    type: Type,
    listener: (event: CustomEvent<SessionMonitorEvents[Type]>) => void,
    options?: boolean | EventListenerOptions,
  ): void
  removeEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | EventListenerOptions,
  ): void
}

/** Makes a monitor of a watch: what that tells become its events. */
export function sessionMonitor(watch: (tell: (told: Told) => void) => SessionWatch): SessionMonitor {
  const target = new EventTarget()
  const { state, check, stop } = watch((detail) => target.dispatchEvent(new CustomEvent(detail.type, { detail })))
  return Object.defineProperty(Object.assign(target, { check, stop }), 'state', { get: state }) as SessionMonitor
}
