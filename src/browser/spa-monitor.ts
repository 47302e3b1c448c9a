import type { AliveDocument } from './decide.ts'
import { type SessionMonitor, sessionMonitor } from './session-events.ts'
import { pause } from './wait.ts'
import { type LeadingTab, type SessionAuthority, watchSession } from './watch-session.ts'
import { type BrowserWorld, browserWorld } from './world.ts'

/** Milliseconds before an OP that could not be asked is tried again; they double from one to the other. */
const FIRST_PAUSE = 2_000
const LARGEST_PAUSE = 300_000

/** Milliseconds that the word of another tab may take. */
const HEARSAY = 100

/** Who the OP says is signed in, as a silent check found it. */
export interface SilentAnswer {
  readonly sub: string
  /** `session_state` of the Authentication Response. */
  readonly sessionState?: string | undefined
}

/** Options of {@link startSpaMonitor}: what a page knows that got its tokens itself. */
export interface SpaMonitorOptions {
  readonly clientId: string
  /** `sub` of the ID Token. */
  readonly sub: string
  /** `session_state` of the Authentication Response. Without it there is no OP iframe to ask. */
  readonly sessionState?: string | undefined
  /** `check_session_iframe` of the OP's metadata. Without it there is no OP iframe to ask. */
  readonly checkSessionIframe?: string | undefined
  /**
   * Asks the OP by prompt=none who is signed in. Resolves to `undefined` when the OP answers `login_required` and
   * rejects when it does not answer or says anything else. {@link promptNone} makes one; so does every OIDC library.
   */
  readonly silentCheck: (signal: AbortSignal) => Promise<SilentAnswer | undefined>
  /**
   * Whether a silent check has just succeeded on this very page, so that the monitor need not try it. Default false:
   * it makes one when it starts, unless one has succeeded on another page of this login.
   */
  readonly proved?: boolean
  /**
   * Remembers the `session_state` of the login in which a silent check has succeeded. Default: `localStorage`. Where
   * there is none, each page tries it.
   */
  readonly storage?: Pick<Storage, 'getItem' | 'setItem'>
}

/** A monitor of a page that has no backend. */
export interface SpaMonitor extends SessionMonitor {
  /**
   * True when this browser withholds the OP's cookies from frames, or while that is not known, and where there is no OP
   * iframe to ask: then nothing can tell this page of a logout but a look at the OP at a moment of the End-User's choosing
   * ({@link checkByRedirect}).
   */
  readonly blind: boolean
}

/**
 * Watches the login at the OP for a page that holds its tokens itself and has no backend to ask.
 *
 * The OP iframe says that something has changed; prompt=none then finds out what. Its `login_required` signs out only
 * after a silent check has succeeded in this login: a browser that withholds the OP's cookies makes the OP say the same
 * of somebody who is signed in. Where that is so the monitor is `blind`, asks nothing and ends nothing.
 *
 * @example
 * ```ts
 * import { promptNone, startSpaMonitor } from 'lockstep/browser'
 *
 * const monitor = startSpaMonitor({
 *   clientId,
 *   sub: idTokenClaims.sub,
 *   sessionState: authenticationResponse.session_state,
 *   checkSessionIframe: metadata.check_session_iframe,
 *   silentCheck: promptNone({ metadata, clientId, redirectUri: '/silent.html' }),
 * })
 * monitor.addEventListener('ended', () => forgetTokens())
 * ```
 */
export function startSpaMonitor(options: SpaMonitorOptions, world: BrowserWorld = browserWorld()): SpaMonitor {
  const { clientId, sub, sessionState, checkSessionIframe, silentCheck, proved = false, storage } = options
  for (const [name, value] of Object.entries({ clientId, sub })) {
    if (typeof value !== 'string' || value === '') throw new TypeError(`${name} must be a non-empty string`)
  }
  if (typeof silentCheck !== 'function') throw new TypeError('silentCheck must be a function')
  const url = checkSessionIframe === undefined ? undefined : new URL(checkSessionIframe, world.document.baseURI).href

  const group = `lockstep:${clientId} ${url} ${sub}`
  const memory = rememberProof(group, sessionState, storage)
  let op: 'untried' | 'proved' | 'refuses' = proved || memory.isProved() ? 'proved' : 'untried'
  /** The `session_state` that was heard last: an OP need not repeat it for the same login. */
  let knownState = sessionState
  /** What the last silent check found that this tab has not told yet; `lost` when the OP could not be asked. */
  let found: SilentAnswer | 'nobody' | 'lost' | undefined = { sub, sessionState }

  const authority: SessionAuthority = {
    group,
    sub,
    async ask(current, signal) {
      if (op === 'untried') await find(signal)
      // Another tab may have found out and said it; its word may come later than the lock that it has given back.
      if (!found) await pause(world, HEARSAY, signal)
      if (found === 'nobody') {
        return { state: 'ended', session: sub, ended: { cause: 'silent_check', at: Math.floor(world.now() / 1000) } }
      }
      const heard = found === 'lost' ? undefined : found ? describe(found) : current()
      found = undefined
      return heard
    },
    confirm: find,
    lead: prove,
  }
  const monitor = sessionMonitor((tell) => watchSession(authority, world, tell))
  return Object.defineProperty(monitor, 'blind', { get: () => op !== 'proved' || !authority.sees }) as SpaMonitor

  /** Tries again and again, ever more rarely, as long as the OP could not be asked at all. */
  async function prove(tab: LeadingTab, signal: AbortSignal): Promise<void> {
    for (let ms = FIRST_PAUSE; op === 'untried' && !signal.aborted; ms = Math.min(ms * 2, LARGEST_PAUSE)) {
      await tab.nap(ms * (0.5 + world.random() / 2), signal)
      await tab.check()
    }
  }

  async function find(signal: AbortSignal): Promise<void> {
    try {
      const answer = await silentCheck(signal)
      if (answer) {
        op = 'proved'
        memory.prove()
      } else if (op === 'untried') op = 'refuses'
      if (answer?.sessionState || (answer && answer.sub !== sub)) knownState = answer.sessionState
      // Whoever refuses from the start says nothing about this login.
      found = answer ?? (op === 'proved' ? 'nobody' : { sub })
    } catch {
      found = 'lost'
    }
  }

  function describe(who: SilentAnswer): AliveDocument {
    const document = {
      state: 'alive',
      session: who.sub,
      sub: who.sub,
      client_id: clientId,
      expires_at: Infinity,
    } as const
    // What could not be confirmed need not be watched.
    if (op !== 'proved' || !url || !knownState) return document
    return { ...document, session_state: knownState, check_session_iframe: url, silent_check: 'works' }
  }
}

/** Remembers in which login silent checks work, since this page may be followed by another. */
function rememberProof(key: string, login: string | undefined, storage?: SpaMonitorOptions['storage']) {
  return {
    isProved(): boolean {
      try {
        return login !== undefined && (storage ?? localStorage).getItem(key) === login
      } catch {
        return false // no storage
      }
    },
    prove(): void {
      try {
        if (login !== undefined) (storage ?? localStorage).setItem(key, login)
      } catch {
        // no storage, or it is full: the next page tries it itself
      }
    },
  }
}
