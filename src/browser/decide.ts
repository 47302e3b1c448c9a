import type { SessionDocument, SessionEnd } from '../protocol/session-document.ts'

/** A live RP session as its backend describes it. */
export type AliveDocument = Extract<SessionDocument, { state: 'alive' }>

/**
 * What a tab believes: `unknown` until the app's backend has answered and whenever it does not, `none` on a page that
 * nobody is signed in to, `ended` for good.
 */
export type Belief =
  | { readonly state: 'unknown' | 'alive'; readonly session?: AliveDocument | undefined }
  | { readonly state: 'none' | 'ended'; readonly session?: undefined }

/** What a tab tells its page, by the name of the event. */
export type Telling =
  | { readonly type: 'alive'; readonly session: AliveDocument }
  | { readonly type: 'unknown' }
  | { readonly type: 'userswitched'; readonly sub: string | undefined }
  | { readonly type: 'ended'; readonly session: string; readonly ended: SessionEnd }

/** What a tab believes after it has heard something, and what it tells the page. */
export interface Decision {
  readonly belief: Belief
  readonly tell: readonly Telling[]
}

/**
 * Decides what a tab believes once its backend has said something, or (`undefined`) has failed to.
 *
 * Only the backend can end a session: silence, an error and whatever an iframe says make it `unknown` at worst.
 * `ended` is final, so a page is told at most once.
 *
 * @param now Epoch milliseconds.
 * @param signedIn The `sub` that the page was rendered for; empty when it did not say.
 */
export function decide(belief: Belief, heard: SessionDocument | undefined, now: number, signedIn = ''): Decision {
  const { state, session } = belief
  const sub = session?.sub ?? signedIn
  const at = Math.floor(now / 1000)

  if (state !== 'ended' && heard?.state === 'alive') {
    if (sub && sub !== heard.sub) return end({ cause: 'user_switched', at }, session, heard.sub)
    // The same End-User with another RP session has signed in once more in another tab: nobody left.
    return { belief: { state: 'alive', session: heard }, tell: [{ type: 'alive', session: heard }] }
  }

  // A page that nobody is signed in to has nothing to lose.
  if (state === 'ended' || state === 'none') return { belief, tell: [] }

  if (!heard) return { belief: { state: 'unknown', session }, tell: [{ type: 'unknown' }] }

  // Also on a page that never heard `alive`: it may have been rendered just before the logout.
  if (heard.state === 'ended') return end(heard.ended, session ?? heard)

  // No RP session at all: the cookie of the one this page had has expired or was removed.
  return sub ? end({ cause: 'expired', at }, session) : { belief: { state: 'none' }, tell: [] }
}

function end(ended: SessionEnd, known?: { readonly session: string }, sub?: string): Decision {
  const told = { type: 'ended', session: known?.session ?? '', ended } as const
  return {
    belief: { state: 'ended' },
    tell: ended.cause === 'user_switched' ? [{ type: 'userswitched', sub }, told] : [told],
  }
}
