/** Chance that repeats itself: the same seed, the same numbers. */
export interface Chance {
  /** A whole number from 0 to `limit` - 1. */
  below(limit: number): number
}

/** Numbers from a seed (mulberry32: a counter, mixed). */
export function chanceOf(seed: number): Chance {
  let state = seed >>> 0
  return {
    below(limit) {
      state = (state + 0x6d2b79f5) >>> 0
      let mixed = Math.imul(state ^ (state >>> 15), state | 1)
      mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
      return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * limit)
    },
  }
}
