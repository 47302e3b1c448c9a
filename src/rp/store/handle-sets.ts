/** Names of RP sessions, each with the handles that carry it, in memory. */
export type HandleSets = Map<string, Set<string>>

/** Adds a handle to the set of a name. */
export function add(index: HandleSets, key: string, handle: string): void {
  const members = index.get(key) ?? new Set()
  index.set(key, members.add(handle))
}

/** Takes it out again. */
export function drop(index: HandleSets, key: string, handle: string): void {
  const members = index.get(key)
  members?.delete(handle)
  if (members?.size === 0) index.delete(key)
}
