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
   * Remembers the `session_state` of each login in which a silent check has succeeded (the last 20). Default: `localStorage`. Where
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
  /** Aborts when the page goes to rest: by the time it is back, somebody may have signed in anew. */
  let foundWhile: AbortSignal | undefined

  const authority: SessionAuthority = {
    group,
    sub,
    async ask(current, signal) {
      if (foundWhile?.aborted) found = undefined
      if (op === 'untried') await find(signal)
      // Another tab may have found out and said it; its word may come later than the lock that it has given back.
      if (!found) await pause(world, HEARSAY, signal)
      // Whoever refuses from the start says nothing about this login, unless another tab has been recognised in it.
      if (found === 'nobody' && (op === 'proved' || current()?.silent_check === 'works')) {
        return { state: 'ended', session: sub, ended: { cause: 'silent_check', at: Math.floor(world.now() / 1000) } }
      }
      const news = found
      found = undefined
      if (news === 'lost') return undefined
      if (news) return describe(news === 'nobody' ? { sub } : news)
      return knowsMore(current()) ? describe({ sub }) : current()
    },
    confirm: find,
    lead: prove,
  }
  const monitor = sessionMonitor((tell) => {
    const watch = watchSession(authority, world, (told) => {
      if (told.type === 'alive' && knowsMore(told.session)) void watch.check()
      tell(told)
    })
    return watch
  })
  return Object.defineProperty(monitor, 'blind', { get: () => op !== 'proved' || !authority.sees }) as SpaMonitor

  /** Whether a tab that was refused has told this one, which was recognised, of nothing to watch. */
  function knowsMore(heard: AliveDocument | undefined): boolean {
    return heard !== undefined && !heard.session_state && describe({ sub }).session_state !== undefined
  }

  /** Tries again and again, ever more rarely, as long as the OP could not be asked at all. */
  async function prove(tab: LeadingTab, signal: AbortSignal): Promise<void> {
    for (let ms = FIRST_PAUSE; op === 'untried' && !signal.aborted; ms = Math.min(ms * 2, LARGEST_PAUSE)) {
      await tab.nap(ms * (0.5 + world.random() / 2), signal)
      await tab.check()
    }
  }

  async function find(signal: AbortSignal): Promise<void> {
    let answer: typeof found
    try {
      answer = (await silentCheck(signal)) ?? 'nobody'
    } catch {
      answer = 'lost'
    }
    // Not every OIDC library can be told to stop.
    if (signal.aborted) return
    found = answer
    foundWhile = signal
    if (answer === 'lost') return
    if (answer === 'nobody') {
      if (op === 'untried') op = 'refuses'
      return
    }
    op = 'proved'
    memory.prove()
    if (answer.sessionState || answer.sub !== sub) knownState = answer.sessionState
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

/** How many logins of an End-User are remembered: tabs that signed in by themselves have each a `session_state` of their own. */
const LOGINS = 20

/** Remembers in which logins silent checks work, since this page may be followed by another. */
function rememberProof(key: string, login: string | undefined, storage?: SpaMonitorOptions['storage']) {
  // A session_state holds no space (Session §2).
  const proved = () => (storage ?? localStorage).getItem(key)?.split(' ') ?? []
  return {
    isProved(): boolean {
      try {
        return login !== undefined && proved().includes(login)
      } catch {
        return false // no storage
      }
    },
    prove(): void {
      try {
        if (login === undefined) return
        const others = proved().filter((other) => other !== login)
        ;(storage ?? localStorage).setItem(key, [login, ...others].slice(0, LOGINS).join(' '))
      } catch {
        // no storage, or it is full: the next page tries it itself
      }
    },
  }
}
