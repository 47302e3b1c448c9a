import { alarm } from '../runtime/alarm.ts'
import { chance } from '../runtime/runtime.ts'
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
  /**
   * Tries once, for at most half a minute: `undefined` when it is paid or pointless, else what went wrong. The signal says
   * that the app stops.
   */
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

/** Milliseconds for which one process has a debt in its hands: longer than {@link Debt.pay} may take. */
const LEASE = 60_000
/** How many debts of a kind one process has in its hands: one that hangs must not hold up the others. */
const AT_ONCE = 10
/** Milliseconds after which a process looks, on average, although nobody woke it: another may have died owing. */
const LOOK = 60_000
const FIRST_RETRY = 1_000
const LONGEST_RETRY = 15 * 60_000
/** A week: then nobody is helped any more. */
const HORIZON = 7 * 86_400_000
/** How long to leave a store alone that has just failed. */
const STORE_PAUSE = 30_000

/**
 * Starts at once, since a crash may have left something owed. Then it rests until something is due or it is woken, and
 * looks about once a minute for what a process that is gone has left in the store.
 */
export function startPaying({ store, options: { runtime, log } }: Parts, debt: Debt): Payer {
  const { kind } = debt
  const stopped = new AbortController()
  const bell = alarm(runtime)
  const inHand = new Set<Promise<void>>()
  const running = run()

  async function run(): Promise<void> {
    while (!stopped.signal.aborted) {
      let pause: number
      try {
        const free = AT_ONCE - inHand.size
        if (free > 0) {
          for (const owed of await store.claimOwed({ kind, limit: free, lease: LEASE })) take(owed)
        }
        const isFull = inHand.size === AT_ONCE // then the next that is paid rings
        pause = isFull ? LOOK : ((await store.nextOwedAt(kind)) ?? Number.POSITIVE_INFINITY) - runtime.now()
      } catch (error) {
        report(error)
        pause = STORE_PAUSE
      }
      if (pause > 0) await bell.sleep(Math.min(pause, LOOK * (0.5 + chance(runtime))), stopped.signal)
    }
    await Promise.all(inHand)
  }

  function take(owed: Owed): void {
    const paying = payOne(owed)
      .catch(report)
      .finally(() => {
        inHand.delete(paying)
        bell.ring()
      })
    inHand.add(paying)
  }

  function report(error: unknown): void {
    if (!stopped.signal.aborted) log({ event: 'internal_error', route: debt.route, message: messageOf(error) })
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
    await store.settleOwed(owed.id, { retryAt: now + FIRST_RETRY + Math.floor(chance(runtime) * ceiling) }, kind)
  }

  return {
    wake: bell.ring,
    async stop() {
      stopped.abort()
      await running
    },
  }
}
