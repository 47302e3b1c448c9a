import { hour } from '../../runtime/milliseconds.ts'

/** How many attempts something gets, whoever makes them: an RP's URI, an origin, an address. */
export interface AttemptBudget {
  readonly name: string
  /** Attempts in any one hour; half of them may be made at once, and those come back one by one. */
  readonly perHour: number
}

/**
 * Takes one attempt out of a budget that is taken up to the time `takenUntil` (epoch milliseconds; absent while untouched).
 *
 * Each attempt moves that time on by one interval, and it must not lie further ahead than half the budget reaches: one
 * number is all there is to keep, and no hour, wherever it begins, has more attempts than the budget.
 *
 * @returns `takenUntil` after it, or `retryAt`, the time from which the budget has one again.
 */
export function takeFrom(
  { perHour }: AttemptBudget,
  takenUntil: number | undefined,
  now: number,
): { readonly takenUntil: number } | { readonly retryAt: number } {
  const atOnce = Math.ceil(perHour / 2)
  const interval = Math.ceil(hour / (perHour - atOnce + 1))
  const from = Math.max(takenUntil ?? now, now)
  const retryAt = from - (atOnce - 1) * interval
  return retryAt > now ? { retryAt } : { takenUntil: from + interval }
}
