import { isPositive } from './positive.ts'

/**
 * The option `sessionLifetime` of the `Provider` and of `openSecrets`: seconds from a login to the end of its OP session, however
 * busy it is. Default 2,592,000 (30 days).
 *
 * @throws TypeError naming the option.
 */
export function resolveSessionLifetime(seconds: number = 2_592_000): number {
  if (!isPositive(seconds)) throw new TypeError('sessionLifetime must be a positive number of seconds')
  return seconds
}

/** Of each key of `openSecrets`: the lifetime of the OP sessions whose hints it verifies once it is retired. */
const keptFor: WeakMap<object, number> = new WeakMap()

/** Notes what `openSecrets` was told, since the `Provider` that gets the keys must be told the same. */
export function noteSessionLifetime(keys: readonly object[], seconds: number): void {
  for (const key of keys) keptFor.set(key, seconds)
}

/**
 * Holds the `Provider`'s OP sessions against its keys: hints are good for as long as an OP session lives (T26).
 *
 * @throws TypeError when a retired key goes while OP sessions live that it has signed for.
 */
export function checkSessionLifetime(keys: readonly object[] = [], seconds: number): void {
  const kept = Math.min(...keys.map((key) => keptFor.get(key) ?? Number.POSITIVE_INFINITY))
  if (seconds <= kept) return
  throw new TypeError(
    `sessionLifetime is ${seconds} seconds here and ${kept} in openSecrets: give openSecrets the same, or hints signed before a rotation are refused`,
  )
}
