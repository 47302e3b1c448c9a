import type { AttemptOutcome, Delivery } from './contract.ts'

/** Rows that are looked at in one step: a few milliseconds in which nobody else gets to write. */
export const rowsToLookAt = 500

/**
 * With what outcome a row is given up whose horizon began at `begun` or before; `undefined` when it is not: too young, in
 * flight, or given up already and owed an operator's one try more.
 */
export function outcomeAtHorizon(
  row: {
    readonly state: Delivery['state']
    readonly created_at: number
    readonly scheduled_at: number | null
    readonly last_outcome: string | null
  },
  begun: number,
): AttemptOutcome | undefined {
  if (row.state !== 'due' || (row.scheduled_at ?? row.created_at) > begun) return undefined
  const last = row.last_outcome === null ? undefined : (JSON.parse(row.last_outcome) as AttemptOutcome)
  if (last === undefined) return { state: 'dead', why: 'horizon' }
  if (last.state !== 'due') return undefined
  const { state: _, retryAt: __, why, ...said } = last
  if (why === 'released' || why === 'budget') return { state: 'dead', why: 'horizon' } // these are no attempts
  return { state: 'dead', why: 'horizon', failure: { why, ...said } }
}
