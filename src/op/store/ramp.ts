/** A row that waits, as the stores find them: those of an RP in the order in which they come due. */
export interface Waiting {
  readonly client_id: string
  readonly due_at: number
  readonly seq: number
}

/** A row that comes sooner. */
export interface Sooner {
  readonly seq: number
  readonly dueAt: number
}

/** Rows that are looked at in one step: a few milliseconds in which nobody else gets to write. */
export const rowsInStep = 1000

/**
 * Brings rows that waited forward from `now` (epoch milliseconds) on, each RP's by themselves: 1 in the first second, then 2, 4,
 * 8, ... up to `perSecond` a second. An RP that is back, with cold caches and perhaps only just able to stand, is not knocked
 * over by what it missed. What is due already stays as it is, and is not walked through: a backlog may be a million rows.
 *
 * @returns the row behind which the first step begins, and a function that takes the rows of a step, those of one RP together, and
 *   answers which of them come sooner and where the next step begins, if there is one.
 */
export function ramp(
  whose: { readonly clientId: string } | 'all',
  now: number,
  perSecond: number,
): {
  readonly first: Waiting
  bringForward(rows: readonly Waiting[]): { sooner: Sooner[]; next: Waiting | undefined }
} {
  const after = millisecondsTo(perSecond)
  let last = ''
  let turn = 0
  const waitingOf = (client_id: string): Waiting => ({ client_id, due_at: now, seq: Number.MAX_SAFE_INTEGER })
  return {
    first: whose === 'all' ? { client_id: '', due_at: -1, seq: -1 } : waitingOf(whose.clientId),
    bringForward(rows) {
      const sooner = rows.flatMap(({ client_id, due_at, seq }) => {
        if (due_at <= now) return []
        turn = client_id === last ? turn + 1 : 1
        last = client_id
        const dueAt = now + after(turn)
        return dueAt < due_at ? [{ seq, dueAt }] : []
      })
      const end = rows.length === rowsInStep ? rows.at(-1) : undefined
      return { sooner, next: end && end.due_at <= now ? waitingOf(end.client_id) : end }
    },
  }
}

/** Milliseconds until the `turn`th row (the first is 1) has its turn. */
function millisecondsTo(perSecond: number): (turn: number) => number {
  return (turn) => {
    // the rows of second n are 2^n, from number 2^n on, as long as those are fewer than the rate
    const seconds = Math.ceil(Math.log2(Math.max(perSecond, 1)))
    const second = Math.min(Math.floor(Math.log2(turn)), seconds)
    const from = 2 ** second
    return Math.floor(second * 1000 + ((turn - from) * 1000) / (second < seconds ? from : perSecond))
  }
}
