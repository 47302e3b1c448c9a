import type { SessionDocument } from '../protocol/session-document.ts'
import { type AliveDocument, type Belief, decide } from './decide.ts'
import { limiter } from './limiter.ts'
import { opIframeWatcher } from './op-iframe-source.ts'
import type { HeardBy, SessionWatch, Told } from './session-events.ts'
import { takeTurns } from './tabs.ts'
import { PATIENCE, pause } from './wait.ts'
import type { BrowserWorld, Channel } from './world.ts'

/** Who can say how the RP session of a page is: its backend, or the OP where there is none. */
export interface SessionAuthority {
  /** What the tabs that share the RP session have in common, and no other page of the origin. */
  readonly group: string
  /** The End-User that the page was rendered for; empty when it did not say. */
  readonly sub: string
  /** Says how the RP session is; `undefined` when that is not known. `current` tells what this tab last heard. */
  ask(current: () => AliveDocument | undefined, signal: AbortSignal): Promise<SessionDocument | undefined>
  /** Has the OP asked what a `changed` was about; the next `ask` knows. */
  confirm(signal: AbortSignal): Promise<void>
  /** What one tab does for all of them until the signal aborts: listen to what is pushed, say. */
  lead(tab: LeadingTab, signal: AbortSignal): Promise<unknown>
}

/** The tab that leads, as its authority uses it. */
export interface LeadingTab {
  hear(document: SessionDocument, heardBy: HeardBy): void
  check(): Promise<void>
  current(): AliveDocument | undefined
  /** Waits that long, or until the network is back or the tab is looked at. */
  nap(ms: number, signal: AbortSignal): Promise<void>
}

/**
 * Watches an RP session, in all tabs that share it, as the authority describes it; the OP iframe is a reason to ask.
 * `tell` never runs before this has returned.
 */
export function watchSession(
  authority: SessionAuthority,
  world: BrowserWorld,
  tell: (told: Told) => void,
): SessionWatch {
  const { group, sub } = authority
  const watchOpIframe = opIframeWatcher(world)
  const mayFindOut = limiter(world)

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

  const current = () => belief.session
  const tab: LeadingTab = {
    hear,
    check,
    current,
    nap(ms, signal) {
      nap = new AbortController()
      return pause(world, ms, AbortSignal.any([signal, nap.signal]))
    },
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
  return { state: () => belief.state, check, stop }

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
    let document = await authority.ask(current, signal)
    if (document?.state === 'none' && (sub || current())) {
      // A login in another tab replaces an RP session a moment before the browser has the new cookie.
      await pause(world, PATIENCE, signal)
      document = await authority.ask(current, signal)
    }
    if (!signal.aborted) hear(document, heardBy)
  }

  function hear(document: SessionDocument | undefined, heardBy: HeardBy, overheard = false): void {
    const before = current()?.session
    const decision = decide(belief, document, world.now(), sub)
    belief = decision.belief
    if (!overheard) {
      said = { document, heardBy }
      channel?.postMessage(said)
    }
    if (belief.state === 'ended') stop()
    // The stream belongs to the RP session it was opened for.
    if (belief.state === 'none' || (before && before !== current()?.session)) unfollow()
    if (belief.state !== 'none') follow()
    for (const telling of decision.tell) tell({ ...telling, heardBy, heardAt: world.now() })
  }

  /**
   * Takes what another tab heard if it is about the same RP session; else it is a reason to ask. A tab that has just come
   * says nothing: the one that listens then says again what it was told.
   */
  function overhear(event: Event): void {
    const { document, heardBy } = (event as MessageEvent<{ document?: SessionDocument; heardBy?: HeardBy }>).data
    const same = !document || (document.state !== 'none' && document.session === current()?.session)
    if (!heardBy) {
      if (said?.heardBy === 'push') channel!.postMessage(said)
    } else if (same) hear(document, heardBy, true)
    else void check(heardBy)
  }

  function follow(): void {
    if (following || presence.signal.aborted) return
    following = new AbortController()
    const { signal } = following
    channel = world.arbiter && world.openChannel(group)
    channel?.addEventListener('message', overhear, { signal })
    channel?.postMessage({})
    void takeTurns(world, group, signal, (turn) => authority.lead(tab, turn))
    void watchOpIframe(current, findOut, signal)
  }

  function unfollow(): void {
    following?.abort()
    following = undefined
    channel?.close()
    channel = undefined
  }

  /**
   * One tab at a time has the OP asked by prompt=none, then the authority knows (Session §3.1). Who has done so too often
   * waits before it is its turn: in its turn it would keep all others from asking.
   */
  async function findOut(signal: AbortSignal): Promise<void> {
    const known = () => `${current()?.session_state} ${current()?.silent_check}`
    const before = known()
    await mayFindOut(signal)
    await takeTurns(world, `${group}:check`, signal, async (turn) => {
      await check('iframe')
      if (known() !== before) return // another tab has found out
      await authority.confirm(turn)
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
    if (!presence.signal.aborted) return
    presence = new AbortController()
    void check()
  }

  function stop(): void {
    rest()
    life.abort()
  }
}
