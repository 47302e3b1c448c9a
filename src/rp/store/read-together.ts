import { setImmediate } from 'node:timers/promises'

/** Reads that came in one turn of the event loop. */
interface Batch<Row> {
  readonly handles: Set<string>
  readonly rows: Promise<ReadonlyMap<string, Row>>
}

/**
 * Makes one query of what is asked for in the same turn of the event loop: when hints may have been lost, thousands of tabs
 * ask at once, and the round trips would take the time. Whoever asks is answered by a query that was sent after that.
 *
 * @param most Handles in one query.
 */
export function readTogether<Row>(
  readAll: (handles: readonly string[]) => Promise<ReadonlyMap<string, Row>>,
  most: number,
): (handle: string) => Promise<Row | undefined> {
  let open: Batch<Row> | undefined

  function begin(): Batch<Row> {
    const handles = new Set<string>()
    const batch: Batch<Row> = {
      handles,
      rows: setImmediate().then(() => {
        if (open === batch) open = undefined
        return readAll([...handles])
      }),
    }
    return batch
  }

  return async (handle) => {
    if (open === undefined || open.handles.size >= most) open = begin()
    const { handles, rows } = open
    handles.add(handle)
    return (await rows).get(handle)
  }
}
