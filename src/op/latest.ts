/** What was noted last, by name. */
export interface Latest<Value> {
  get(name: string): Value | undefined
  /** Notes it as the latest. */
  set(name: string, value: Value): void
  delete(name: string): void
}

/** Names that are kept: some megabytes, where anybody may register a client. */
export const mostKept = 10_000

/**
 * Keeps what it is cheap to find out once more: where more than `most` names come, those go that were noted longest ago. A worker lives
 * for months, and clients that register themselves come and go.
 */
export function createLatest<Value>(most: number = mostKept): Latest<Value> {
  const kept = new Map<string, Value>()
  return {
    get: (name) => kept.get(name),
    set(name, value) {
      kept.delete(name) // it goes to the end
      kept.set(name, value)
      if (kept.size > most) for (const oldest of kept.keys()) return void kept.delete(oldest)
    },
    delete: (name) => void kept.delete(name),
  }
}
