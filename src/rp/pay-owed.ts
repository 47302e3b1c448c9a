import { alarm } from '../runtime/alarm.ts'
import { messageOf } from './log.ts'
import type { ResolvedAppOptions } from './options.ts'
import type { Owed, OwedKind, RpSessionStore } from './store/contract.ts'

/** Pays what ended RP sessions leave owed, until it is paid (T7). */
export interface Payer {
  /** Something new is owed. */
  wake(): void
  stop(): Promise<void>
}

/** One kind of debt, and how it is paid. */
export interface Debt {
  readonly kind: OwedKind
  /** Tries once: `undefined` when it is paid or pointless, else what went wrong. The signal says that the app stops. */
  pay(owed: Owed, signal: AbortSignal): Promise<unknown>
  /** Says that an attempt failed; called for the first, and when it is given up. */
  failed(owed: Owed, message: string, how: 'retried' | 'given up'): void
  /** Where the store's own failures are logged. */
  readonly route: string
}

interface Parts {
  readonly store: RpSessionStore
  readonly options: Pick<ResolvedAppOptions, 'runtime' | 'log'>
}

/** Milliseconds for which one process has a debt in its hands: twice as long as paying it may take. */
const LEASE = 60_000
const FIRST_RETRY = 1_000
const LONGEST_RETRY = 15 * 60_000
/** A week: then nobody is helped any more. */
const HORIZON = 7 * 86_400_000
/** How long to leave a store alone that has just failed. */
const STORE_PAUSE = 30_000
/** How long nothing is looked for at most: who wrote a debt down may be dead, and nobody else rings. */
const LONGEST_REST = 60_000

/** Starts at once, since a crash may have left something owed, and looks again each minute for what other processes left. */
export function startPaying({ store, options: { runtime, log } }: Parts, debt: Debt): Payer {
  const { kind } = debt
  const stopped = new AbortController()
  const bell = alarm(runtime)
  const running = run()

  async function run(): Promise<void> {
    while (!stopped.signal.aborted) {
      let pause: number
      try {
        // Side by side: one that hangs holds up no other, and none is begun late in its lease.
        const claimed = await store.claimOwed({ kind, limit: 10, lease: LEASE })
        const paid = await Promise.allSettled(claimed.map(payOne))
        for (const one of paid) if (one.status === 'rejected') throw one.reason
        pause = ((await store.nextOwedAt(kind)) ?? Number.POSITIVE_INFINITY) - runtime.now()
      } catch (error) {
        if (stopped.signal.aborted) return
        log({ event: 'internal_error', route: debt.route, message: messageOf(error) })
        pause = STORE_PAUSE
      }
      if (pause > 0) await bell.sleep(Math.min(pause, LONGEST_REST), stopped.signal)
    }
  }

  async function payOne(owed: Owed): Promise<void> {
    const failure = await debt.pay(owed, stopped.signal)
    if (failure === undefined) return store.settleOwed(owed.id, 'done', kind)
    const now = runtime.now()
    if (now - owed.owedSince > HORIZON) {
      debt.failed(owed, messageOf(failure), 'given up')
      return store.settleOwed(owed.id, 'done', kind)
    }
    if (owed.attempts === 1) debt.failed(owed, messageOf(failure), 'retried')
    const ceiling = Math.min(LONGEST_RETRY, FIRST_RETRY * 2 ** Math.min(owed.attempts, 20))
    const chance = new DataView(runtime.random(4).buffer).getUint32(0) / 2 ** 32
    await store.settleOwed(owed.id, { retryAt: now + FIRST_RETRY + Math.floor(chance * ceiling) }, kind)
  }

  return {
    wake: bell.ring,
    async stop() {
      stopped.abort()
      await running
    },
  }
}
