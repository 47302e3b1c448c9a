import type { RpRequest } from './http.ts'
import type { ResolvedAppOptions } from './options.ts'

/** Where a relying party or a logout receiver answers. */
export type Place = Pick<ResolvedAppOptions, 'origin' | 'base'>

/** How many relying parties and logout receivers of this process answer below each path, by origin of their app. */
const places = new Map<string, Map<string, number>>()

/** Says that somebody answers below `base`, until the function it returns is called. */
export function takePlace({ origin, base }: Place): () => void {
  const bases = places.get(origin) ?? new Map<string, number>()
  places.set(origin, bases.set(base, (bases.get(base) ?? 0) + 1))
  let isTaken = true
  return () => {
    if (!isTaken) return
    isTaken = false
    const left = (bases.get(base) ?? 0) - 1
    if (left > 0) bases.set(base, left)
    else bases.delete(base)
    if (bases.size === 0) places.delete(origin)
  }
}

/** Says whether a longer prefix below `base` is another's, and this path with it. */
export function isOfAnother({ origin, base }: Place, path: string): boolean {
  const others = [...(places.get(origin)?.keys() ?? [])]
  return others.some((other) => isBelow(other, base) && other !== base && isBelow(path, other))
}

/** Says whether a path is `base` or below it. */
export function isBelow(path: string, base: string): boolean {
  return path === base || path.startsWith(`${base}/`)
}

/**
 * Says whether a request is for a route of ours, of whichever relying party of this app: an adapter that stands in front of
 * another's sees these too, and nobody uses the app by them (T11).
 */
export function isOfOurs({ origin }: Pick<Place, 'origin'>, { url }: Partial<Pick<RpRequest, 'url'>>): boolean {
  const path = url?.split(/[?#]/, 1)[0]
  if (path === undefined) return false
  return [...(places.get(origin)?.keys() ?? [])].some((base) => isBelow(path, base))
}
