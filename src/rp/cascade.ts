import type { SessionEnd } from '../protocol/session-document.ts'
import { pause } from '../runtime/alarm.ts'
import type { ResolvedAppOptions } from './options.ts'
import { type Payer, startPaying } from './pay-owed.ts'
import type { RpSessionStore } from './store/contract.ts'

/**
 * A logout at this app's OP, for an app that is an OP itself: what stems from it there must end too. That is what stems from
 * an RP session in `rpSessions`, and what stems from a login that `sid`, `sub` and `notAfter` name and whose RP session is
 * not alive any more. An RP session that is still alive was not meant.
 */
export interface UpstreamLogout {
  /** The issuer that ended the session. */
  readonly iss: string
  /** What the OP named: with a `sid` that one session, with only a `sub` all sessions of that End-User. */
  readonly sid?: string
  readonly sub?: string
  /** Epoch seconds: a login whose first ID Token (`RpSession.firstIat`) is younger is not meant. Absent where its age does not matter. */
  readonly notAfter?: number
  /** `RpSession.id` of each RP session that ended with it, or had expired. Others may have ended before. */
  readonly rpSessions: readonly string[]
  /** Epoch seconds of the logout. */
  readonly at: number
  readonly cause: SessionEnd['cause']
}

/**
 * Tells the app's own OP side what to end, as its options say. The signal aborts when the call has had its half a minute or
 * the app stops: what is not done by then is asked for again.
 */
export type EndDownstream = (logout: UpstreamLogout, call: { readonly signal: AbortSignal }) => void | Promise<void>

interface Parts {
  readonly store: RpSessionStore
  readonly options: Pick<ResolvedAppOptions, 'runtime' | 'log'>
  readonly endDownstream: EndDownstream
}

/** Milliseconds that one call may take, as `Debt.pay` promises. */
const PATIENCE = 30_000

/**
 * Ends downstream what ended upstream (Back-Channel §2.7): calls the hook until it resolves, for each logout that was
 * recorded. The debt was written down in the step that ended the RP session, so that a crash loses nothing (T7).
 */
export function startCascade({ store, options, endDownstream }: Parts): Payer {
  return startPaying(
    { store, options },
    {
      kind: 'downstream',
      route: 'cascade',
      async pay({ debt }, stopped) {
        const over = new AbortController()
        const deadline = new AbortController()
        const signal = AbortSignal.any([deadline.signal, stopped])
        try {
          const limit = pause(options.runtime, PATIENCE, AbortSignal.any([over.signal, stopped])).then(() => {
            if (over.signal.aborted) return
            const late = new Error('endDownstream has not settled in time')
            deadline.abort(late)
            throw late
          })
          await Promise.race([endDownstream(logoutOf(debt), { signal }), limit])
          return undefined
        } catch (error) {
          return error ?? new Error('endDownstream was rejected without a reason')
        } finally {
          over.abort()
        }
      },
      failed({ attempts }, message, how) {
        options.log({ event: how === 'retried' ? 'cascade_failed' : 'cascade_given_up', attempts, message })
      },
    },
  )
}

/** A logout as it is owed; `undefined` where nothing is downstream. The store adds the RP sessions that ended with it. */
export function noteOf(
  options: { readonly issuer: string; readonly endDownstream: EndDownstream | undefined },
  logout: Omit<UpstreamLogout, 'iss' | 'rpSessions'>,
): string | undefined {
  return options.endDownstream && JSON.stringify({ iss: options.issuer, ...logout })
}

function logoutOf(debt: string): UpstreamLogout {
  const [note = '', ...rpSessions] = debt.split('\n') // JSON has none
  return { ...(JSON.parse(note) as Omit<UpstreamLogout, 'rpSessions'>), rpSessions }
}
