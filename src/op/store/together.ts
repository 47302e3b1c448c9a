import { setImmediate } from 'node:timers/promises'

/**
 * Does for many at once what is asked for one by one in the same turn of the event loop: a hundred answers that came
 * together are one transaction and not a hundred. What `work` throws, all of them are told.
 */
export function together<Item, Result>(
  work: (items: readonly Item[]) => readonly Result[],
): (item: Item) => Promise<Result> {
  let waiting: { items: Item[]; results: Promise<readonly Result[]> } | undefined
  return async (item) => {
    if (!waiting) {
      const items: Item[] = []
      const results = setImmediate().then(() => {
        waiting = undefined
        return work(items)
      })
      waiting = { items, results }
    }
    const place = waiting.items.push(item) - 1
    return (await waiting.results)[place] as Result
  }
}
