import type { ReceiptApp } from './receipts.ts'

/**
 * What a browser is told of its logouts: each app once, by name. An app that was told of two RP sessions of one browser is
 * described by the worse of the two outcomes, so that no more is claimed than is known of both.
 */
export function oneLinePerApp(apps: readonly ReceiptApp[]): readonly ReceiptApp[] {
  const lines = new Map<string, ReceiptApp>()
  for (const each of apps) {
    const other = lines.get(each.clientId)
    lines.set(each.clientId, other ? together(other, each) : each)
  }
  return [...lines.values()].sort((a, b) => a.app.localeCompare(b.app))
}

function together(one: ReceiptApp, other: ReceiptApp): ReceiptApp {
  const worse = badness(one) >= badness(other) ? one : other
  const counts = [one.sessionsEnded, other.sessionsEnded].filter((count) => count !== undefined)
  return { ...worse, ...(counts.length > 0 && { sessionsEnded: counts.reduce((sum, count) => sum + count, 0) }) }
}

/** What will not get better any more is worst; of what is still open, what has failed before. */
function badness({ state, attempts, flag }: ReceiptApp): number {
  const order = ['delivered', 'unusual_answer', 'ended_nothing', 'unknown', 'in-flight', 'due', 'refused', 'dead']
  const rank = order.indexOf(state === 'delivered' ? (flag ?? state) : state)
  return state === 'due' && attempts > 0 ? rank + 0.5 : rank
}
