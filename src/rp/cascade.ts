import type { SessionEnd } from '../protocol/session-document.ts'
import { pause } from '../runtime/alarm.ts'
import type { ResolvedAppOptions } from './options.ts'
import { type Payer, startPaying } from './pay-owed.ts'
import type { RpSessionStore } from './store/contract.ts'

/** A logout at this app's OP, for an app that is an OP itself: what stems from it there must end too. */
export interface UpstreamLogout {
  /** The issuer that ended the session. */
  readonly iss: string
  /** What it named: with a `sid` that one session, with only a `sub` all sessions of that End-User. */
  readonly sid?: string
  readonly sub?: string
  /** Epoch seconds of the logout. With only a `sub`, logins that are younger are not meant. */
  readonly at: number
  readonly cause: SessionEnd['cause']
}

/** Tells the app's own OP side what to end, as its options say. */
export type EndDownstream = (logout: UpstreamLogout) => void | Promise<void>

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
        try {
          const limit = pause(options.runtime, PATIENCE, AbortSignal.any([over.signal, stopped])).then(() => {
            if (!over.signal.aborted) throw new Error('endDownstream has not settled in time')
          })
          await Promise.race([endDownstream(JSON.parse(debt) as UpstreamLogout), limit]) // written by noteOf
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

/** A logout as it is owed; `undefined` where nothing is downstream. */
export function noteOf(
  options: { readonly issuer: string; readonly endDownstream: EndDownstream | undefined },
  logout: Omit<UpstreamLogout, 'iss'>,
): string | undefined {
  return options.endDownstream && JSON.stringify({ iss: options.issuer, ...logout } satisfies UpstreamLogout)
}
