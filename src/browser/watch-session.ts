import type { SessionDocument } from '../protocol/session-document.ts'
import { type AliveDocument, type Belief, decide } from './decide.ts'
import { limiter, type Tries } from './limiter.ts'
import { opIframeWatcher } from './op-iframe-source.ts'
import type { HeardBy, SessionWatch, Told } from './session-events.ts'
import { takeTurns } from './tabs.ts'
import { LARGEST_PAUSE, PATIENCE, pause } from './wait.ts'
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
  /** Whether the OP iframe has worked when it was last asked; absent before. The watch notes it here. */
  sees?: unknown
  /** What one tab does for all of them until the signal aborts: listen to what is pushed, say. */
  lead(tab: LeadingTab, signal: AbortSignal): Promise<void>
}

/** The tab that leads, as its authority uses it. */
export interface LeadingTab {
  hear(document: SessionDocument, heardBy: HeardBy): void
  check(): Promise<void>
  current(): AliveDocument | undefined
  /** Waits that long, or until the network is back or the tab is looked at. */
  nap(ms: number, signal: AbortSignal): Promise<void>
}

/** What a tab tells the others. */
interface Said {
  readonly document: SessionDocument | undefined
  readonly heardBy: HeardBy
  readonly tries: Tries
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
  const watchOpIframe = opIframeWatcher(world, authority)

  const life = new AbortController()
  /** Aborts when the RP session is another, and while the page rests in the back/forward cache or is frozen. */
  let presence = new AbortController()
  let channel: Channel | undefined
  /** What this tab heard last, of itself or of another; the others are told of it. */
  let said: Pick<Said, 'document' | 'heardBy'> | undefined
  /** Ends all naps. */
  let alarm = new AbortController()
  let tries: Tries = []
  /** Whether this tab leads the others; undefined while it does not follow the RP session. */
  let leads: boolean | undefined
  let belief: Belief = { state: 'unknown' }
  let asked = Promise.resolve()
  let nextCheck: Promise<void> | undefined
  /** How often the RP session has become another one. */
  let renamed = 0

  const current = () => belief.session
  const nap = (ms: number, signal: AbortSignal) => pause(world, ms, signal, alarm.signal, 'abort')
  const mayFindOut = limiter(world, () => tries, nap)

  const on = (target: EventTarget, type: string, listener: (event: Event) => unknown) =>
    target.addEventListener(type, listener, life)
  on(world.window, 'online', () => {
    // Nobody could answer them.
    tries = []
    wake()
  })
  on(world.document, 'visibilitychange', () => {
    if (!world.document.hidden) wake()
    // Tabs that cannot take turns rest while they are hidden.
    else if (!world.arbiter) rest()
  })
  on(world.window, 'pagehide', rest)
  on(world.document, 'freeze', rest)
  // Also said of a page that was just loaded.
  on(world.window, 'pageshow', () => presence.signal.aborted && wake())
  on(world.document, 'resume', wake)
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
    said = { document, heardBy }
    if (!overheard) share()
    if (belief.state === 'ended') stop()
    // The stream belongs to the RP session it was opened for.
    else if (belief.state === 'none') renew()
    else if (before && before !== current()?.session) {
      renew()
      void follow(renamed++)
    } else void follow()
    for (const telling of decision.tell) tell({ ...telling, heardBy, heardAt: world.now() })
  }

  /** Tells the other tabs what this one has heard last, and when the OP was asked. */
  function share(): void {
    channel?.postMessage({ ...said, tries })
  }

  /**
   * Takes what another tab heard if it is about the same RP session; else it is a reason to ask. A tab that has just come
   * says nothing: the one that leads then says again what it was told.
   */
  function overhear(event: Event): void {
    const { document, heardBy, tries: theirs } = (event as MessageEvent<Partial<Said>>).data
    const same = !document || (document.state !== 'none' && document.session === current()?.session)
    // A tab that has come later may not have heard of them all.
    if (theirs && theirs.length >= tries.length) tries = theirs
    if (!heardBy) {
      if (leads) share()
    } else if (same) hear(document, heardBy, true)
    else void check(heardBy)
  }

  /** Takes part in what the tabs do together. */
  async function follow(earlierNames?: number): Promise<void> {
    const { signal } = presence
    if (leads !== undefined) return
    leads = false
    // A backend that names its RP session anew at each request must not be asked in a tight loop.
    if (earlierNames) await nap(LARGEST_PAUSE, signal)
    if (signal.aborted) return
    channel = world.arbiter && world.openChannel(group)
    channel?.addEventListener('message', overhear)
    channel?.postMessage({})
    void takeTurns(world, group, signal, () => {
      leads = true
      return authority.lead({ hear, check, current, nap }, signal)
    })
    void watchOpIframe(current, findOut, signal)
  }

  /**
   * One tab at a time has the OP asked by prompt=none, then the authority knows (Session §3.1). Who has done so too often
   * waits before it is its turn: in its turn it would keep all others from asking. What has not `changed` is looked into
   * once in an RP session.
   */
  async function findOut(changed: boolean, signal: AbortSignal): Promise<void> {
    if (!changed && tries.some(([session]) => session === current()?.session)) return
    const known = () => [current()?.session_state, tries]
    const before = known()
    await mayFindOut(signal)
    before[1] = tries
    await takeTurns(world, `${group}:check`, signal, async () => {
      await check('iframe')
      if (`${known()}` !== `${before}`) return // another tab has found out, or has tried
      tries = [[current()?.session, world.now()], ...tries.slice(0, 2)]
      share()
      await authority.confirm(signal)
      await check('iframe')
    })
  }

  function wake(): void {
    if (presence.signal.aborted) renew()
    else if (belief.state === 'none') return
    alarm.abort()
    alarm = new AbortController()
    void check()
  }

  function rest(): void {
    presence.abort()
    leads = undefined
    channel?.close()
    channel = undefined
  }

  function renew(): void {
    rest()
    presence = new AbortController()
  }

  function stop(): void {
    rest()
    life.abort()
  }
}
