import type { SessionDocument, SessionEnd } from '../protocol/session-document.ts'
import { askSession, followSession } from './ask-session.ts'
import { type AliveDocument, type Belief, decide } from './decide.ts'
import { opIframeWatcher } from './op-iframe-source.ts'
import { resolveSessionMonitorOptions, type SessionMonitorOptions } from './options.ts'
import { silentChecker } from './silent-check.ts'
import { takeTurns } from './tabs.ts'
import { pause } from './wait.ts'
import { type BrowserWorld, browserWorld, type Channel } from './world.ts'

/** What made the app's backend say so: its own stream, a `changed` of the OP iframe, or a question of this page. */
export type HeardBy = 'push' | 'iframe' | 'poll'

/** How and when this tab heard it; `heardAt` is epoch milliseconds. */
export interface Heard {
  readonly heardBy: HeardBy
  readonly heardAt: number
}

/** The events of a {@link SessionMonitor}; each is a `CustomEvent` with this `detail`. */
export interface SessionMonitorEvents {
  /** The RP session is alive; said each time that is confirmed. */
  alive: Heard & { readonly session: AliveDocument }
  /** The backend does not answer; said each time it was asked in vain. Nobody is signed out by that. */
  unknown: Heard
  /** Another End-User has signed in in this browser; `ended` follows. */
  userswitched: Heard & { readonly sub: string | undefined }
  /** The tab is signed out; said once. `session` is the public name of the RP session that ended. */
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

/**
 * Upper bounds of the milliseconds before the stream is opened again; they double from one to the other, and chance
 * spreads the tabs below them. The largest is what a tab may be late after its app was down, so it is short.
 */
const FIRST_PAUSE = 1_000
const LARGEST_PAUSE = 10_000

/**
 * Watches the RP session of this page and says when it has ended, in every open tab, without a reload.
 *
 * The app's own backend pushes it (first-party, so no cookie blocking and no throttling of hidden tabs is in the way);
 * the OP iframe is the second source, and a `changed` of it makes the backend find out. Only the backend can end a
 * session. One tab of the browser listens for all of them. On a page that nobody is signed in to, it asks once and rests.
 *
 * It needs no inline script and no eval; a Content Security Policy must allow `connect-src 'self'` and, for the second
 * source, `frame-src` with `'self'` and the OP's origin. Without the latter it works by push alone.
 *
 * @example
 * ```ts
 * import { startSessionMonitor } from 'lockstep/browser'
 *
 * const monitor = startSessionMonitor()
 * monitor.addEventListener('ended', () => location.reload())
 * ```
 */
export function startSessionMonitor(
  options: SessionMonitorOptions = {},
  world: BrowserWorld = browserWorld(),
): SessionMonitor {
  const { session, events, silentCheck, checkInterval } = resolveSessionMonitorOptions(options, world.baseUrl)
  const name = `lockstep:${session}`
  const watchOpIframe = opIframeWatcher(world)
  const checkSilently = silentChecker(world, silentCheck)

  const life = new AbortController()
  /** Aborts while the page rests in the back/forward cache or is frozen. */
  let presence = new AbortController()
  let following: AbortController | undefined
  let channel: Channel | undefined
  /** What this tab told the others last. */
  let said: { readonly document: SessionDocument | undefined; readonly heardBy: HeardBy } | undefined
  /** Aborts the pause between two attempts. */
  let nap = new AbortController()
  let belief: Belief = { state: 'unknown', session: undefined }
  let asked = Promise.resolve()
  let nextCheck: Promise<void> | undefined

  const monitor = Object.assign(new EventTarget(), { state: belief.state, check, stop }) as SessionMonitor & {
    state: Belief['state']
  }

  const on = (target: EventTarget, type: string, listener: (event: Event) => unknown) =>
    target.addEventListener(type, listener, { signal: life.signal })
  on(world.window, 'online', wake)
  on(world.document, 'visibilitychange', () => world.document.visibilityState === 'visible' && wake())
  on(world.window, 'pagehide', rest)
  on(world.document, 'freeze', rest)
  on(world.window, 'pageshow', resume)
  on(world.document, 'resume', resume)
  void check()
  return monitor

  function check(heardBy: HeardBy = 'poll'): Promise<void> {
    // An answer counts only for those who asked before the question went out.
    nextCheck ??= asked = asked.then(() => {
      nextCheck = undefined
      return ask(heardBy)
    })
    return nextCheck
  }

  async function ask(heardBy: HeardBy): Promise<void> {
    const { signal } = presence
    if (signal.aborted) return
    const document = await askSession(world, session, signal)
    if (!signal.aborted) hear(document, heardBy)
  }

  function hear(document: SessionDocument | undefined, heardBy: HeardBy, overheard = false): void {
    const before = belief.session?.session
    const decision = decide(belief, document, world.now())
    belief = decision.belief
    monitor.state = belief.state
    if (!overheard) {
      said = { document, heardBy }
      channel?.postMessage(said)
    }
    if (belief.state === 'ended') stop()
    // The stream belongs to the RP session it was opened for.
    if (belief.state === 'none' || (before && before !== belief.session?.session)) unfollow()
    if (belief.state !== 'none') follow()
    for (const { type, ...telling } of decision.tell) {
      monitor.dispatchEvent(new CustomEvent(type, { detail: { ...telling, heardBy, heardAt: world.now() } }))
    }
  }

  /**
   * Takes what another tab heard if it is about the same RP session; else it is a reason to ask. A tab that has just come
   * says nothing: the one that listens then says again what it was told.
   */
  function overhear(event: Event): void {
    const { document, heardBy } = (event as MessageEvent<{ document?: SessionDocument; heardBy?: HeardBy }>).data
    if (!heardBy) {
      if (said?.heardBy === 'push') channel?.postMessage(said)
      return
    }
    const same = !document || (document.state !== 'none' && document.session === belief.session?.session)
    if (same) hear(document, heardBy, true)
    else void check(heardBy)
  }

  function follow(): void {
    if (following || presence.signal.aborted) return
    following = new AbortController()
    const { signal } = following
    channel = world.tabs?.openChannel(name)
    channel?.addEventListener('message', overhear, { signal })
    channel?.postMessage({})
    void takeTurns(world, name, signal, () => Promise.all([listen(signal), poll(signal)]))
    void watchOpIframe(
      () => belief.session,
      () => findOut(signal),
      signal,
    )
  }

  function unfollow(): void {
    following?.abort()
    following = undefined
    channel?.close()
    channel = undefined
  }

  /** Follows the stream, and opens it again when it breaks. What it cannot say, the backend is asked. */
  async function listen(signal: AbortSignal): Promise<void> {
    for (let failures = 0; !signal.aborted; failures++) {
      const opened = world.now()
      let spoke = false
      for await (const document of followSession(world, events, signal)) {
        if (signal.aborted) return
        spoke ||= document !== undefined
        const said = document ?? belief.session
        if (spoke && said) hear(said, 'push')
      }
      if (!spoke) await check()
      // A stream that is cut off again and again (by a proxy, say) must not be opened in a tight loop.
      if (world.now() - opened > LARGEST_PAUSE) failures = 0
      nap = new AbortController()
      const bound = Math.min(FIRST_PAUSE * 2 ** failures, LARGEST_PAUSE)
      await pause(world, world.random() * bound, AbortSignal.any([signal, nap.signal]))
    }
  }

  async function poll(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await pause(world, checkInterval * 1000, signal)
      await check()
    }
  }

  /** The OP iframe says `changed`: one tab at a time has the OP asked, then the backend knows (Session §3.1). */
  function findOut(signal: AbortSignal): Promise<void> {
    const doubted = belief.session?.session_state
    return takeTurns(world, `${name}:check`, signal, async () => {
      await check('iframe')
      if (belief.session?.session_state !== doubted) return // another tab has found out
      await checkSilently(signal)
      await check('iframe')
    })
  }

  function wake(): void {
    if (belief.state === 'none') return
    nap.abort()
    void check()
  }

  function rest(): void {
    presence.abort()
    unfollow()
  }

  function resume(): void {
    if (!presence.signal.aborted || life.signal.aborted) return
    presence = new AbortController()
    void check()
  }

  function stop(): void {
    life.abort()
    rest()
  }
}
